"""The matching engine against a slow and plainly right twin; the truth log against replay; the market's seed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdfeed.exchange.market import START_NS, Market
from mdfeed.exchange.matching import ASK, BID, OrderBook
from mdfeed.exchange.profiles import profile_for, symbol_names
from mdfeed.exchange.truth import CHUNK_CHANGES, Truth

OPS = st.lists(
    st.one_of(
        st.tuples(st.just("limit"), st.sampled_from((BID, ASK)), st.integers(95, 105), st.integers(1, 20)),
        st.tuples(st.just("market"), st.sampled_from((BID, ASK)), st.just(0), st.integers(1, 40)),
        st.tuples(st.just("cancel"), st.just(0), st.integers(0, 60), st.just(1)),
    ),
    max_size=60,
)


class Twin:
    """Orders in one list in order of arrival: [order, side, price, qty]."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []

    def take(self, side: int, qty: int, bound: int | None) -> tuple[list[tuple[int, int, int]], int]:
        fills = []
        while qty:
            others = [o for o in self.orders if o[1] != side]
            if side == BID:
                others = [o for o in others if bound is None or o[2] <= bound]
                best = min(others, key=lambda o: o[2], default=None)
            else:
                others = [o for o in others if bound is None or o[2] >= bound]
                best = max(others, key=lambda o: o[2], default=None)
            if best is None:
                break
            traded = min(qty, best[3])
            fills.append((best[0], best[2], traded))
            best[3] -= traded
            qty -= traded
            self.orders = [o for o in self.orders if o[3]]
        return fills, qty

    def levels(self, side: int) -> dict[int, int]:
        totals: dict[int, int] = {}
        for _, at, price, qty in self.orders:
            if at == side:
                totals[price] = totals.get(price, 0) + qty
        return totals


@settings(max_examples=300, deadline=None)
@given(OPS)
def test_engine_equals_twin(ops: list[tuple[str, int, int, int]]) -> None:
    book, twin = OrderBook(), Twin()
    replayed: tuple[dict[int, int], dict[int, int]] = ({}, {})
    placed = filled = cancelled = 0
    for order, (what, side, number, qty) in enumerate(ops):
        if what == "limit":
            placed += qty
            fills = book.limit(order, side, number, qty)
            expected, rest = twin.take(side, qty, number)
            if rest:
                twin.orders.append([order, side, number, rest])
        elif what == "market":
            fills = book.market(side, qty)
            expected, _ = twin.take(side, qty, None)
        else:
            known = [o for o in twin.orders if o[0] == number]
            assert book.cancel(number) == bool(known)
            cancelled += sum(o[3] for o in known)
            twin.orders = [o for o in twin.orders if o[0] != number]
            fills, expected = [], []
        assert [tuple(fill) for fill in fills] == expected
        filled += sum(fill.qty for fill in fills) * (2 if what == "limit" else 1)
        for at, price, total in book.changes:
            if total:
                replayed[at][price] = total
            else:
                replayed[at].pop(price, None)
        book.changes.clear()
        for at in (BID, ASK):
            levels = {price: level.qty for price, level in book.side(at).levels.items()}
            assert levels == twin.levels(at) == replayed[at]
            assert book.side(at).prices == sorted(levels)
            assert all(level.qty == sum(level.orders.values()) for level in book.side(at).levels.values())
        bid, ask = book.best_bid(), book.best_ask()
        assert not (bid and ask) or bid < ask
    resting = sum(qty for *_, qty in twin.orders)
    # Every quantity placed rests, was cancelled, or traded (a limit order's trade takes from both of its sides).
    assert placed == resting + cancelled + filled


def test_engine_refuses_nonsense() -> None:
    book = OrderBook()
    book.limit(1, BID, 100, 5)
    for order, price, qty in ((1, 100, 5), (2, 0, 5), (2, 100, 0)):
        with pytest.raises(ValueError, match="order"):
            book.limit(order, BID, price, qty)
    with pytest.raises(ValueError, match="quantity"):
        book.market(ASK, 0)
    assert book.top() == (100, 5, 0, 0)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_truth_replays_any_id(rng) -> None:  # type: ignore[no-untyped-def]
    profile = profile_for("BTCUSDT")
    truth = Truth(profile, 100)
    states: dict[int, tuple[dict[int, int], dict[int, int]]] = {100: ({}, {})}
    update_id = 100
    book: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for _ in range(50):
        update_id += rng.randrange(1, 5)
        changes = []
        for _ in range(rng.randrange(1, 4)):
            side, price, qty = rng.randrange(2), rng.randrange(1, 9), rng.randrange(4)
            changes.append((side, price, qty))
            if qty:
                book[side][price] = qty
            else:
                book[side].pop(price, None)
        truth.note(update_id, changes)
        states[update_id] = (book[0].copy(), book[1].copy())
    for asked in [rng.randrange(100, update_id + 1) for _ in range(40)]:
        at = max(known for known in states if known <= asked)
        found = truth.book_at(asked)
        assert (found.bids, found.asks) == states[at]
    for outside in (99, update_id + 1):
        with pytest.raises(LookupError):
            truth.book_at(outside)


