"""mdfeed.upkeep_metrics: request weight, snapshots, missed trades, figures, forensics, memory."""

from __future__ import annotations

from mdfeed.exposition import Exposition
from mdfeed.metrics import FeedCollector
from mdfeed.upkeep_metrics import UpkeepMetrics
from tests.exposed import NOW_NS, Samples, make_exposition, make_feed, make_upkeep


def test_the_upkeep_is_told() -> None:
    found, venue = Samples(make_exposition(make_feed())), "binance-usdm"
    assert found["mdfeed_rest_weight_used",] == 40
    assert found["mdfeed_rest_weight_limit",] == 2400
    assert found["mdfeed_rest_blocked_seconds",] == 2.5
    assert found["mdfeed_rest_weight_spent_total", venue, "first"] == 30
    assert found["mdfeed_snapshots_total", venue, "rest", "joined"] == 5
    assert found["mdfeed_snapshots_total", venue, "rest", "timeout"] == 1
    assert (found["mdfeed_snapshot_source_up", venue, "rest"], found["mdfeed_snapshot_source_up", venue, "ws_api"]) == (
        1,
        0,
    )
    assert found["mdfeed_partial_depth_symbols",] == 1
    assert found["mdfeed_backfill_requests_total", venue, "empty"] == 1
    assert found["mdfeed_backfill_trades_total", venue, "filled"] == 40
    assert found["mdfeed_backfill_trades_total", venue, "lost"] == 7
    assert found["mdfeed_backfill_missing_trades",] == 4
    assert found["mdfeed_figures_requests_total", venue, "minutes"] == 1
    assert found["mdfeed_forensics_files_total", venue, "written"] == 2
    assert found["mdfeed_forensics_files_total", venue, "failed"] == 1
    assert found["mdfeed_memory_bytes", "windows"] == 4000


def test_a_host_that_lets_us_ask_is_blocked_for_0_seconds() -> None:
    feed, free = make_feed(), make_upkeep()
    free.rest.blocked_until = 0
    free.forensics = None
    more = [UpkeepMetrics(feed, free, lambda: NOW_NS)]
    collector = FeedCollector(feed, now_ns=lambda: NOW_NS, more=more)
    found = Samples(Exposition(collector))
    assert found["mdfeed_rest_blocked_seconds",] == 0
    assert "mdfeed_forensics_files_total" not in found.names
