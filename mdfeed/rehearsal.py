"""Keeps near what a frame needs while the venue says little: made-up frames, to a heart of their own.

At a slow pace (tens of frames a second) the processor forgets the feed between two frames, and the next one waits for
memory: several times its cost. Made-up frames keep the code of decoder, book, proof and encoder warm. The real heart
and the sinks are never touched, and while real frames come often enough nothing is done.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from mdfeed._clock import now_ns, open_timer
from mdfeed._encode import OUTPUTS
from mdfeed._feed import Feed
from mdfeed._resp import RespOutbox
from mdfeed.venues import Rehearsing, Venue

US, MS = 1_000, 1_000_000
COARSE_S = 0.001  # the shortest sleep of an event loop


class Counted(Protocol):
    """Tells whether the real heart was at work: Feed.processing does."""

    @property
    def count(self) -> int: ...


class Rehearsal:
    """`run` plays a frame of `play` every `period_us` in which `real` has counted none, until cancelled.

    `depth` levels a side are published as `outputs`, to nobody. `frames` counts what was played.
    """

    def __init__(
        self,
        venue: Venue,
        play: Rehearsing,
        depth: int,
        real: Counted,
        period_us: int,
        *,
        outputs: Iterable[str] = OUTPUTS,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self.frames = 0
        self.feed = Feed(venue, depth=depth)
        self._play = play
        self._real = real
        self._seen = real.count
        self._period_us = period_us
        self._clock = clock
        self._outbox = RespOutbox(self.feed.instruments, epoch=1, outputs=outputs)
        self.feed.attach(self._outbox)
        now = clock()
        self.feed.add(play.symbol)
        self._line = self.feed.open_line("rehearsal", play.streams, now)
        self.feed.snapshot_requested(play.symbol, now)
        self.feed.snapshot(play.symbol, "rest", 0, play.snapshot(), now)

    def step(self) -> None:
        """One frame, unless the real heart was at work since the last step."""
        if self._real.count != self._seen:
            self._seen = self._real.count
            return
        now = self._clock()
        self.feed.receive(self._line, self._play.frame(now // MS), now)
        self._outbox.take()
        self.feed.publisher.events.clear()
        self.frames += 1

    async def run(self) -> None:
        timer = open_timer(self._period_us * US)
        if timer < 0:
            while True:
                await asyncio.sleep(max(self._period_us / 1e6, COARSE_S))
                self.step()
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(timer, self._on_timer, timer)
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(timer)
            os.close(timer)

    def _on_timer(self, timer: int) -> None:
        with suppress(BlockingIOError):
            os.read(timer, 8)
        self.step()
