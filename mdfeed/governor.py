"""The venue's request weight, shared by all who ask: who may send now, who waits, and in which order.

Answers for never sending while the venue forbids it (429, 418) nor above a share of its weight, for letting urgent
requests pass the others, and for remembering both over a restart. Fed by what the venue says (headers, Date). Knows no
request and no transport.
"""

from __future__ import annotations

import asyncio
import bisect
import heapq
import itertools
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from pathlib import Path

from mdfeed.kept import Kept, WeightFile
from mdfeed.refusals import Refusal, Refused

log = logging.getLogger(__name__)

MINUTE_NS = 60_000_000_000
# The venue's Date has whole seconds. Late, its new minute costs us a second; early, its old one's figure would be
# taken for the new one's, and that costs a minute.
LATE_NS = 1_000_000_000
LOOK_S = 0.25


class Purpose(IntEnum):
    """What a request is for; the smaller passes the larger."""

    RESYNC = 0
    FIRST = 1
    OTHER = 2
    CHECK = 3
    TICKER = 4
    FULL = 5
    SHADOW = 6
    KLINES = 7
    BACKFILL = 8


# Share of the venue's weight up to which a purpose may fill a minute. The rest stays for the more urgent; a tenth is
# never used, for others may share the address.
SHARES = {
    Purpose.RESYNC: 0.9,
    Purpose.FIRST: 0.9,
    Purpose.OTHER: 0.85,
    Purpose.CHECK: 0.85,
    Purpose.TICKER: 0.8,
    Purpose.FULL: 0.7,
    Purpose.SHADOW: 0.6,
    Purpose.KLINES: 0.5,
    Purpose.BACKFILL: 0.5,
}
# Share that the shadows of good books may use by themselves.
SHADOW_SHARE = 1 / 3
MOST = max(SHARES.values())
NO_ROOM = Refusal("no_weight", "the minute's request weight is used up")


