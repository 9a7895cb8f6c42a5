"""What a collector reads, made up: sources with known values; and the samples of the text that comes of them."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mdfeed._races import Race
from mdfeed.exposition import Exposition
from mdfeed.legacy_metrics import LegacyMetrics
from mdfeed.metrics import FeedCollector, LoopLag
from mdfeed.upkeep_metrics import UpkeepMetrics

NOW_NS = 10_000_000_000
PUBLISHED = {"orderbook": 97, "trade": 54}


class Recorded:
    """A histogram of exact values, as the twin of the compiled one."""

    def __init__(self, values: Sequence[int]) -> None:
        self.values = sorted(values)
        self.count = len(values)
        self.sum_ns = sum(values)

    def quantile(self, q: float) -> float:
        return self.values[min(int(q * self.count), self.count - 1)]

    def buckets(self, bounds_ns: Sequence[int]) -> list[int]:
        return [bisect_right(self.values, bound) for bound in bounds_ns]


def track(symbol: str, **changes: Any) -> SimpleNamespace:
    values = {
        "symbol": symbol,
        "state": "PROVED",
        "reason": "",
        "applied": 100,
        "stale": 3,
        "gaps": 2,
        "overlaps": 1,
        "resyncs": {"gap": 2},
        "crossed": 0,
        "proof": {"match": 90, "mismatch": 0, "unjudged": 4},
        "trades": 55,
        "trade_gaps": 0,
        "last_update_ns": 9_500_000_000,
        "venue_delay_ns": -12_000_000,
        "book": SimpleNamespace(count_of={"bids": 1000, "asks": 998}.__getitem__, dropped_levels=6),
        "cadence_ns": 50_000_000,
        "silence_limit_ns": 5_000_000_000,
        "ghosts": 11,
        "day_errors": {"volume": -0.001, "count": 0.0, "high": 0.0, "low": 0.0},
        "memory_bytes": {"books": 1000, "windows": 2000, "proofs": 300, "buffers": 4},
        "tape": SimpleNamespace(missing=2),
        "is_carried": True,
        "disconnects": 4,
        "errors": 0,
        "frames_by_kind": {"depthUpdate": 100, "aggTrade": 55, "24hrTicker": 9, "bookTicker": 70, "trade": 5},
    }
    return SimpleNamespace(**{**values, **changes})


def make_feed() -> SimpleNamespace:
    return SimpleNamespace(
        venue="binance-usdm",
        tracks={
            "BTCUSDT": track("BTCUSDT", errors=1),
            "ETHUSDT": track("ETHUSDT", last_update_ns=0, venue_delay_ns=None, state="COLD", day_errors={}),
        },
        frames_by_kind={"depth": 100, "bookTicker": 200},
        frame_bytes=12345,
        decode_errors={"cut": 1, "overflow": 2},
        ignored={"no_such_symbol": 7},
        processing=Recorded([2_000, 30_000, 70_000_000, 5_000_000_000]),
        receive_to_write=Recorded([]),
        races={"public-0a": Race(10, 7, 10_000_000_000), "public-0b": Race()},
        clock_offset_ns=40_000_000,
    )


def make_exposition(feed: SimpleNamespace) -> Exposition:
    line = SimpleNamespace(name='public"0\n', is_connected=True, reconnects={"closed": 2}, rollovers={"age": 3})
    counters = {
        "published": {"book": 5},
        "dropped": {"full": 1},
        "buffer_bytes": 64,
        "errors": {"OOM": 1},
        "reconnects": 3,
    }
    sink = SimpleNamespace(name="redis", is_connected=False, counters=lambda: counters)
    more = [UpkeepMetrics(feed, make_upkeep(), lambda: NOW_NS), LegacyMetrics(feed, sink, lambda symbol: PUBLISHED)]
    return Exposition(FeedCollector(feed, [line], [sink], LoopLag(), lambda: NOW_NS, more))


def make_upkeep() -> SimpleNamespace:
    rungs = [
        SimpleNamespace(name="rest", trouble="", outcomes={"joined": 5, "timeout": 1}),
        SimpleNamespace(name="ws_api", trouble="handshake", outcomes={}),
    ]
    return SimpleNamespace(
        governor=SimpleNamespace(weight_used=40, limit=2400, spent={"first": 30, "klines": 10}),
        rest=SimpleNamespace(blocked_until=NOW_NS + 2_500_000_000),
        snapshots=SimpleNamespace(rungs=rungs, partials=("BTCUSDT",)),
        backfill=SimpleNamespace(outcomes={"filled": 3, "empty": 1}, filled=40, lost=7),
        figures=SimpleNamespace(outcomes={"ticker": 2, "minutes": 1}),
        forensics=SimpleNamespace(written=2, failed=1),
    )


class Samples:
    """Values by name and label values, whatever the order of the labels."""

    def __init__(self, exposition: Exposition) -> None:
        families = text_string_to_metric_families(asyncio.run(exposition.render()).decode())
        self.names = set()
        self.values = {}
        for sample in (sample for family in families for sample in family.samples):
            self.names.add(sample.name)
            self.values[frozenset((sample.name, *sample.labels.values()))] = sample.value

    def __getitem__(self, key: tuple[str, ...]) -> float:
        return self.values[frozenset(key)]

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return frozenset(key) in self.values