def test_truth_is_bounded_and_exact_over_chunks() -> None:
    truth = Truth(profile_for("BTCUSDT"), 0, changes_max=3 * CHUNK_CHANGES)
    for update_id in range(1, 6 * CHUNK_CHANGES):
        truth.note(update_id, [(update_id % 2, update_id % 1000 + 1, update_id)])
    assert truth.first_id > 0
    with pytest.raises(LookupError):
        truth.book_at(truth.first_id - 1)
    for asked in (truth.first_id, truth.first_id + CHUNK_CHANGES + 5, truth.last_id):
        book = truth.book_at(asked)
        expected = {i % 1000 + 1: i for i in range(asked - 999, asked + 1)}
        assert book.bids == {price: i for price, i in expected.items() if i % 2 == 0}
        assert book.asks == {price: i for price, i in expected.items() if i % 2}
    assert sum(len(chunk.changes) for chunk in truth._chunks) <= 3 * 3 * CHUNK_CHANGES


def run(market: Market, seconds: float) -> list[tuple[int, str, bytes]]:
    return [tuple(said) for said in market.step(START_NS + int(seconds * 1e9))]


def test_market_is_its_seed() -> None:
    names = ("btcusdt@depth@100ms", "ethusdt@bookTicker", "btcusdt@aggTrade")
    frames = []
    for seed in (7, 7, 8):
        market = Market(["BTCUSDT", "ETHUSDT"], seed=seed, rate=200)
        assert all(market.want(name) for name in names)
        frames.append(run(market, 5))
    assert frames[0] == frames[1] != frames[2]
    assert {stream for _, stream, _ in frames[0]} == set(names)
    assert [time_ns for time_ns, *_ in frames[0]] == sorted(time_ns for time_ns, *_ in frames[0])


def test_listening_changes_nothing() -> None:
    heard, unheard = (Market(["BTCUSDT", "SYM001USDT"], seed=3, rate=200) for _ in range(2))
    for name in ("btcusdt@depth", "btcusdt@trade", "sym001usdt@ticker", "sym001usdt@depth20@100ms"):
        assert heard.want(name)
    assert run(heard, 5)
    heard.unwant("btcusdt@depth")
    run(heard, 6)
    assert run(unheard, 6) == []
    for symbol in heard.symbols:
        last_id = heard.truth(symbol).last_id
        assert unheard.truth(symbol).last_id == last_id
        assert heard.truth(symbol).book_at(last_id) == unheard.truth(symbol).book_at(last_id)
        assert heard.tape(symbol).aggs == unheard.tape(symbol).aggs


def test_market_stays_deep_uncrossed_and_moves() -> None:
    market = Market(["BTCUSDT"], seed=5, rate=1000)
    tops = set()
    for second in range(1, 31):
        assert run(market, second) == []
        book = market.truth("BTCUSDT").book_at(market.truth("BTCUSDT").last_id)
        assert max(book.bids) < min(book.asks)
        assert len(book.bids) > 1000
        assert len(book.asks) > 1000
        tops.add(max(book.bids))
    assert len(tops) > 5
    snapshot = json.loads(market.depth("BTCUSDT", 1000) or "")
    assert len(snapshot["bids"]) == len(snapshot["asks"]) == 1000
    assert [tuple(row) for row in snapshot["bids"]] == book.levels("bids", 1000)


def test_profiles_write_as_the_venue_does() -> None:
    btc = profile_for("BTCUSDT")
    assert (btc.tick_size, btc.step_size, btc.price_text(618002), btc.qty_text(2507)) == (
        "0.10",
        "0.001",
        "61800.20",
        "2.507",
    )
    assert profile_for("SYM007USDT") == profile_for("SYM007USDT")
    names = symbol_names(500)
    assert len(set(names)) == 500
    assert names[4] == "SYM000USDT"
