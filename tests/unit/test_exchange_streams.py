"""Every stream against the market's truth, on virtual time, read as an independent client reads it."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from mdfeed.exchange.market import START_NS, Market
from mdfeed.exchange.streams import MARKET, PUBLIC, parse_stream, route_of

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SYM003USDT"]
KINDS = (
    "depth@100ms",
    "depth",
    "depth@0ms",
    "depth@500ms",
    "depth20@100ms",
    "depth5",
    "bookTicker",
    "aggTrade",
    "trade",
    "ticker",
    "miniTicker",
    "markPrice",
    "markPrice@1s",
    "forceOrder",
)


class Heard:
    """12 s of every stream: frames by stream name, and snapshots taken at the start and in the middle."""

    def __init__(self) -> None:
        self.market = Market(SYMBOLS, seed=11, rate=300)
        self.frames: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.order: list[tuple[str, dict[str, Any]]] = []
        for symbol in SYMBOLS:
            for kind in KINDS:
                assert self.market.want(f"{symbol.lower()}@{kind}")
        self.snapshots = []
        for second in (0.033, 6.017, 12.0):
            for said in self.market.step(START_NS + int(second * 1e9)):
                frame = json.loads(said.frame)
                assert frame["stream"] == said.stream
                self.frames[said.stream].append(frame["data"])
                self.order.append((said.stream, frame["data"]))
            self.snapshots.append(
                {symbol: json.loads(self.market.depth(symbol, 1000) or "") for symbol in self.market.symbols}
            )


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


def set_levels(book: dict[str, str], rows: list[list[str]]) -> None:
    for price, qty in rows:
        if float(qty):
            book[price] = qty
        else:
            book.pop(price, None)


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("kind", ["depth@100ms", "depth", "depth@0ms", "depth@500ms"])
def test_diffs_build_the_true_book_at_every_id(heard: Heard, symbol: str, kind: str) -> None:
    truth = heard.market.truth(symbol)
    start = truth.book_at(truth.first_id)
    bids, asks = dict(start.levels("bids")), dict(start.levels("asks"))
    previous, consecutive = truth.first_id, 0
    diffs = heard.frames[f"{symbol.lower()}@{kind}"]
    assert len(diffs) >= 22
    for diff in diffs:
        assert diff["pu"] == previous < diff["U"] <= diff["u"]
        consecutive += diff["U"] == diff["pu"] + 1
        previous = diff["u"]
        set_levels(bids, diff["b"])
        set_levels(asks, diff["a"])
        for rows in (diff["b"], diff["a"]):
            prices = [float(price) for price, _ in rows]
            assert prices == sorted(prices)
        true = truth.book_at(diff["u"])
        assert dict(true.levels("bids")) == bids
        assert dict(true.levels("asks")) == asks
    assert consecutive < len(diffs) * 0.15  # ids are shared by all instruments


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_snapshot_joins_as_documented(heard: Heard, symbol: str) -> None:
    """Drop u < lastUpdateId; the first one left has U <= lastUpdateId <= u, or continues it exactly."""
    diffs = heard.frames[f"{symbol.lower()}@depth@100ms"]
    snapshot = heard.snapshots[1][symbol]
    last_id = snapshot["lastUpdateId"]
    assert [tuple(row) for row in snapshot["asks"]] == heard.market.truth(symbol).book_at(last_id).levels("asks", 1000)
    first = next(diff for diff in diffs if diff["u"] >= last_id)
    assert first["U"] <= last_id <= first["u"] or first["pu"] == last_id


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_book_ticker_is_the_true_top(heard: Heard, symbol: str) -> None:
    tickers = heard.frames[f"{symbol.lower()}@bookTicker"]
    assert len(tickers) > 200
    ids = [ticker["u"] for ticker in tickers]
    assert ids == sorted(set(ids))
    for ticker in tickers:
        top = heard.market.truth(symbol).book_at(ticker["u"]).top()
        assert (ticker["b"], ticker["B"], ticker["a"], ticker["A"]) == top
    assert any(later["E"] < earlier["E"] for earlier, later in itertools.pairwise(tickers))


def test_book_ticker_comes_ahead_of_and_behind_its_diff(heard: Heard) -> None:
    newest_diff = newest_ticker = behind = ahead = 0
    for stream, data in heard.order:
        if stream == "btcusdt@depth@100ms":
            ahead += newest_ticker > data["u"]
            newest_diff = data["u"]
        elif stream == "btcusdt@bookTicker":
            behind += data["u"] <= newest_diff
            newest_ticker = data["u"]
    assert ahead
    assert behind


def test_diff_tops_equal_the_newest_ticker_not_after_them(heard: Heard) -> None:
    """The proof of a self-proving client, with its verdicts taken at the end."""
    tickers = heard.frames["ethusdt@bookTicker"]
    truth = heard.market.truth("ETHUSDT")
    judged = 0
    for diff in heard.frames["ethusdt@depth@0ms"]:
        newest = next((ticker for ticker in reversed(tickers) if ticker["u"] <= diff["u"]), None)
        if newest is not None:
            judged += 1
            assert truth.book_at(diff["u"]).top() == (newest["b"], newest["B"], newest["a"], newest["A"])
    assert judged > 100


@pytest.mark.parametrize(("kind", "count"), [("depth20@100ms", 20), ("depth5", 5)])
def test_partial_depth_is_the_true_top(heard: Heard, kind: str, count: int) -> None:
    frames = heard.frames[f"btcusdt@{kind}"]
    assert frames
    for frame in frames:
        book = heard.market.truth("BTCUSDT").book_at(frame["u"])
        assert [tuple(row) for row in frame["b"]] == book.levels("bids", count)
        assert [tuple(row) for row in frame["a"]] == book.levels("asks", count)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_trades_and_aggregates_agree(heard: Heard, symbol: str) -> None:
    trades = heard.frames[f"{symbol.lower()}@trade"]
    aggs = heard.frames[f"{symbol.lower()}@aggTrade"]
    assert len(aggs) > 20
    assert [t["t"] for t in trades] == list(range(trades[0]["t"], trades[0]["t"] + len(trades)))
    assert [a["a"] for a in aggs] == list(range(aggs[0]["a"], aggs[0]["a"] + len(aggs)))
    by_id = {t["t"]: t for t in trades}
    expected = trades[0]["t"]
    for agg in aggs:
        assert agg["f"] == expected <= agg["l"]
        expected = agg["l"] + 1
        parts = [by_id[trade_id] for trade_id in range(agg["f"], agg["l"] + 1) if trade_id in by_id]
        if len(parts) == agg["l"] - agg["f"] + 1:
            assert Decimal(agg["q"]) == sum(Decimal(part["q"]) for part in parts)
            assert {part["p"] for part in parts} == {agg["p"]}
            assert {part["m"] for part in parts} == {agg["m"]}
            assert agg["T"] == parts[-1]["T"]
    assert any(agg["f"] < agg["l"] for agg in aggs)


def test_fields_are_the_documented_ones(heard: Heard) -> None:
    documented = {
        "depth@100ms": "e E T s U u pu b a st",
        "bookTicker": "e u s b B a A T E st",
        "aggTrade": "e E s a p q nq f l T m st",
        "trade": "e E T s t p q X m st",
        "ticker": "e E s p P w c Q o h l v q O C F L n st",
        "markPrice": "e E s p ap i P r T st",
        "forceOrder": "e E o st",
    }
    for kind, keys in documented.items():
        frame = heard.frames[f"btcusdt@{kind}"][0]
        assert list(frame) == keys.split(), kind
    assert list(heard.frames["btcusdt@forceOrder"][0]["o"]) == ["s", "S", "o", "f", "q", "p", "ap", "X", "l", "z", "T"]


def test_intervals(heard: Heard) -> None:
    for kind, interval_ms in (("depth@100ms", 100), ("depth", 250), ("depth@500ms", 500), ("ticker", 2000)):
        times = [frame["E"] for frame in heard.frames[f"btcusdt@{kind}"]]
        assert {(later - earlier) % interval_ms for earlier, later in itertools.pairwise(times)} == {0}


def test_ticker_follows_the_trades(heard: Heard) -> None:
    last = heard.frames["btcusdt@ticker"][-1]
    before = [trade for trade in heard.frames["btcusdt@trade"] if trade["t"] <= last["L"]]
    assert last["L"] - last["F"] + 1 == last["n"]
    assert (last["c"], last["Q"]) == (before[-1]["p"], before[-1]["q"])
    assert Decimal(last["l"]) <= Decimal(last["c"]) <= Decimal(last["h"])
    first = heard.frames["btcusdt@ticker"][0]
    between = [trade for trade in before if trade["t"] > first["L"]]
    if first["O"] == last["O"]:
        assert Decimal(last["v"]) - Decimal(first["v"]) == sum(Decimal(trade["q"]) for trade in between)


def test_unwanted_streams_are_silent_and_start_anew() -> None:
    market = Market(["BTCUSDT"], rate=500)
    assert not market.want("xyzusdt@depth")
    assert not market.want("btcusdt@nothing")
    assert market.want("btcusdt@depth@100ms")
    assert market.want("btcusdt@depth@100ms")
    market.unwant("btcusdt@depth@100ms")
    first = [json.loads(said.frame)["data"] for said in market.step(START_NS + 10**9)]
    market.unwant("btcusdt@depth@100ms")
    assert len(first) == 9 or len(first) == 10
    # What was on its way leaves; then nothing.
    assert len(list(market.step(START_NS + 2 * 10**9))) <= 1
    assert market.want("btcusdt@depth@100ms")
    again = [json.loads(said.frame)["data"] for said in market.step(START_NS + 3 * 10**9)]
    assert again[0]["pu"] > first[-1]["u"]


def test_names_and_routes() -> None:
    assert parse_stream("btcusdt@depth") == ("BTCUSDT", "depth", 0, 250)
    assert parse_stream("btcusdt@depth@0ms") == ("BTCUSDT", "depth", 0, 50)
    assert parse_stream("btcusdt@depth10@500ms") == ("BTCUSDT", "partial", 10, 500)
    assert parse_stream("eth_perp@markPrice@1s") == ("ETH_PERP", "markPrice", 0, 1000)
    for wrong in ("BTCUSDT@depth", "btcusdt@depth@1ms", "btcusdt@depth7", "btcusdt", "", "btcusdt@aggTrade@100ms"):
        assert parse_stream(wrong) is None
    for name in ("a@depth", "a@depth@100ms", "a@depth20", "a@bookTicker", "!bookTicker", "a@rpiDepth@500ms"):
        assert route_of(name) == PUBLIC
    for name in ("a@aggTrade", "a@markPrice@1s", "a@kline_1m", "a@ticker", "a@forceOrder", "!ticker@arr"):
        assert route_of(name) == MARKET
    assert route_of("a@trade") == MARKET
    assert route_of("a@trade", PUBLIC) == PUBLIC
