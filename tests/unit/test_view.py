"""mdfeed.view and mdfeed.rates: how much one tick may encode, and figures between two looks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed._stats import Histogram
from mdfeed.api import Api
from mdfeed.rates import Rate, Recent, since_start
from mdfeed.view import BOOKS_A_TICK, ROWS_A_TICK, View, day_of


def view_of(symbols: int) -> View:
    feed = Feed(venues.get("binance-usdm"))
    for number in range(symbols):
        feed.add(f"S{number}", 1, 3)
    return View(feed, Api(feed, 20), ready=lambda: (503, {"reasons": [f"S{n}: COLD" for n in range(symbols)]}))


def payload(frame: bytes) -> dict[str, Any]:
    return dict(json.loads(frame[frame.index(b"{") :]))


def test_a_tick_tells_a_few_books_and_all_of_them_in_turn() -> None:
    view = view_of(10)
    view.follow([f"S{number}" for number in range(10)] + ["UNKNOWN"])
    told: list[set[str]] = []
    for tick in range(3):
        before = {symbol: book.version for symbol, book in view.books.items()}
        view.renew(100.0 + tick / 10)
        told.append({symbol for symbol, book in view.books.items() if book.version != before[symbol]})
    assert [len(symbols) for symbols in told] == [BOOKS_A_TICK, BOOKS_A_TICK, 10 - 2 * BOOKS_A_TICK]
    assert set.union(*told) == set(view.books)
    # Nothing has changed: nothing is said until a second has passed.
    versions = [book.version for book in view.books.values()]
    view.renew(100.35)
    assert [book.version for book in view.books.values()] == versions
    view.renew(101.2)
    assert [book.version for book in view.books.values()] != versions


def test_many_symbols_are_listed_a_slice_a_tick() -> None:
    count = 3 * ROWS_A_TICK - 20
    view = view_of(count)
    for tick in range(1, 4):
        view.renew(100.0 + tick / 10)
        assert len(view._rows) == min(tick * ROWS_A_TICK, count)
    view.renew(101.2)
    assert len(payload(view.symbols.frame)["symbols"]) == count
    health = payload(view.health.frame)
    assert (len(health["reasons"]), health["more_reasons"], health["is_ready"]) == (20, count - 20, False)


def test_whoever_comes_after_a_while_is_told_nothing_old() -> None:
    view = view_of(ROWS_A_TICK + 1)
    for tick in range(15):
        view.renew(100.0 + tick / 10)
    old = dict(view.topics([]))
    assert set(old) == {"health", "symbols"}
    view.renew(200.0)
    new = dict(view.topics([]))
    assert set(new) == {"health"}  # the list waits for its rows
    assert new["health"].version > old["symbols"].version
    for tick in range(1, 12):
        view.renew(200.0 + tick / 10)
    assert set(dict(view.topics([]))) == {"health", "symbols"}


def test_very_many_symbols_all_have_their_turn_before_the_list_is_told() -> None:
    count = 25 * ROWS_A_TICK + 1
    view = view_of(count)
    ticks = 0
    while not view.symbols.version:
        view.renew(100.0 + ticks / 10)
        ticks += 1
    assert 26 <= ticks <= 40
    assert [row["symbol"] for row in payload(view.symbols.frame)["symbols"]] == list(view.feed.tracks)


def test_a_symbol_that_went_is_no_longer_told() -> None:
    view = view_of(2)
    view.follow(["S0", "S1"])
    view.renew(100.0)
    view.renew(100.1)
    view.feed.remove("S0", 0)
    view.renew(101.2)
    assert [row["symbol"] for row in payload(view.symbols.frame)["symbols"]] == ["S1"]
    assert payload(view.unknown(["S0", "S1"]) or b"")["symbols"] == ["S0"]
    assert view.unknown(["S1"]) is None


def test_a_version_is_never_used_twice() -> None:
    view = view_of(1)
    view.follow(["S0"])
    view.renew(100.0)
    first = view.books["S0"].version
    view.follow([])
    view.follow(["S0"])
    view.renew(100.1)
    assert view.books["S0"].version > first


def test_rates_are_between_two_looks() -> None:
    rate = Rate()
    assert rate(100, 50.0) is None
    assert rate(105, 50.5) is None
    assert rate(120, 51.0) == 20.0
    assert rate(500, 51.5) == 20.0
    assert rate(900, 99.0) is None  # nobody had looked: a mean over so long says nothing
    assert rate(910, 100.0) == 10.0


def test_recent_quantiles_forget_what_is_old() -> None:
    histogram = Histogram()
    recent = Recent(histogram)
    histogram.observe(1_000_000, 1000)
    assert recent.summary() == {"count": 0, "p50_us": None, "p99_us": None, "p99_9_us": None}
    histogram.observe(10_000, 99)
    histogram.observe(200_000, 1)
    found = recent.summary()
    assert found["count"] == 100
    assert 10 <= found["p50_us"] == found["p99_us"] < 11.2
    assert 200 <= found["p99_9_us"] < 224
    for _ in range(11):
        found = recent.summary()
    assert found["count"] == 0
    start = since_start(histogram)
    assert (start["count"], start["max_us"]) == (1100, 1000.0)
    assert 930 < start["p50_us"] <= 1000


@pytest.mark.parametrize(
    ("last", "opened", "change", "percent"),
    [
        ("110.5", "100", "10.5", "+10.50"),
        ("0.00000007", "0.00000008", "-0.00000001", "-12.50"),
        ("5", "5", "0", "+0.00"),
        (None, "5", None, None),
        ("5", None, None, None),
        ("5", "0", "5", None),
    ],
)
def test_the_days_change_is_exact(
    last: str | None, opened: str | None, change: str | None, percent: str | None
) -> None:
    day = day_of({"last_price": last, "open_24h": opened})
    assert (day["change_24h"], day["change_percent_24h"]) == (change, percent)
