"""The whole way on virtual time: simulated venue with faults, lines that reconnect, the real governor, the real heart.

Lines are modelled (their sockets are what the socket form tests); REST is mdfeed's own Rest and Snapshots, running on
a virtual clock, with the venue's answers in the place of its sockets.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from email.utils import formatdate

from mdfeed import venues
from mdfeed._clock import SlewedClock
from mdfeed.backfill import Backfill
from mdfeed.exchange.faults import Asked
from mdfeed.exchange.market import START_NS
from mdfeed.exchange.profiles import Profile, profile_for
from mdfeed.exchange.rest import Desk
from mdfeed.exchange.weight import Scales
from mdfeed.refusals import Backoff, of_status
from mdfeed.rest import Rest
from mdfeed.session import Patience
from mdfeed.snapshots import Snapshots
from tests.faults.clock import VirtualLoop
from tests.faults.stir import Stirred
from tests.virtual import MS, S, World

PEER = "192.0.2.1"
DEAF_NS = round(Patience().deaf_s * S)


class VirtualRest(Rest):
    """Rest with the venue's desk in the place of its sockets."""

    def __init__(self, world: FaultWorld) -> None:
        super().__init__("http://venue.invalid", now_ns=lambda: world.ours(world.now_ns))
        self._world = world

    async def _exchange(self, path: str) -> tuple[int, dict[str, str], bytes]:
        world = self._world
        asked = Asked("GET", path, PEER, False)
        world.note_request(path)
        async with asyncio.timeout(self._timeout_s):
            await asyncio.sleep(world.rest_latency_ns / 2e9)
            answer = world.seam.asked(asked)
            if answer is None:
                answer = world.seam.answered(asked, world.desk.answer("GET", path, PEER))
            await asyncio.sleep(world.rest_latency_ns / 2e9 + answer.delay_s)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        headers["date"] = formatdate(world.now_ns / 1e9, usegmt=True)
        return answer.status, headers, answer.body


class FaultWorld(World):
    """`script` holds the faults. Everything that is published is compared; `comparer` says what was."""

    def __init__(self, symbols: Sequence[str], *, lines: int = 1, seed: int = 1, **options: object) -> None:
        self.script = Stirred()
        self.connects: list[tuple[int, int]] = []  # (time, line) of accepted connections
        self.requests: dict[str, list[int]] = defaultdict(list)  # symbol -> times of its snapshot requests
        self.wall_ahead_ns = 0  # of this machine's clock against the venue's: it may be set at any moment
        self._clock = SlewedClock(START_NS, START_NS)
        self._next_look_ns = 0
        self._unheard: dict[int, int] = {}  # line -> when it is given up, unless a frame comes
        self._draw = random.Random(f"{seed}:lines")
        random.seed(seed)  # what the product draws, its pauses, comes again with the seed
        profiles = [busy(symbol) for symbol in symbols]
        super().__init__(symbols, lines=lines, seed=seed, seam=self.script, profiles=profiles, **options)
        self.trade_ids = {}
        self.step_ns = 20 * MS
        self._line_count = lines
        self.loop = VirtualLoop()
        self.desk = Desk(self.market, lambda: self.now_ns, Scales())
        self.rest = VirtualRest(self)
        venue = venues.get("binance-usdm")
        self.snapshots = Snapshots(
            self.feed, venue, self.rest, flush=lambda: None, now_ns=lambda: self.ours(self.now_ns)
        )
        self.backfill = Backfill(self.feed, venue, self.rest, flush=lambda: None, now_ns=lambda: self.ours(self.now_ns))
        self.serving = [self.loop.create_task(part.run()) for part in (self.snapshots, self.backfill)]

    def end(self) -> None:
        """Nothing of the event loop stays behind."""
        for task in self.serving:
            task.cancel()
        self.loop.advance(self.loop.time() + 0.001)
        self.loop.close()

    def ours(self, time_ns: int) -> int:
        """What the Service hands in: time that follows this machine's clock, on a steady one."""
        return self._clock.now_ns(time_ns)

    # ---- lines that come back

    def open(self, number: int) -> int:
        self.connects.append((self.now_ns, number))
        self._unheard[number] = self.now_ns + DEAF_NS
        return super().open(number)

    def lose(self, number: int) -> None:
        super().lose(number)
        self._come_back(number, Backoff(1.0, 60.0, self._draw.random))

    def _come_back(self, number: int, backoff: Backoff, wait_s: float | None = None) -> None:
        wait_s = backoff.wait_s() if wait_s is None else wait_s
        self.at(self.now_ns + round(wait_s * S), lambda _: self._try(number, backoff))

    def _try(self, number: int, backoff: Backoff) -> None:
        answer = self.seam.asked(Asked("GET", f"/public/stream?line={number}", PEER, True))
        if answer is None:
            self.lines[number] = self.open(number)
        else:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            self._come_back(number, backoff, backoff.wait_s(of_status(answer.status, headers, answer.body)))

    def _deliver(self, number: int, line: int, frame: bytes, time_ns: int) -> None:
        self._unheard.pop(number, None)
        super()._deliver(number, line, frame, time_ns)

    # ---- the governor's turn

    def note_request(self, path: str) -> None:
        if "/depth?" in path:
            self.requests[path.partition("symbol=")[2].partition("&")[0]].append(self.now_ns)

    def _work(self, now_ns: int) -> None:
        if now_ns >= self._next_tick_ns:
            self._next_tick_ns = now_ns + 250 * MS
            self.feed.tick(self.ours(now_ns))
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + S
            self._clock.follow(now_ns + self.wall_ahead_ns, now_ns)
            for number in [number for number, until_ns in self._unheard.items() if now_ns >= until_ns]:
                del self._unheard[number]
                if number in self.lines:
                    self.lose(number)
        self.loop.advance((now_ns - START_NS) / 1e9)
        for task in self.serving:
            if task.done():
                task.result()

    # ---- what was published

    def check(self) -> None:
        comparer = self.comparer
        for kind, symbol, payload in self.collector.take():
            assert comparer.take(kind, symbol, payload), comparer.wrong

    def trades_counted_missing(self) -> int:
        """What the heart says of it."""
        return sum(track.agg_trades.missing + track.agg_trades.lost for track in self.feed.tracks.values())

    def unproved(self) -> list[str]:
        return [symbol for symbol, track in self.feed.tracks.items() if track.state != "PROVED"]

    def missing_lines(self) -> int:
        return self._line_count - len(self.lines)

    def frames(self) -> int:
        return sum(self.feed.frames_by_kind.values())


def busy(symbol: str) -> Profile:
    """An instrument whose top changes several times a second at modest rates: a proof needs a bookTicker."""
    return replace(profile_for(symbol), reach_ticks=1.5)
