"""Replay of real captures against the oracle: every figure of the JSON document but the times."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mdfeed.replay import run
from tests.oracle import Book, Outcome, compute

BTC_2024 = ("hft/usdm/btcusdt_20240718.gz", "hft/usdm/btcusdt_20240719.gz")
SESSIONS = {
    "usdm-2024": ("binance-usdm", BTC_2024),
    "usdm-2023": ("binance-usdm", ("hft/usdm/btcusdt_20230404.gz",)),
    "coinm-2024": ("binance-coinm", ("hft/cm/ethusd_perp_20240808.gz",)),
    "spot-2024": ("binance-spot", ("hft/spot/ethusdt_20240808.gz",)),
    "usdm-2021": ("binance-usdm", ("cryptofeed/BINANCE_FUTURES.http.0.0.gz", "cryptofeed/BINANCE_FUTURES.ws.1.0.gz")),
    "coinm-2021": (
        "binance-coinm",
        ("cryptofeed/BINANCE_DELIVERY.http.0.0.gz", "cryptofeed/BINANCE_DELIVERY.ws.1.0.gz"),
    ),
    "spot-2021": ("binance-spot", ("cryptofeed/BINANCE.http.0.0.gz", "cryptofeed/BINANCE.ws.1.0.gz")),
}
PATIENCE = {"binance-usdm": 1, "binance-coinm": 2, "binance-spot": 2}
# Diffs after which the venue's own bookTicker contradicts the venue's own diffs.
CONTRADICTED = {"coinm-2021": {"BCHUSD_PERP": [167006089315, 167006089882]}}
# Event types that have a name of their own in the document; the others are "other".
NAMED = {"depthUpdate", "bookTicker", "aggTrade", "trade", "24hrTicker", "markPriceUpdate", "forceOrder"}


@cache
def expect(paths: tuple[Path, ...], patience: int = 1, to_update_id: int | None = None) -> Outcome:
    return compute(list(paths), patience, to_update_id)


def find(data_dir: Path, names: tuple[str, ...]) -> list[Path]:
    paths = [data_dir / name for name in names]
    if missing := [str(path) for path in paths if not path.exists()]:
        pytest.skip(f"real captures are not here: {', '.join(missing)}")
    return paths


def replay(capsys: pytest.CaptureFixture[str], paths: list[Path], **options: Any) -> tuple[int, dict[str, Any]]:
    code = run(paths, json=True, **options)
    return code, json.loads(capsys.readouterr().out)


def check_book(row: dict[str, Any], book: Book) -> None:
    verdicts = [is_match for _, is_match in book.verdicts]
    assert row["sha256"] == book.digest()
    assert (row["bids"], row["asks"]) == (len(book.bids), len(book.asks))
    assert (row["best_bid"], row["best_ask"]) == (book.best("bids"), book.best("asks"))
    assert row["last_update_id"] == book.last_id
    counted = {name: row[name] for name in ("applied", "stale", "gaps", "resyncs", "crossed")}
    assert counted == {name: book.counts[name] for name in counted}
    assert row["proof"] == {
        "match": verdicts.count(True),
        "mismatch": verdicts.count(False),
        "unjudged": book.counts["unjudged"],
    }


def check_document(document: dict[str, Any], outcome: Outcome) -> None:
    assert document["messages"] == outcome.messages
    expected: dict[str, int] = {}
    for name, n in outcome.by_type.items():
        kind = name if name in NAMED else "other"
        expected[kind] = expected.get(kind, 0) + n
    assert document["by_type"] == expected
    assert document["decode_errors"] == 0
    assert document["books"].keys() == outcome.books.keys()
    for symbol, book in outcome.books.items():
        check_book(document["books"][symbol], book)
    assert document["trades"].keys() == outcome.trades.keys()
    for symbol, trades in outcome.trades.items():
        row, theirs = document["trades"][symbol], trades.summary()
        assert abs(Decimal(row.pop("vwap")) - theirs.pop("vwap")) <= Decimal("1e-8")
        assert row == theirs


@pytest.mark.parametrize("name", SESSIONS)
def test_document_equals_an_independent_computation(
    name: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venue, names = SESSIONS[name]
    paths = find(data_dir, names)
    code, document = replay(capsys, paths)
    outcome = expect(tuple(paths), PATIENCE[venue])
    check_document(document, outcome)
    assert document["files"] == [str(path) for path in paths]
    assert document["venue"] == venue
    contradicted = {
        symbol: ids
        for symbol, book in outcome.books.items()
        if (ids := [u for u, is_match in book.verdicts if not is_match])
    }
    assert contradicted == CONTRADICTED.get(name, {})
    assert code == (3 if contradicted else 0)
    for symbol, book in outcome.books.items():
        if any(is_match for _, is_match in book.verdicts):
            assert document["books"][symbol]["state"] == "PROVED"


def test_two_days_are_one_session_without_a_gap(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = find(data_dir, BTC_2024)
    code, document = replay(capsys, paths[::-1])  # the order in which they are named does not matter
    row = document["books"]["BTCUSDT"]
    assert code == 0
    assert (row["state"], row["gaps"], row["proof"]["mismatch"]) == ("PROVED", 0, 0)
    assert row["applied"] == row["proof"]["match"] == 9017


@pytest.mark.parametrize("n", [0, 1000])
def test_book_stops_at_an_id(n: int, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = find(data_dir, BTC_2024)
    snapshot_id = 4984028384061
    ids = [u for u, _ in expect(tuple(paths)).books["BTCUSDT"].verdicts]
    stop = ids[n]
    _, document = replay(capsys, paths, to_update_id=stop)
    expected = expect(tuple(paths), to_update_id=stop)
    assert document["books"]["BTCUSDT"]["last_update_id"] == stop > snapshot_id
    check_document(document, expected)
    _, between = replay(capsys, paths, to_update_id=stop + 1 if stop + 1 < ids[n + 1] else stop)
    assert between["books"]["BTCUSDT"]["sha256"] == expected.books["BTCUSDT"].digest()
