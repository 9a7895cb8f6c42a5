"""Fetches the snapshots that the heart wants, in the heart's order, one a symbol at a time, and hands them back.

Answers for when a request leaves, for how many at once, and for the ladder of sources: REST, then the WS-API, then the
partial depth streams, whichever is highest and not in trouble. Knows neither why a snapshot is wanted nor what its body
means; the weight is the governor's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from mdfeed.errors import DecodeError, VenueError
from mdfeed.governor import NO_ROOM, Purpose
from mdfeed.refusals import Backoff, Refusal, of_exception
from mdfeed.rest import Request, Rest
from mdfeed.ws_api import WsApi

log = logging.getLogger(__name__)

# The host's trouble, not the symbol's: asking it for another symbol would meet the same again.
HOST_TROUBLE = frozenset(
    {
        *("timeout", "dns", "tls", "refused", "reset", "unreachable", "server_error", "handshake"),
        *("geo_blocked", "forbidden"),
    }
)
# What the heart says to a body, or has noted itself.
JUDGED = frozenset({"joined", "gap", "shadow", "swapped", "quiet", "resync", "old", "not_a_snapshot"})
LASTING = frozenset({"geo_blocked", "forbidden"})
# By the priority of what the heart wants (Seat.want).
PURPOSES = (
    *(Purpose.RESYNC, Purpose.FIRST, Purpose.FIRST, Purpose.CHECK, Purpose.FULL, Purpose.FULL),
    *(Purpose.SHADOW, Purpose.SHADOW),
)
UNSERVED_S = 2.0  # so long without any source, and the partial depth streams are asked for
CALM_S = 5.0  # so long with every book full, and they are not needed any more
LAST_PAUSE_S = 60.0  # between two attempts at a host that refuses us, at most


class Wanted(Protocol):
    """A snapshot the heart waits for."""

    @property
    def priority(self) -> int: ...
    @property
    def symbol(self) -> str: ...
    @property
    def limit(self) -> int: ...


class Heart(Protocol):
    """What of the Feed is needed here."""

    def wanted(self, now_ns: int, /) -> Iterable[Wanted]: ...
    def snapshot_requested(self, symbol: str, now_ns: int, /) -> object: ...
    def snapshot(self, symbol: str, source: str, limit: int, body: bytes, recv_ns: int, /) -> str: ...
    def snapshot_failed(self, symbol: str, reason: str, now_ns: int, /) -> object: ...


class Dialect(Protocol):
    """What of a venue is needed here."""

    def depth_request(self, symbol: str, limit: int, /) -> Request: ...


class Rung:
    """One source of the ladder, and how long it is left alone."""

    def __init__(self, name: str, longest_pause_s: float) -> None:
        self.name = name
        self.trouble = ""  # token of the newest refusal, while it lasts
        self.outcomes: Counter[str] = Counter()
        self._backoff = Backoff(min(0.25, longest_pause_s), longest_pause_s)
        self._lasting = Backoff(1.0, min(LAST_PAUSE_S, 12 * longest_pause_s))
        self._paused_until_s = 0.0  # loop time

    def is_usable(self, now_s: float) -> bool:
        return now_s >= self._paused_until_s

    def served(self) -> None:
        self._backoff.reset()
        self._lasting.reset()
        self.trouble = ""

    def failed(self, reason: str, now_s: float) -> None:
        self.trouble = reason
        if now_s >= self._paused_until_s:  # requests that fail together count once
            refusal = Refusal(reason, "", is_lasting=reason in LASTING)
            self._paused_until_s = now_s + (self._lasting if refusal.is_lasting else self._backoff).wait_s(refusal)


class Snapshots:
    """`run` serves the heart's wishes until cancelled. `flush` is called after each outcome: it may have published.

    `outcomes` counts what the heart said to bodies and the tokens of failures; each of `rungs` has its own. The heart
    is asked every `poll_s`, and at once after `kick`. `follow_partials` is called with all symbols that should be
    served by partial depth streams, each time that they change.
    """

    def __init__(
        self,
        feed: Heart,
        venue: Dialect,
        rest: Rest,
        *,
        flush: Callable[[], object],
        ws_api: WsApi | None = None,
        follow_partials: Callable[[Sequence[str]], object] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        concurrency: int = 4,
        poll_s: float = 0.1,
        longest_pause_s: float = 5.0,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.rungs = [Rung("rest", longest_pause_s)]
        if ws_api is not None:
            self.rungs.append(Rung("ws_api", longest_pause_s))
        self.partials: tuple[str, ...] = ()  # symbols that partial depth streams are asked for
        self._feed = feed
        self._venue = venue
        self._rest = rest
        self._ws_api = ws_api
        self._flush = flush
        self._follow_partials = follow_partials
        self._now_ns = now_ns
        self._concurrency = concurrency
        self._reserve = concurrency // 2  # places that snapshots of good books leave to those of others
        self._poll_s = poll_s
        self._unserved_since_s: float | None = None
        self._waiting_at_s = 0.0  # loop time at which a book was last without its full snapshot
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._weights: dict[int, int] = {}  # by limit
        self._kicked = asyncio.Event()

    @property
    def trouble(self) -> str:
        """Which sources are in trouble and what serves instead, for people; "" when the first one serves."""
        blocked_s = self._rest.governor.blocked_s
        if not self.rungs[0].trouble and blocked_s <= 0:
            return ""
        if blocked_s > 0:
            return f"snapshots: no request for {blocked_s:.0f} s, the venue forbids it" + (
                f", depth20 asked for {len(self.partials)} symbols" if self.partials else ""
            )
        said = [f"{rung.name}: {rung.trouble or 'serves'}" for rung in self.rungs]
        if self.partials:
            said.append(f"depth20: asked for {len(self.partials)} symbols")
        return "snapshots by " + ", ".join(said)

    def kick(self) -> None:
        """Something may be wanted: ask the heart now instead of at the next turn."""
        self._kicked.set()

    async def run(self) -> None:
        """Serves until cancelled. No far side's behaviour ends it."""
        try:
            while True:
                self._kicked.clear()
                self._start_wanted()
                try:
                    async with asyncio.timeout(self._poll_s):
                        await self._kicked.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_wanted(self) -> None:
        loop, now_ns = asyncio.get_running_loop(), self._now_ns()
        rungs = self._usable(loop.time())
        self._judge_partials(rungs, loop.time(), now_ns)
        free = self._concurrency - len(self._under_way)
        if free <= 0 or not rungs:
            return
        governor, planned = self._rest.governor, 0
        for wanted in self._feed.wanted(now_ns):
            weight, purpose = self._weight(wanted), PURPOSES[wanted.priority]
            if free <= (self._reserve if purpose is Purpose.SHADOW else 0):
                break
            # Who has no room is not started: it would wait for the venue's next minute in the place of the urgent.
            if wanted.symbol not in self._under_way and governor.has_room(planned + weight, purpose):
                free -= 1
                planned += weight
                self._under_way[wanted.symbol] = loop.create_task(self._serve(wanted, rungs))

    def _weight(self, wanted: Wanted) -> int:
        weight = self._weights.get(wanted.limit)
        if weight is None:
            try:
                weight = self._venue.depth_request(wanted.symbol, wanted.limit).weight
            except Exception:  # a fault of ours, which _serve will meet and say
                return 0
            self._weights[wanted.limit] = weight
        return weight

    def _usable(self, now_s: float) -> list[Rung]:
        """Those that are not in trouble, the highest first; none while the venue forbids requests."""
        if self._now_ns() < self._rest.governor.blocked_until:
            return []
        is_refused = self._rest.refusal is not None  # its own wait, which ends by itself
        return [rung for rung in self.rungs if rung.is_usable(now_s) and not (is_refused and rung.name == "rest")]

    async def _serve(self, wanted: Wanted, rungs: Sequence[Rung]) -> None:
        outcome = ""
        try:
            for rung in rungs:
                said = await self._try(wanted, rung)
                if said == NO_ROOM.reason:  # others were faster: it will be asked for again
                    break
                outcome = said
                rung.outcomes[outcome] += 1
                if outcome not in HOST_TROUBLE:
                    break
                rung.failed(outcome, asyncio.get_running_loop().time())
            if not outcome:
                return
            if outcome not in JUDGED:
                self._feed.snapshot_failed(wanted.symbol, outcome, self._now_ns())
        finally:
            del self._under_way[wanted.symbol]
        self.outcomes[outcome] += 1
        try:
            self._flush()
        except Exception:
            log.exception("snapshot of %s: the sinks could not be flushed", wanted.symbol)
        self.kick()

    async def _try(self, wanted: Wanted, rung: Rung) -> str:
        """What the heart said to the body, or the token of the failure, which the heart has not been told."""
        try:
            body = await self._fetch(wanted, rung)
            rung.served()
            return str(self._feed.snapshot(wanted.symbol, rung.name, wanted.limit, body, self._now_ns()))
        except DecodeError as exc:  # the heart has noted it as a failure
            log.warning("%s", exc)
            return "not_a_snapshot"
        except VenueError as exc:
            return of_exception(exc.__cause__ or exc).reason
        except Exception:
            log.exception("snapshot of %s: a fault of ours", wanted.symbol)
            return "error"

    async def _fetch(self, wanted: Wanted, rung: Rung) -> bytes:
        purpose = PURPOSES[wanted.priority]
        request = self._venue.depth_request(wanted.symbol, wanted.limit)

        def leave() -> None:
            self._feed.snapshot_requested(wanted.symbol, self._now_ns())

        if rung.name == "rest" or self._ws_api is None:
            return await self._rest.fetch(request, purpose, on_leave=leave, waits=False)
        return await self._ws_api.depth(wanted.symbol, wanted.limit, request.weight, purpose, on_leave=leave)

    def _judge_partials(self, rungs: Sequence[Rung], now_s: float, now_ns: int) -> None:
        """Ask for partial depth where nothing else has come for a while, and end that when something else serves."""
        if self._follow_partials is None:
            return
        if any(not rung.trouble for rung in rungs):
            self._unserved_since_s = None
            is_waiting = (
                not self.partials or self._under_way or any(one.priority <= 5 for one in self._feed.wanted(now_ns))
            )
            if is_waiting:
                self._waiting_at_s = now_s
            elif now_s - self._waiting_at_s >= CALM_S:
                self._ask_partials(())
            return
        if self._unserved_since_s is None:
            self._unserved_since_s = now_s
        # A partial depth stream needs a connection of its own, which a ban forbids as well.
        if now_s - self._unserved_since_s >= UNSERVED_S and not self._rest.governor.no_dial_s:
            unserved = {one.symbol for one in self._feed.wanted(now_ns) if one.priority <= 2}
            if not unserved.issubset(self.partials):
                self._ask_partials(tuple(sorted(unserved.union(self.partials))))

    def _ask_partials(self, symbols: tuple[str, ...]) -> None:
        self.partials = symbols
        if symbols:
            log.warning("partial depth for %d symbols: %s", len(symbols), self.trouble)
        else:
            log.info("no partial depth any more: snapshots come again")
        if self._follow_partials is not None:
            self._follow_partials(symbols)
