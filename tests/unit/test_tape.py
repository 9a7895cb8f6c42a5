"""Trades by id: each once, holes counted and filled by whoever brings them. Fed as frames, the only way in."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from mdfeed import venues
from mdfeed._encode import Collector
from mdfeed._feed import Feed
from mdfeed._tape import plain

MS = 10**6


def trade(
    trade_id: int, price: str = "10.5", qty: str = "2", kind: str = "aggTrade", ms: int = 0, x: str = "MARKET"
) -> bytes:
    key = "a" if kind == "aggTrade" else "t"
    data = {
        "e": kind,
        "E": ms or trade_id,
        "s": "BTCUSDT",
        key: trade_id,
        "p": price,
        "q": qty,
        "T": trade_id,
        "m": False,
    }
    if kind == "trade":
        data["X"] = x
    return json.dumps({"stream": f"btcusdt@{kind}", "data": data}).encode()


def fed(*frames: bytes) -> tuple[Feed, list[int]]:
    """The feed, and the ids that it published."""
    out = Collector(outputs=("trades",))
    feed = Feed(venues.get("binance-usdm"), outboxes=[out])
    feed.add("BTCUSDT")
    line = feed.open_line("market-0")
    for clock, one in enumerate(frames, 1):
        feed.receive(line, one, clock * MS + 10**9)
    return feed, [json.loads(payload)["trade_id"] for _, _, payload in out.take()]


def test_each_id_counts_once():
    feed, ids = fed(*map(trade, (5, 5, 6, 7, 6, 7, 8)))
    tape = feed.tracks["BTCUSDT"].tape
    assert ids == [5, 6, 7, 8]
    assert (tape.count, tape.duplicates, tape.gaps, tape.missing) == (4, 3, 0, 0)


def test_a_hole_is_counted_and_filled_from_any_side():
    feed, ids = fed(*map(trade, (1, 9, 5, 2, 8, 3, 4, 7, 6, 6)))
    tape = feed.tracks["BTCUSDT"].tape
    assert ids == [1, 9, 5, 2, 8, 3, 4, 7, 6]
    assert (tape.count, tape.gaps, tape.missing, tape.holes, tape.duplicates) == (9, 1, 0, [], 1)
    assert tape.summary(1, 0)["last"] == "10.5"


def test_an_open_hole_is_told():
    feed, _ = fed(*map(trade, (1, 4, 10)))
    tape = feed.tracks["BTCUSDT"].tape
    assert tape.holes == [(2, 3), (5, 9)]
    assert (tape.gaps, tape.missing) == (2, 7)
    assert feed.tracks["BTCUSDT"].trade_gaps == 2


def test_the_last_price_is_the_newest_trades_not_the_latest_arrivals():
    feed, _ = fed(trade(1, "10"), trade(3, "12"), trade(2, "11"))
    assert feed.tracks["BTCUSDT"].trade_summary() == {
        "count": 3, "qty": "6", "vwap": "11", "high": "12", "low": "10", "last": "12",
    }  # fmt: skip


def test_what_is_not_a_market_trade_takes_an_id_and_counts_nothing():
    feed, ids = fed(trade(1, kind="trade"), trade(2, "99", kind="trade", x="INSURANCE_FUND"), trade(3, kind="trade"))
    assert ids == [1, 3]
    assert feed.tracks["BTCUSDT"].trade_summary()["high"] == "10.5"
    assert feed.tracks["BTCUSDT"].tape.missing == 0


def test_aggregate_trades_win_over_single_ones():
    feed, ids = fed(trade(1), trade(100, kind="trade"), trade(2), trade(101, kind="trade"))
    assert ids == [1, 2]
    assert feed.tracks["BTCUSDT"].trade_summary()["count"] == 2


def test_ids_that_start_over_are_followed():
    old = [trade(n, ms=n) for n in range(1000, 1005)]
    new = [trade(n, ms=5000 + n) for n in range(1, 8)]
    feed, ids = fed(*old, *new)
    tape = feed.tracks["BTCUSDT"].tape
    assert ids == [1000, 1001, 1002, 1003, 1004, 3, 4, 5, 6, 7]
    assert (tape.restarts, tape.last_id) == (1, 7)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1, max_size=80))
def test_sums_are_exact(rows):
    seen: dict[int, tuple[Decimal, Decimal]] = {}
    first = rows[0][0]
    frames = []
    for trade_id, price, qty in rows:
        frames.append(trade(trade_id, f"{Decimal(price) / 100}", f"{Decimal(qty) / 1000}", ms=1))
        if trade_id >= first:
            seen.setdefault(trade_id, (Decimal(price) / 100, Decimal(qty) / 1000))
    feed, ids = fed(*frames)
    said = feed.tracks["BTCUSDT"].trade_summary()
    assert sorted(ids) == sorted(seen)
    assert said["count"] == len(seen)
    assert Decimal(said["qty"]) == sum(qty for _, qty in seen.values())
    assert Decimal(said["high"]) == max(price for price, _ in seen.values())
    assert Decimal(said["low"]) == min(price for price, _ in seen.values())
    assert Decimal(said["last"]) == seen[max(seen)][0]
    vwap = sum(price * qty for price, qty in seen.values()) / sum(qty for _, qty in seen.values())
    assert abs(Decimal(said["vwap"]) - vwap) < Decimal("1e-8")


def test_plain_text():
    assert [plain(Decimal(text)) for text in ("1E+3", "10.500", "0.00000001", "100", "0.0")] == [
        "1000", "10.5", "0.00000001", "100", "0",
    ]  # fmt: skip
