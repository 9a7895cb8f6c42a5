"""How far our clock is from the venue's, so that delays are delays.

Every event time bounds the difference from above: no frame arrives before it was sent, so our clock is ahead by no
more than the least (receipt less event time) of the last minute. A REST time request bounds it from both sides. The
estimate is the middle of what both leave; event times win where they contradict, for delays are measured on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from mdfeed import _clock
from mdfeed.errors import VenueError
from mdfeed.refusals import Fold
from mdfeed.rest import Request, Rest

log = logging.getLogger(__name__)

HEARD_S = 60.0  # clocks drift: older minima say little
ASKED_KEPT = 10
LOOK_S = 1.0
ASK_S = 60.0
FIRST_ASKS, FIRST_ASK_S = 3, 5.0  # the first answer pays for the connection's set-up
TELL_NS = 1_000_000_000  # a wall clock or venue that is off by so much is worth a log line
MS = 1_000_000


class ClockOffset:
    """How far our clock is ahead of the venue's, in ns. Times `at_s` are of any monotonic clock."""

    def __init__(self) -> None:
        self._heard: deque[tuple[float, int]] = deque()
        self._asked: deque[tuple[int, int]] = deque(maxlen=ASKED_KEPT)  # (least, most) that we are ahead

    def heard(self, at_s: float, least_delay_ns: int) -> None:
        """The least (receipt less event time) of the frames since the last call."""
        # Rising minima only: a later smaller one makes an earlier larger one needless.
        while self._heard and self._heard[-1][1] >= least_delay_ns:
            self._heard.pop()
        self._heard.append((at_s, least_delay_ns))
        while self._heard[0][0] < at_s - HEARD_S:
            self._heard.popleft()

    def asked(self, sent_ns: int, venue_ns: int, received_ns: int, unit_ns: int = MS) -> None:
        """A time request left and was answered by our clock; `venue_ns` is cut to `unit_ns`."""
        bounds = (sent_ns - venue_ns - unit_ns, received_ns - venue_ns)
        # What contradicts the newest answer is of a clock that has been set since.
        kept = [old for old in self._asked if old[0] <= bounds[1] and bounds[0] <= old[1]]
        self._asked.clear()
        self._asked.extend([*kept, bounds])

    def shift(self, ns: int) -> None:
        """Our own clock has been corrected by so much since the last call."""
        if ns:
            self._heard = deque((at_s, delay_ns + ns) for at_s, delay_ns in self._heard)
            self._asked = deque(((low + ns, high + ns) for low, high in self._asked), maxlen=ASKED_KEPT)

    @property
    def ahead_ns(self) -> int:
        """The estimate. Before REST has answered: 0, or what impossible delays show at least."""
        most = self._heard[0][1] if self._heard else None
        if not self._asked:
            return min(0, most) if most is not None else 0
        low = max(low for low, _ in self._asked)
        high = min(high for _, high in self._asked)
        if low > high:
            low, high = self._asked[-1]
        if most is not None and most < low:
            return most
        return (low + (high if most is None else min(high, most))) // 2


class Heart(Protocol):
    """What of the Feed is needed here."""

    clock_offset_ns: int

    def take_least_delay(self) -> int | None: ...


class Dialect(Protocol):
    """What of a venue is needed here."""

    def time_request(self) -> Request: ...
    def parse_time(self, body: bytes, /) -> int: ...


class ClockWatch:
    """`run` keeps the feed's clock offset right until cancelled, and our own clock near the wall clock."""

    def __init__(self, feed: Heart, venue: Dialect, rest: Rest) -> None:
        self.offset = ClockOffset()
        self._feed = feed
        self._venue = venue
        self._rest = rest
        self._ahead_ns = _clock.ahead_of_steady_ns()
        self._sent_ns = 0
        self._fold = Fold()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask(), name="venue's time")
            while True:
                self.look(_clock.follow())
                await asyncio.sleep(LOOK_S)

    def look(self, wall_ahead_ns: int) -> None:
        """Take what the frames have shown since the last look; `wall_ahead_ns` is what our clock is behind the wall."""
        ahead_ns = _clock.ahead_of_steady_ns()
        self.offset.shift(ahead_ns - self._ahead_ns)
        self._ahead_ns = ahead_ns
        least_ns = self._feed.take_least_delay()
        if least_ns is not None:
            self.offset.heard(asyncio.get_running_loop().time(), least_ns)
        self._feed.clock_offset_ns = -self.offset.ahead_ns
        if abs(wall_ahead_ns) >= TELL_NS:
            held = self._fold.let_through("wall")
            if held is not None:
                log.warning("the wall clock was set by %.3f s: it is followed slowly%s", wall_ahead_ns / 1e9, held)

    def _note_leave(self) -> None:
        self._sent_ns = _clock.now_ns()

    async def _ask(self) -> None:
        asked = 0
        while True:
            try:
                body = await self._rest.fetch(self._venue.time_request(), on_leave=self._note_leave)
                self.offset.asked(self._sent_ns, self._venue.parse_time(body), _clock.now_ns())
                asked += 1
            except VenueError as error:
                log.debug("the venue's time: %s", error)
            await asyncio.sleep(FIRST_ASK_S if asked < FIRST_ASKS else ASK_S)
