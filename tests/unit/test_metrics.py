"""mdfeed.metrics: names, types and values of the exposition, read by prometheus_client's own parser (and promtool)."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mdfeed import exposition as exposition_module
from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed._resp import RespOutbox
from mdfeed.exposition import Exposition
from mdfeed.legacy_metrics import LegacyMetrics
from mdfeed.metrics import BOUNDS_NS, STATES, FeedCollector, LoopLag
from mdfeed.sinks.null import NullSink
from mdfeed.upkeep import Upkeep
from mdfeed.upkeep_metrics import UpkeepMetrics
from tests.exposed import Recorded, Samples, make_exposition, make_feed, track

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


@pytest.fixture
def feed() -> SimpleNamespace:
    return make_feed()


@pytest.fixture
def exposition(feed: SimpleNamespace) -> Exposition:
    return make_exposition(feed)


def test_every_name_of_the_contract_is_there(exposition: Exposition, feed: SimpleNamespace) -> None:
    feed.receive_to_write = Recorded([1000])
    assert set(CONTRACT) <= Samples(exposition).names


def test_every_family_has_help_and_type(exposition: Exposition) -> None:
    text = asyncio.run(exposition.render()).decode()
    for family in text_string_to_metric_families(text):
        assert family.type != "unknown"
        assert len(family.documentation) > 5
    # Of the earlier service's names promtool says rightly that one is not in seconds.
    text = "".join(line + "\n" for line in text.splitlines() if "processing_latency_microseconds" not in line)
    if promtool := shutil.which("promtool"):
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


def test_known_reasons_have_a_sample_before_the_first_event(exposition: Exposition, feed: SimpleNamespace) -> None:
    feed.decode_errors = {}
    found = Samples(exposition)
    assert found["mdfeed_decode_errors_total", "binance-usdm", "not_json"] == 0
    assert found["mdfeed_line_reconnects_total", "binance-usdm", 'public"0\n', "silent"] == 0
    assert found["mdfeed_book_resyncs_total", "binance-usdm", "ETHUSDT", "crossed"] == 0
    assert found["mdfeed_book_resyncs_total", "binance-usdm", "BTCUSDT", "gap"] == 2


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
    assert found["mdfeed_frame_interval_seconds", *btc] == 0.05
    assert found["mdfeed_silence_limit_seconds", *btc] == 5.0
    assert found["mdfeed_book_ghost_levels_total", *btc] == 11
    assert found["mdfeed_book_dropped_levels_total", *btc] == 6
    assert found["mdfeed_day_error_ratio", *btc, "volume"] == -0.001
    assert ("mdfeed_day_error_ratio", "binance-usdm", "ETHUSDT", "volume") not in found


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


def test_the_real_things_have_what_is_read(tmp_path: Path) -> None:
    feed = Feed(venues.get("binance-usdm"), recall_bytes=1 << 20)
    feed.add("BTCUSDT", 1, 3)
    feed.processing.observe(3_000)
    urls = {"rest_url": "http://localhost", "ws_url": "ws://localhost"}
    upkeep = Upkeep(feed, venues.get("binance-usdm"), flush=int, state=tmp_path, **urls)
    sink = NullSink("null:", feed.instruments)
    outbox = RespOutbox(feed.instruments, epoch=1)
    more = [
        UpkeepMetrics(feed, upkeep),
        LegacyMetrics(feed, sink, lambda symbol: outbox.published_of(feed.instruments.index(symbol))),
    ]
    found = Samples(Exposition(FeedCollector(feed, more=more)))
    assert found["mdfeed_book_state", "binance-usdm", "BTCUSDT", "COLD"] == 1
    assert found["mdfeed_book_levels", "binance-usdm", "BTCUSDT", "bids"] == 0
    assert found["mdfeed_silence_limit_seconds", "binance-usdm", "BTCUSDT"] == 5.0
    assert 0 < found["mdfeed_memory_bytes", "books"] < 1000
    assert found["mdfeed_snapshot_source_up", "binance-usdm", "ws_api"] == 1
    assert found["mdfeed_forensics_files_total", "binance-usdm", "written"] == 0
    assert found["websocket_connected", "BTCUSDT"] == 0
    assert found["redis_publishes_total", "BTCUSDT", "orderbook"] == 0
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
    assert most <= 36 * exposition_module.SYMBOLS_A_TURN


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
