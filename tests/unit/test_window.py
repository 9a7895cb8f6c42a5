from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdfeed._window import Window

MINUTE = 60_000_000_000
DAY = 1440 * MINUTE
START = 29_455_323 * MINUTE + 11


@dataclass
class Twin:
    """The obviously right one: all trades in a list, in their order of arrival."""

    trades: list[tuple[int, int, int]] = field(default_factory=list)
    newest: int = 0

    def add(self, ts: int, price: int, qty: int) -> None:
        self.newest = max(self.newest, ts // MINUTE)
        if ts // MINUTE > self.newest - 1441:
            self.trades.append((ts, price, qty))

    def figures(self, now: int) -> dict[str, int] | None:
        self.newest = max(self.newest, now // MINUTE)
        inside = [trade for trade in self.trades if trade[0] // MINUTE > self.newest - 1441]
        if not inside:
            return None
        minutes = sorted({ts // MINUTE for ts, _, _ in inside})
        prices = [price for _, price, _ in inside]
        return {
            "open": next(price for ts, price, _ in inside if ts // MINUTE == minutes[0]),
            "high": max(prices),
            "low": min(prices),
            "volume": sum(qty for _, _, qty in inside),
            "quote_volume": sum(price * qty for _, price, qty in inside),
            "count": len(inside),
        }


def known() -> Window:
    """A window that knows its first 24 h: the venue said that there was no trade."""
    window = Window(2, 3)
    window.seed(0, 0, 0, 0, 0, 0, START - DAY, START, last=5)
    return window


STEP = st.integers(-90, 90) | st.integers(1300, 1500) | st.just(3000)
QTY = st.integers(0, 1 << 40)


@settings(max_examples=300)
@given(st.lists(st.tuples(STEP, st.integers(0, MINUTE - 1), st.integers(1, 1000), QTY, st.booleans()), max_size=60))
def test_equals_the_twin_for_any_order_of_trades(steps: list[tuple[int, int, int, int, bool]]) -> None:
    window, twin = known(), Twin()
    now = START + 1
    for minutes, ns, price, qty, looks in steps:
        ts = max(START + 1, now + minutes * MINUTE + ns)
        now = max(now, ts)
        window.add_trade(ts, price, qty)
        twin.add(ts, price, qty)
        if looks:
            # Looking back in time changes nothing.
            expected = twin.figures(ts)
            got = window.figures(ts)
            assert got is not None
            assert expected is None or got == expected
    for later in (0, 700, 1439, 1440, 1441):
        expected = twin.figures(now + later * MINUTE)
        got = window.figures(now + later * MINUTE)
        assert got is not None
        if expected is None:
            assert (got["volume"], got["count"]) == (0, 0)
            assert got["high"] == got["low"] == got["open"] > 0
        else:
            assert got == expected


@given(st.lists(st.tuples(st.integers(1, 3 * DAY), QTY), min_size=1, max_size=200).map(sorted))
def test_is_wrong_by_the_edge_minute_at_most(trades: list[tuple[int, int]]) -> None:
    window = known()
    for offset, qty in trades:
        window.add_trade(START + offset, 100, qty)
    now = trades[-1][0]
    figures = window.figures(START + now)
    assert figures is not None
    exact = sum(qty for offset, qty in trades if offset >= now - DAY)
    with_edge = sum(qty for offset, qty in trades if offset >= now - DAY - MINUTE)
    assert exact <= figures["volume"] <= with_edge


def test_unknown_until_24_h_were_seen() -> None:
    window = Window(2, 3)
    assert window.figures(START) is None
    window.add_trade(START, 100, 1)
    assert window.figures(START + DAY - 2 * MINUTE) is None
    assert window.vwap(START) is None
    window.add_trade(START + DAY - MINUTE, 101, 2)
    figures = window.figures(START + DAY)
    assert figures is not None
    assert (figures["open"], figures["count"], figures["quote_volume"]) == (100, 2, 302)


def test_a_seed_is_right_at_once_and_ages_towards_own_minutes() -> None:
    window = Window(2, 3)
    window.add_trade(START - 100 * MINUTE, 150, 30)
    window.add_trade(START - 50 * MINUTE, 150, 10)
    window.seed(100, 200, 50, 1440, 144_000, 720, START - DAY, START, last=120)
    expected = {"open": 100, "high": 200, "low": 50, "volume": 1440, "quote_volume": 144_000, "count": 720}
    assert window.figures(START) == expected
    # The ring holds 40 of the 1440; the rest was traded before it began, and leaves evenly.
    half = window.figures(START + 670 * MINUTE)
    assert half is not None
    assert half["volume"] == pytest.approx(40 + 1400 / 2, abs=2)
    assert (half["high"], half["low"], half["open"]) == (200, 50, 100)
    own = window.figures(START + 1341 * MINUTE)
    assert own == {"open": 150, "high": 150, "low": 150, "volume": 10, "quote_volume": 1500, "count": 1}


def test_trades_that_a_seed_covers_are_not_counted_twice() -> None:
    window = Window(2, 3)
    window.seed(100, 200, 50, 1440, 144_000, 720, START - DAY, START)
    window.add_trade(START - 5, 300, 9)
    window.add_trade(START + 5, 110, 10)
    figures = window.figures(START)
    assert figures is not None
    assert (figures["volume"], figures["count"], figures["high"]) == (1450, 721, 200)


def test_seeding_again_and_again_keeps_to_what_the_venue_says() -> None:
    window = Window(2, 3)
    for second in range(0, 600, 2):
        now = START + second * 1_000_000_000
        window.seed(100, 200, 50, 1440 + second, 144_000, 720, now - DAY, now)
        figures = window.figures(now)
        assert figures is not None
        assert figures["volume"] == pytest.approx(1440 + second, abs=2)
        window.add_trade(now + 1, 100, 2)


def test_a_stale_seed_changes_nothing() -> None:
    window = Window(2, 3)
    window.seed(100, 200, 50, 1440, 144_000, 720, START - DAY, START)
    before = window.figures(START)
    window.seed(1, 2, 1, 1, 1, 1, START - DAY - 1, START - 1)
    assert window.figures(START) == before


@given(st.data())
def test_minutes_replace_the_estimate_by_the_truth(data: st.DataObject) -> None:
    """Ticker, then klines, then own trades: from the klines on the figures are the twin's."""
    minute0 = START // MINUTE
    rows = []
    truth = Twin()
    for number in range(minute0 - 1439, minute0 + 1):
        if number % 97 and number != minute0:
            continue
        price, qty = data.draw(st.tuples(st.integers(1, 1000), st.integers(1, 1 << 40)))
        rows.append((number * MINUTE, price, price, price, qty, price * qty, 1))
        truth.add(number * MINUTE, price, qty)
    expected = truth.figures(START)
    assert expected is not None
    window = Window(2, 3)
    window.seed(*expected.values(), START - DAY, START)
    window.seed_minutes(reversed(rows))
    assert window.figures(START) == expected
    for offset in data.draw(st.lists(st.integers(1, 2 * DAY), max_size=30)):
        window.add_trade(START + offset, 500, 3)
        truth.add(START + offset, 500, 3)
    for later in (0, 200, 1439):
        expected = truth.figures(START + later * MINUTE)
        got = window.figures(START + later * MINUTE)
        assert expected is None or got == expected


def test_trades_outside_of_all_time_are_dropped_and_counted() -> None:
    window = known()
    window.add_trade(START + 3 * DAY, 100, 1)
    window.add_trade(START + DAY, 100, 1)
    window.add_trade(-1, 100, 1)
    assert window.dropped == 2


def test_sums_pass_64_bits_and_what_does_not_fit_128_is_dropped() -> None:
    window = known()
    large = 1 << 61
    for second in range(20):
        window.add_trade(START + 1 + second, large, large)
    figures = window.figures(START)
    assert figures is not None
    assert (figures["volume"], figures["quote_volume"]) == (16 * large, 16 * large * large)
    assert window.dropped == 4


@given(st.integers(0, 6), st.integers(0, 6))
def test_more_digits_lose_nothing(price: int, qty: int) -> None:
    window, scaled = known(), Window(2 + price, 3 + qty)
    scaled.seed(0, 0, 0, 0, 0, 0, START - DAY, START, last=5 * 10**price)
    for i in range(5):
        window.add_trade(START + 1 + i * 300 * MINUTE, 10 + i, 7)
        scaled.add_trade(START + 1 + i * 300 * MINUTE, (10 + i) * 10**price, 7 * 10**qty)
    window.grow_digits(2 + price, 3 + qty)
    for later in (0, 700, 1600, 3000):
        assert window.figures(START + later * MINUTE) == scaled.figures(START + later * MINUTE)
    assert (window.price_digits, window.qty_digits) == (2 + price, 3 + qty)


def test_digits_that_do_not_fit_change_nothing() -> None:
    window = known()
    window.add_trade(START + 1, 1 << 60, 5)
    before = window.figures(START)
    with pytest.raises(OverflowError):
        window.grow_digits(4, 3)
    with pytest.raises(OverflowError):
        window.grow_digits(1, 3)
    assert window.figures(START) == before
    assert (window.price_digits, window.qty_digits) == (2, 3)


def test_vwap() -> None:
    window = known()
    assert window.vwap(START) is None
    window.add_trade(START + 1, 10_000, 1000)
    window.add_trade(START + 2, 20_000, 3000)
    assert window.vwap(START) == 175.0


def test_an_old_trade_makes_nothing_known() -> None:
    window = Window(1, 3)
    window.add_trade(START - 3 * DAY, 100, 5, now_ns=START)
    assert window.figures(START) is None
    window.add_trade(START, 110, 5, now_ns=START)
    assert window.figures(START + DAY - 3 * MINUTE) is None
    figures = window.figures(START + DAY)
    assert figures is not None
    assert (figures["open"], figures["high"], figures["volume"]) == (110, 110, 5)
