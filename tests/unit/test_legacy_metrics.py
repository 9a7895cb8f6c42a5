"""mdfeed.legacy_metrics: the earlier service's ten names, as prometheus_client's parser reads them."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mdfeed.exposition import Exposition
from mdfeed.metrics import FeedCollector
from tests.exposed import Samples, make_exposition, make_feed

# (name, type, labels) of the earlier service.
LEGACY = [
    ("websocket_connected", "gauge", {"symbol"}),
    ("websocket_disconnects_total", "counter", {"symbol"}),
    ("messages_processed_total", "counter", {"symbol", "type"}),
    ("messages_error_total", "counter", {"symbol"}),
    ("processing_latency_microseconds", "histogram", {"symbol"}),
    ("orderbook_updates_total", "counter", {"symbol"}),
    ("sequence_errors_total", "counter", {"symbol"}),
    ("trades_processed_total", "counter", {"symbol"}),
    ("redis_publishes_total", "counter", {"symbol", "type"}),
    ("redis_errors_total", "counter", {"symbol"}),
]


@pytest.fixture
def exposition() -> Exposition:
    return make_exposition(make_feed())


def test_the_ten_names_have_their_types_and_labels(exposition: Exposition) -> None:
    families = {}
    for family in text_string_to_metric_families(asyncio.run(exposition.render()).decode()):
        for sample in family.samples:
            families.setdefault(sample.name, (family.type, set()))[1].update(sample.labels.keys() - {"le"})
    for name, kind, labels in LEGACY:
        assert families[name + "_bucket" * (kind == "histogram")] == (kind, labels), name


def test_the_ten_names_count_what_is_counted(exposition: Exposition) -> None:
    found = Samples(exposition)
    assert found["websocket_connected", "BTCUSDT"] == 1
    assert found["websocket_disconnects_total", "BTCUSDT"] == 4
    types = {"orderbook": 100, "trade": 60, "ticker": 9, "bookTicker": 70}
    assert {name: found["messages_processed_total", "BTCUSDT", name] for name in types} == types
    assert found["orderbook_updates_total", "BTCUSDT"] == 100
    assert found["sequence_errors_total", "BTCUSDT"] == 2
    assert found["trades_processed_total", "BTCUSDT"] == 55
    assert found["redis_publishes_total", "BTCUSDT", "orderbook"] == 97
    assert found["redis_publishes_total", "BTCUSDT", "trade"] == 54


def test_what_belongs_to_no_symbol_is_said_once_under_the_empty_one(exposition: Exposition) -> None:
    found = Samples(exposition)
    assert (found["messages_error_total", "BTCUSDT"], found["messages_error_total", ""]) == (1, 2)
    assert found["redis_errors_total", ""] == 1
    bounds = [1, 5, 10, 25, 50, 75, 100, 250, 500, 1000]
    buckets = [found["processing_latency_microseconds_bucket", "", str(float(bound))] for bound in bounds]
    assert buckets == [0, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert found["processing_latency_microseconds_bucket", "", "+Inf"] == 4
    assert found["processing_latency_microseconds_sum", ""] == pytest.approx(5_070_032)


def test_without_being_asked_for_the_ten_names_are_not_there() -> None:
    names = Samples(Exposition(FeedCollector(make_feed()))).names
    assert not {name for name in names if not name.startswith(("mdfeed_", "process_"))}
