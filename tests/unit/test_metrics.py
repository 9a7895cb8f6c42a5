"""mdfeed.metrics: names, types and values of the exposition, read by prometheus_client's own parser (and promtool)."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from bisect import bisect_right
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mdfeed import exposition as exposition_module
from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed._races import Race
from mdfeed.exposition import Exposition
from mdfeed.metrics import BOUNDS_NS, STATES, FeedCollector, LoopLag

# CONTRACT.md 6
CONTRACT = [
    "mdfeed_line_connected",
    "mdfeed_line_reconnects_total",
    "mdfeed_frames_total",
    "mdfeed_frame_bytes_total",
    "mdfeed_decode_errors_total",
    "mdfeed_book_updates_total",
    "mdfeed_book_state",
    "mdfeed_book_proof_total",
    "mdfeed_book_levels",
    "mdfeed_book_resyncs_total",
    "mdfeed_trades_total",
    "mdfeed_last_update_age_seconds",
    "mdfeed_processing_seconds_bucket",
    "mdfeed_receive_to_write_seconds_bucket",
    "mdfeed_receive_to_write_quantile_seconds",
    "mdfeed_venue_delay_seconds",
    "mdfeed_clock_offset_seconds",
    "mdfeed_line_wins_total",
    "mdfeed_line_rollovers_total",
    "mdfeed_sink_published_total",
    "mdfeed_sink_dropped_total",
    "mdfeed_sink_connected",
    "mdfeed_sink_buffer_bytes",
    "mdfeed_rest_weight_used",
    "mdfeed_event_loop_lag_seconds",
    "mdfeed_build_info",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
]


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
        "book": SimpleNamespace(count_of={"bids": 1000, "asks": 998}.__getitem__),
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.fixture
def feed() -> SimpleNamespace:
    return SimpleNamespace(
        venue="binance-usdm",
        tracks={
            "BTCUSDT": track("BTCUSDT"),
            "ETHUSDT": track("ETHUSDT", last_update_ns=0, venue_delay_ns=None, state="COLD"),
        },
        frames_by_kind={"depth": 100, "bookTicker": 200},
        frame_bytes=12345,
        decode_errors={"cut": 1},
        ignored={"no_such_symbol": 7},
        processing=Recorded([2_000, 30_000, 70_000_000, 5_000_000_000]),
        receive_to_write=Recorded([]),
        races={"public-0a": Race(10, 7, 10_000_000_000), "public-0b": Race()},
        clock_offset_ns=40_000_000,
    )


@pytest.fixture
def exposition(feed: SimpleNamespace) -> Exposition:
    line = SimpleNamespace(name='public"0\n', is_connected=True, reconnects={"closed": 2}, rollovers={"age": 3})
    counters = {
        "published": {"book": 5},
        "dropped": {"full": 1},
        "buffer_bytes": 64,
        "errors": {"OOM": 1},
        "reconnects": 3,
    }
    sink = SimpleNamespace(name="redis", is_connected=False, counters=lambda: counters)
    governor = SimpleNamespace(weight_used=40)
    return Exposition(FeedCollector(feed, [line], [sink], governor, LoopLag(), now_ns=lambda: 10_000_000_000))


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


def test_every_name_of_the_contract_is_there(exposition: Exposition, feed: SimpleNamespace) -> None:
    feed.receive_to_write = Recorded([1000])
    assert set(CONTRACT) <= Samples(exposition).names


def test_every_family_has_help_and_type(exposition: Exposition) -> None:
    text = asyncio.run(exposition.render()).decode()
    for family in text_string_to_metric_families(text):
        assert family.type != "unknown"
        assert len(family.documentation) > 5
    if promtool := shutil.which("promtool"):
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


def test_values_are_those_of_the_sources(exposition: Exposition) -> None:
    found = Samples(exposition)
    btc = ("binance-usdm", "BTCUSDT")
    assert found["mdfeed_frames_total", "binance-usdm", "bookTicker"] == 200
    assert found["mdfeed_frame_bytes_total", "binance-usdm"] == 12345
    assert found["mdfeed_decode_errors_total", "binance-usdm", "cut"] == 1
    updates = {
        result: found["mdfeed_book_updates_total", *btc, result] for result in ("applied", "stale", "gap", "overlap")
    }
    assert updates == {"applied": 100, "stale": 3, "gap": 2, "overlap": 1}
    assert [found["mdfeed_book_state", *btc, state] for state in STATES] == [0, 0, 0, 1, 0, 0]
    assert found["mdfeed_book_state", "binance-usdm", "ETHUSDT", "COLD"] == 1
    assert found["mdfeed_book_proof_total", *btc, "mismatch"] == 0
    assert (found["mdfeed_book_levels", *btc, "bids"], found["mdfeed_book_levels", *btc, "asks"]) == (1000, 998)
    assert found["mdfeed_last_update_age_seconds", *btc] == 0.5
    assert found["mdfeed_venue_delay_seconds", *btc] == -0.012
    assert ("mdfeed_last_update_age_seconds", "binance-usdm", "ETHUSDT") not in found
    assert ("mdfeed_venue_delay_seconds", "binance-usdm", "ETHUSDT") not in found
    assert found["mdfeed_line_reconnects_total", "binance-usdm", 'public"0\n', "closed"] == 2
    assert found["mdfeed_line_rollovers_total", "binance-usdm", 'public"0\n', "age"] == 3
    assert found["mdfeed_line_diffs_total", "binance-usdm", "public-0a"] == 10
    assert found["mdfeed_line_wins_total", "binance-usdm", "public-0a"] == 7
    assert found["mdfeed_line_delay_seconds", "binance-usdm", "public-0a"] == 1.04
    assert found["mdfeed_sink_connected", "redis"] == 0
    assert found["mdfeed_sink_buffer_bytes", "redis"] == 64
    assert found["mdfeed_sink_dropped_total", "redis", "full"] == 1
    assert found["mdfeed_rest_weight_used",] == 40


def test_the_histogram_is_cumulative_in_seconds_and_quantiles_wait_for_a_value(exposition: Exposition) -> None:
    found = Samples(exposition)
    buckets = [found["mdfeed_processing_seconds_bucket", "binance-usdm", str(bound / 1e9)] for bound in BOUNDS_NS]
    assert buckets == sorted(buckets)
    assert found["mdfeed_processing_seconds_bucket", "binance-usdm", "5e-05"] == 2
    assert found["mdfeed_processing_seconds_bucket", "binance-usdm", "+Inf"] == 4
    assert found["mdfeed_processing_seconds_count", "binance-usdm"] == 4
    assert found["mdfeed_processing_seconds_sum", "binance-usdm"] == pytest.approx(5.070032)
    assert found["mdfeed_processing_quantile_seconds", "binance-usdm", "0.5"] == 0.07
    assert "mdfeed_receive_to_write_quantile_seconds" not in found.names


async def test_loop_lag_sees_a_blocked_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopLag, "STEP_S", 0.01)
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(0.02)
    time.sleep(0.1)  # noqa: ASYNC251 - the block is what is measured
    await asyncio.sleep(0.02)
    assert 0.08 < lag.worst_s < 10
    await lag.stop()


async def test_loop_lag_forgets_after_two_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopLag, "STEP_S", 0.001)
    monkeypatch.setattr(LoopLag, "PERIOD_S", 0.01)
    lag = LoopLag()
    lag._worst_s = 1000.0
    lag.start()
    async with asyncio.timeout(30):
        while lag.worst_s >= 1000.0:
            await asyncio.sleep(0.005)
    await lag.stop()
    assert lag.worst_s < 1000.0


def test_the_real_feed_has_what_is_read() -> None:
    feed = Feed(venues.get("binance-usdm"))
    feed.add("BTCUSDT", 1, 3)
    feed.processing.observe(3_000)
    found = Samples(Exposition(FeedCollector(feed)))
    assert found["mdfeed_book_state", "binance-usdm", "BTCUSDT", "COLD"] == 1
    assert found["mdfeed_book_levels", "binance-usdm", "BTCUSDT", "bids"] == 0
    assert found["mdfeed_processing_seconds_bucket", "binance-usdm", "5e-06"] == 1
    assert found["mdfeed_processing_seconds_bucket", "binance-usdm", "1e-06"] == 0
    assert ("mdfeed_last_update_age_seconds", "binance-usdm", "BTCUSDT") not in found


def without_process(text: str) -> list[str]:
    """process_* are of the moment."""
    return [line for line in text.splitlines() if not line.startswith("process_")]


def test_the_text_is_generate_latests(exposition: Exposition, feed: SimpleNamespace) -> None:
    feed.tracks |= {f"S{n}USDT": track(f"S{n}USDT", applied=n * 10**7 + 1) for n in range(99)}
    for _ in range(2):
        written = asyncio.run(exposition.render()).decode()
        assert without_process(written) == without_process(generate_latest(exposition.registry).decode())
        feed.tracks["S5USDT"].applied += 1
        feed.decode_errors["not_json"] = 3
    assert {"process_cpu_seconds_total", "process_open_fds"} <= Samples(exposition).names


def test_a_feed_without_symbols_has_its_families(feed: SimpleNamespace) -> None:
    feed.tracks = {}
    exposition = Exposition(FeedCollector(feed))
    written = asyncio.run(exposition.render()).decode()
    assert without_process(written) == without_process(generate_latest(exposition.registry).decode())
    assert "# TYPE mdfeed_book_state gauge" in written


async def test_a_scrape_takes_turns_with_the_loop(exposition: Exposition, feed: SimpleNamespace) -> None:
    feed.tracks = {f"S{n}USDT": track(f"S{n}USDT") for n in range(100)}
    written = asyncio.create_task(exposition.render())
    turns, samples, most = 0, 0, 0
    while not written.done():
        before = len(exposition._starts)
        await asyncio.sleep(0)
        turns += 1
        most = max(most, len(exposition._starts) - before)
    samples = len(exposition._starts)
    assert samples > 2_000
    assert turns >= 100 / exposition_module.SYMBOLS_A_TURN
    assert most <= 25 * exposition_module.SYMBOLS_A_TURN


def test_memory_for_labels_that_come_and_go_is_bounded(
    exposition: Exposition, feed: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition_module, "STARTS_KEPT", 200)
    for n in range(100):
        feed.decode_errors = {f"reason_{n}_{i}": 1 for i in range(10)}
        asyncio.run(exposition.render())
    assert len(exposition._starts) <= 200


def test_the_clock_offset_is_signed(exposition: Exposition, feed: SimpleNamespace) -> None:
    assert Samples(exposition)["mdfeed_clock_offset_seconds",] == 0.04
    feed.clock_offset_ns = -1_500_000
    assert Samples(exposition)["mdfeed_clock_offset_seconds",] == -0.0015
