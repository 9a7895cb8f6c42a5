"""Feed, governor, snapshots, figures and back-fill on virtual time, against the simulated venue's desk and weight."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate

from mdfeed import venues
from mdfeed.backfill import Backfill
from mdfeed.exchange.faults import Answer
from mdfeed.exchange.rest import Desk
from mdfeed.exchange.weight import Scales
from mdfeed.figures import Figures
from mdfeed.governor import Governor
from mdfeed.rest import Rest
from mdfeed.snapshots import Snapshots
from tests.faults.clock import VirtualLoop
from tests.virtual import MS, World

PEER = "192.0.2.1"


class DeskRest(Rest):
    """Rest with the venue's desk in the place of its sockets; `refuse(path)` may answer in its stead."""

    def __init__(self, world: VenueWorld, governor: Governor) -> None:
        super().__init__("http://venue.invalid", governor=governor, now_ns=world.clock)
        self._world = world

    async def _exchange(self, path: str) -> tuple[int, dict[str, str], bytes]:
        world = self._world
        await asyncio.sleep(world.rest_latency_ns / 2e9)
        answer = world.refuse(path) or world.desk.answer("GET", path, PEER)
        world.asked[path.partition("?")[0].rpartition("/")[2]] += 1
        world.statuses[answer.status] += 1
        await asyncio.sleep(world.rest_latency_ns / 2e9)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        headers["date"] = formatdate(world.clock() / 1e9, usegmt=True)
        return answer.status, headers, answer.body


class VenueWorld(World):
    """World whose snapshots are fetched by mdfeed's own Snapshots, with Figures and Backfill beside it."""

    def __init__(self, *args: object, state_file=None, weight_used: int = 0, **options: object) -> None:
        self.loop = VirtualLoop()
        self.refuse: Callable[[str], Answer | None] = lambda path: None
        self.asked: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.is_fetching = False
        self.scales = Scales()
        self.scales.charge(PEER, weight_used, self.now_ns // MS)
        self.desk = Desk(self.market, self.clock, self.scales)
        self.start_ns = self.now_ns
        venue = venues.get("binance-usdm")
        self.governor = Governor(now_ns=self.clock, state_file=state_file)
        self.rest = DeskRest(self, self.governor)
        self.followed: list[tuple[str, ...]] = []
        self.snapshots = Snapshots(
            self.feed, venue, self.rest, flush=int, now_ns=self.clock, follow_partials=self.followed.append
        )
        self.figures = Figures(self.feed, venue, self.rest)
        self.backfill = Backfill(self.feed, venue, self.rest, flush=int, now_ns=self.clock, on_lost=self.figures.refine)
        self.tasks = [self.loop.create_task(part.run()) for part in (self.snapshots, self.figures, self.backfill)]

    def clock(self) -> int:
        return getattr(self, "start_ns", self.now_ns) + round(self.loop.now_s * 10**9)

    def _work(self, now_ns: int) -> None:
        super()._work(now_ns)
        self.loop.advance((now_ns - self.start_ns) / 1e9)
        for task in self.tasks:
            if task.done():
                task.result()

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        self.loop.close()
