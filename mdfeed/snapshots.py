"""Fetches the snapshots that the heart wants, in the heart's order, one a symbol at a time, and hands them back.

Answers for when a request leaves, for how many at once, and for pausing while the host is in trouble. Knows neither
why a snapshot is wanted nor what its body means; the weight is the governor's (rest.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from mdfeed.errors import DecodeError, VenueError
from mdfeed.refusals import Backoff, of_exception
from mdfeed.rest import Request, Rest

log = logging.getLogger(__name__)

# The host's trouble, not the symbol's: asking for another symbol would meet it again.
HOST_TROUBLE = frozenset({"timeout", "dns", "tls", "refused", "reset", "unreachable", "server_error", "handshake"})


class Wanted(Protocol):
    """A snapshot the heart waits for."""

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


class Snapshots:
    """`run` serves the heart's wishes until cancelled. `flush` is called after each outcome: it may have published.

    `outcomes` counts what the heart said to bodies and the tokens of failures. The heart is asked every `poll_s`, and
    at once after `kick`.
    """

    def __init__(
        self,
        feed: Heart,
        venue: Dialect,
        rest: Rest,
        *,
        flush: Callable[[], object],
        now_ns: Callable[[], int] = time.time_ns,
        concurrency: int = 4,
        poll_s: float = 0.1,
        longest_pause_s: float = 5.0,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._feed = feed
        self._venue = venue
        self._rest = rest
        self._flush = flush
        self._now_ns = now_ns
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._backoff = Backoff(min(0.25, longest_pause_s), longest_pause_s)
        self._paused_until_s = 0.0  # loop time
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._kicked = asyncio.Event()

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
        free = self._concurrency - len(self._under_way)
        if free <= 0 or loop.time() < self._paused_until_s or now_ns < self._rest.blocked_until:
            return
        for wanted in self._feed.wanted(now_ns):
            if wanted.symbol not in self._under_way and free > 0:
                free -= 1
                self._under_way[wanted.symbol] = loop.create_task(self._serve(wanted.symbol, wanted.limit))

    async def _serve(self, symbol: str, limit: int) -> None:
        try:
            request = self._venue.depth_request(symbol, limit)
            body = await self._rest.fetch(
                request, on_leave=lambda: self._feed.snapshot_requested(symbol, self._now_ns())
            )
            outcome = str(self._feed.snapshot(symbol, "rest", limit, body, self._now_ns()))
            self._backoff.reset()
        except DecodeError as exc:  # the heart has noted it as a failure
            outcome = "not_a_snapshot"
            log.warning("%s", exc)
        except VenueError as exc:
            outcome = of_exception(exc.__cause__ or exc).reason
            self._feed.snapshot_failed(symbol, outcome, self._now_ns())
            self._pause(outcome)
        except Exception:
            log.exception("snapshot of %s: a fault of ours", symbol)
            outcome = "error"
            self._feed.snapshot_failed(symbol, outcome, self._now_ns())
        finally:
            del self._under_way[symbol]
        self.outcomes[outcome] += 1
        try:
            self._flush()
        except Exception:
            log.exception("snapshot of %s: the sinks could not be flushed", symbol)
        self.kick()

    def _pause(self, reason: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if reason in HOST_TROUBLE and now_s >= self._paused_until_s:  # requests that fail together count once
            self._paused_until_s = now_s + self._backoff.wait_s()
