"""Symbols on lines: sharding, stability, copies, found routes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed import venues
from mdfeed.layout import Layout

USDM = venues.get("binance-usdm")
CHANNELS = ("depth@100ms", "bookTicker", "aggTrade", "ticker")
SYMBOLS = [f"S{number:03}USDT" for number in range(40)]


def layout(**options):
    return Layout(USDM, CHANNELS, **options)


def symbols_of(plan):
    return {name.partition("@")[0].upper() for name in (*plan.streams, *plan.late_streams)}


def test_two_routes_and_their_lines():
    plans = layout().place(["BTCUSDT", "ETHUSDT"])
    assert [plan.name for plan in plans] == ["public-0", "market-0"]
    assert plans[0].streams == (
        "btcusdt@depth@100ms",
        "btcusdt@bookTicker",
        "ethusdt@depth@100ms",
        "ethusdt@bookTicker",
    )
    assert plans[1].url.endswith(
        "/market/stream?streams=btcusdt@aggTrade/btcusdt@ticker/ethusdt@aggTrade/ethusdt@ticker"
    )


def test_one_route_for_all():
    (plan,) = layout(routes="single").place(["BTCUSDT"])
    assert (plan.name, plan.route, len(plan.streams)) == ("all-0", "", 4)


def test_copies_of_each_line():
    plans = layout(redundancy=2).place(["BTCUSDT"])
    assert [plan.name for plan in plans] == ["public-0a", "public-0b", "market-0a", "market-0b"]
    assert plans[0].streams == plans[1].streams


def test_a_line_too_small_for_one_symbol():
    with pytest.raises(ValueError, match="btcusdt@depth@100ms, btcusdt@bookTicker"):
        layout(max_streams=1).place(["BTCUSDT"])


def test_a_found_route_is_kept():
    there = layout()
    there.place(["BTCUSDT"])
    there.reroute("ticker", "public")
    plans = there.place(["BTCUSDT", "ETHUSDT"])
    assert [plan.name for plan in plans] == ["public-0", "market-0"]
    assert "btcusdt@ticker" in plans[0].streams
    assert plans[1].streams == ("btcusdt@aggTrade", "ethusdt@aggTrade")
    assert there.found == {"ticker": "public"}


@given(st.lists(st.lists(st.sampled_from(SYMBOLS), unique=True), min_size=1, max_size=8), st.integers(2, 20))
def test_symbols_stay_where_they_are_and_all_are_carried_once(rosters, max_streams):
    there = layout(max_streams=max_streams)
    before = {}
    for roster in rosters:
        plans = [plan for plan in there.place(roster) if plan.route == "public"]
        assert all(len(plan.streams) + len(plan.late_streams) <= max_streams for plan in plans)
        now = {symbol: plan.name for plan in plans for symbol in symbols_of(plan)}
        assert sorted(now) == sorted(roster)
        assert sum(len(symbols_of(plan)) for plan in plans) == len(roster)
        assert all(now[symbol] == line for symbol, line in before.items() if symbol in now)
        before = now