class Governor:
    """One venue's weight. Must be used inside one event loop.

    `weight_per_minute` is the venue's limit for this address; `share` of it is used at most. `blocked_until` is UTC ns,
    0 when nothing forbids requests. `state_file` keeps the minute's weight and a ban over a restart; None: they are not
    kept. `spent` counts weight by purpose since the start.
    """

    def __init__(
        self,
        weight_per_minute: int = 2400,
        *,
        share: float = MOST,
        now_ns: Callable[[], int] = time.time_ns,
        state_file: Path | None = None,
    ) -> None:
        self.blocked_until = 0
        self.spent: Counter[str] = Counter()
        self.limit = weight_per_minute
        self._usable = weight_per_minute * share / MOST  # what SHARES are shares of
        self._now_ns = now_ns
        self._file = WeightFile(state_file, now_ns) if state_file is not None else None
        self._block: Refusal | None = None
        self._no_dial_until = 0  # UTC ns
        self._minute = 0  # the venue's, of _said
        self._said = 0  # the venue's newest word on that minute
        self._unsaid = 0  # weight that has ended without its word, since the start
        self._known = 0  # of _unsaid, what does not count (any more): see _count
        self._shadows = 0  # of the minute's weight, by shadows
        self._in_flight = 0  # weight sent, not answered
        self._clock_ahead_ns = 0  # the venue's clock less ours, whole seconds by its Date header
        self._waiting: list[tuple[Purpose, int, int]] = []  # (purpose, serial, weight), the most urgent first
        self._serial = itertools.count()
        self._changed = asyncio.Event()
        self._saved: tuple[int, int, int] | None = None
        if self._file is not None:
            self._load(self._file)

    @property
    def weight_used(self) -> int:
        """Weight used in the venue's current minute, by its own word where it says one."""
        return self._said + self._unsaid - self._known if self._minute_now() == self._minute else 0

    @property
    def venue_ns(self) -> int:
        """The venue's clock, to a second or so: UTC ns by the Date of its newest answer."""
        return self._now_ns() + self._clock_ahead_ns

    def _minute_now(self) -> int:
        return (self.venue_ns - LATE_NS) // MINUTE_NS

    # ---- asking

    async def admit(self, weight: int, purpose: Purpose = Purpose.OTHER, *, waits: bool = True) -> int:
        """Return once `weight` may be sent, and count it as sent; `settle` must follow, with what this returns, or
        `release`.

        Raises Refused at once while the venue forbids requests, also for those who wait when it begins to; and when
        there is no room for it now and it does not wait.
        """
        if not waits and not self.has_room(weight, purpose):
            raise Refused(NO_ROOM)
        ticket = (purpose, next(self._serial), weight)
        bisect.insort(self._waiting, ticket)
        try:
            while True:
                self.check()
                first = next((one for one in self._waiting if self.has_room(one[2], one[0])), None)
                if first == ticket:
                    break
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):  # the venue's minute ends
                        await self._changed.wait()
        finally:
            self._waiting.remove(ticket)
            self._changed.set()
        self._in_flight += weight
        self.spent[purpose.name.lower()] += weight
        if purpose is Purpose.SHADOW:
            self._roll()
            self._shadows += weight
        return self._unsaid

    def has_room(self, weight: int, purpose: Purpose) -> bool:
        """Whether the minute has room for `weight` now, those who wait aside."""
        used = self.weight_used + self._in_flight
        shadows = self._shadows if self._minute_now() == self._minute else 0
        if purpose is Purpose.SHADOW and shadows and shadows + weight > self._usable * SHADOW_SHARE:
            return False
        return used + weight <= self._usable * SHARES[purpose] or used == 0

    def check(self) -> None:
        """Raise Refused while the venue forbids requests."""
        if self._block is not None:
            if self._now_ns() < self.blocked_until:
                raise Refused(self._block)
            self._block, self.blocked_until = None, 0

    # ---- what the venue says

    def release(self, weight: int) -> None:
        """What was admitted has not left."""
        self._in_flight -= weight
        self._changed.set()

    def settle(self, weight: int, said: int | None = None, date_s: float | None = None, *, since: int = 0) -> None:
        """A request of `weight` that has left has ended. `since` is what `admit` returned for it.

        `said` is what the venue says is used, `date_s` its clock, where it says so. Without an answer it counts too:
        it may have arrived.
        """
        self._in_flight -= weight
        if date_s is not None:
            ahead_s = date_s - self._now_ns() / 1e9
            self._clock_ahead_ns = int(ahead_s + 0.5) * 1_000_000_000
        self._roll()
        self._count(weight, said, since)
        self._changed.set()
        self._save()

    def _count(self, weight: int, said: int | None, since: int) -> None:
        if said is None:
            self._unsaid += weight
            return
        # Answers of one minute may overtake each other: the highest is the newest. What had ended without an answer
        # before this request left is in the venue's word, as far as it has arrived there.
        self._said = max(said, self._said)
        self._known = max(since, self._known)

    def _roll(self) -> None:
        minute = self._minute_now()
        if minute != self._minute:
            self._minute, self._said, self._shadows = minute, 0, 0
            self._known = self._unsaid

    @property
    def block(self) -> Refusal | None:
        """Why nothing may be asked, while it is so."""
        return self._block if self._now_ns() < self.blocked_until else None

    @property
    def blocked_s(self) -> float:
        """Seconds for which nothing may be asked, 0 when nothing forbids it."""
        return max(self.blocked_until - self._now_ns(), 0) / 1e9

    @property
    def no_dial_s(self) -> float:
        """Seconds for which no connection may be opened either: a ban, or upgrades were too many."""
        return max(self._no_dial_until - self._now_ns(), 0) / 1e9

    def stop(self, refusal: Refusal, *, is_of_upgrade: bool = False) -> None:
        """The venue forbids requests for `refusal.retry_after_s`: nobody sends until then. The longest word counts."""
        until = self._now_ns() + int((refusal.retry_after_s or 0.0) * 1e9)
        if until > self.blocked_until:
            self.blocked_until, self._block = until, refusal
        if is_of_upgrade or refusal.reason == "banned":
            self._no_dial_until = max(self._no_dial_until, until)
        self._changed.set()
        self._save()

    # ---- over a restart

    def _load(self, file: WeightFile) -> None:
        kept = file.load()
        if kept is None:
            return
        self._minute, self._said = kept.minute, kept.used
        self._heed(kept)
        if self._block is not None:
            log.warning("no request for %.0f s: %s (before the restart)", self.blocked_s, self._block.text)

    def _heed(self, kept: Kept) -> None:
        # A ban that was met before the restart, or by another daemon that asks from this address.
        if kept.blocked_until > self.blocked_until:
            self.blocked_until = kept.blocked_until
            self._block = Refusal(kept.reason, kept.text, self.blocked_s)
            if kept.reason == "banned":
                self._no_dial_until = kept.blocked_until
            self._changed.set()

    def _save(self) -> None:
        state = (self._minute, self._said + self._unsaid - self._known, self.blocked_until)
        if self._file is None or state == self._saved:
            return
        block = self._block or Refusal("", "")
        kept = self._file.save(Kept(*state, block.reason, block.text))
        if kept is not None:
            self._saved = state
            self._heed(kept)


class Places:
    """So many requests at once; a place that becomes free goes to the most urgent who waits."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[Purpose, int, asyncio.Future[None]]] = []  # a heap
        self._serial = itertools.count()

    @asynccontextmanager
    async def one(self, purpose: Purpose) -> AsyncIterator[None]:
        """A place, for as long as the context lasts."""
        if self._free > 0:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (purpose, next(self._serial), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # the place was given at that very moment
                    self._give()
                raise
        try:
            yield
        finally:
            self._give()

    def _give(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
