"""Lines, snapshots and heart between a simulated exchange and a collector: all that is published is compared."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

from lines import until

from mdfeed import venues
from mdfeed._clock import now_ns
from mdfeed._encode import Collector
from mdfeed._feed import Feed
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.lines import Lines
from mdfeed.rest import Rest
from mdfeed.session import Patience
from mdfeed.snapshots import Snapshots
from mdfeed.venues import Venue

CHANNELS = ("depth@100ms", "bookTicker", "aggTrade")


class Rig:
    """What a consumer and an operator see."""

    def __init__(self, exchange: SimulatedExchange, symbols: Sequence[str], venue: Venue) -> None:
        self.exchange = exchange
        self.venue = venue
        self.collector = Collector(outputs=("market_data", "orderbook", "trades", "state"))
        self.feed = Feed(venue, outboxes=[self.collector])
        for symbol in symbols:
            self.feed.add(symbol)
        self.lines: Lines
        self.books: Counter[str] = Counter()  # compared with the truth
        self.trade_ids: dict[str, list[int]] = {}
        self.states: list[tuple[str, str, str]] = []
        self.events: list[Any] = []

    def take(self) -> None:
        """Compares what was published since the last time with the exchange's truth."""
        self.events += self.feed.publisher.events
        for event in self.feed.publisher.events:
            if event.kind == "shutdown":
                self.lines.roll_over(event.detail["line"], "shutdown")
        self.feed.publisher.events.clear()
        for kind, symbol, payload in self.collector.take():
            if kind == "orderbook":
                self._compare(symbol, json.loads(payload, parse_float=Decimal, parse_int=int))
            elif kind == "trades":
                self.trade_ids.setdefault(symbol, []).append(json.loads(payload)["trade_id"])
            elif kind == "state":
                said = json.loads(payload)
                self.states.append((symbol, said["state"], said["reason"]))

    def _compare(self, symbol: str, book: dict[str, Any]) -> None:
        truth = self.exchange.market.truth(symbol).book_at(book["last_update_id"])
        for side in ("bids", "asks"):
            shown = [(Decimal(price), qty) for price, qty in book[side].items()]
            shown.sort(reverse=side == "bids")
            assert shown == [(Decimal(p), Decimal(q)) for p, q in truth.levels(side, 20)], symbol
        self.books[symbol] += 1

    @property
    def is_proved(self) -> bool:
        return all(track.state == "PROVED" for track in self.feed.tracks.values())

    @property
    def rollovers(self) -> int:
        return sum(stream.rollovers.total() for stream in self.lines.streams)

    def assert_nothing_happened(self) -> None:
        """No gap, no resync, no contradiction, each trade once, no state but the way up."""
        self.take()
        for symbol, track in self.feed.tracks.items():
            assert (track.gaps, track.resyncs, track.proof["mismatch"]) == (0, {}, 0), symbol
            ids = self.trade_ids[symbol]
            assert sorted(ids) == list(range(min(ids), min(ids) + len(ids))), "each trade once"
        assert {state for _, state, _ in self.states} <= {"COLD", "SYNCING", "LIVE", "PROVED"}


@asynccontextmanager
async def rigged(
    exchange: SimulatedExchange,
    symbols: Sequence[str],
    *,
    venue: Venue | None = None,
    channels: Sequence[str] = CHANNELS,
    **options: Any,
) -> AsyncIterator[Rig]:
    """A running rig whose books are proved. `options` are those of Lines."""
    rig = Rig(exchange, symbols, venue or venues.get("binance-usdm"))
    rest = Rest(exchange.rest_url)
    options.setdefault("patience", Patience(overlap_s=1.0, settle_s=0.05))
    options.setdefault("reconnect_delay_ms", 10)
    options.setdefault("max_reconnect_delay_ms", 100)
    rig.lines = Lines(rig.venue, rig.feed, channels, flush=lambda: None, ws_url=exchange.ws_url, **options)
    rig.lines.follow(symbols)
    snapshots = Snapshots(rig.feed, rig.venue, rest, flush=lambda: None, now_ns=now_ns)

    async def tick() -> None:
        while True:
            rig.feed.tick(now_ns())
            rig.take()
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(run) for run in (tick(), snapshots.run(), rig.lines.run())]
    try:
        await until(lambda: rig.is_proved or any(task.done() for task in tasks), 30)
        yield rig
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        rest.close()
