"""The book by hand-made cases, then on real captures beside its twin and the venue's own ticker."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdfeed._book import Book
from mdfeed.errors import DecodeError
from tests.reference import ReferenceBook

D = Decimal
SIDES = ("bids", "asks")


def make_book(bids: list[tuple[str, str]], asks: list[tuple[str, str]], limit: int = 0, **options: int) -> Book:
    book = Book(**options)
    book.load_levels(10, bids, asks, limit)
    book.check()
    return book


@pytest.fixture
def book() -> Book:
    return make_book([("100.5", "2"), ("100", "1.25"), ("99", "4")], [("101", "3"), ("102.5", "1")], limit=3)


# The continuity rule


def test_a_book_without_a_snapshot_takes_no_diff() -> None:
    book = Book()
    assert book.apply_levels(1, 0, 5, [("1", "1")], []) == "gap"
    assert (book.last_id, book.count_of("bids")) == (0, 0)


@pytest.mark.parametrize(
    ("prev_id", "last_id", "status"),
    [(10, 11, "applied"), (9, 11, "applied"), (3, 11, "applied"), (11, 12, "gap"), (9, 10, "old"), (2, 3, "old")],
)
def test_continuity(book: Book, prev_id: int, last_id: int, status: str) -> None:
    before = book.digest()
    assert book.apply_levels(prev_id + 1, prev_id, last_id, [("100", "7")], [], ts_event=5, recv_ns=6) == status
    assert (book.digest() != before) == (status == "applied")
    applied = (last_id, prev_id + 1, 5, 6)
    assert (book.last_id, book.first_id, book.ts_event, book.recv_ns) == (
        applied if status == "applied" else (10, 10, 0, 0)
    )


def test_quantities_are_absolute_and_zero_deletes(book: Book) -> None:
    book.apply_levels(11, 10, 11, [("100", "0"), ("98", "0"), ("99", "5"), ("99", "6")], [("101", "0.000")])
    assert book.levels("bids") == [(D("100.5"), D(2)), (D(99), D(6))]
    assert book.best_ask == (D("102.5"), D(1))


def test_a_snapshot_needs_an_id(book: Book) -> None:
    before = book.digest()
    with pytest.raises(ValueError, match="1 or more"):
        book.load_levels(0, [], [])
    assert book.digest() == before


# Numbers


@pytest.mark.parametrize("price", ["0", "9000000000000000000", "9223372036854775807"])
def test_every_price_of_63_bits_is_kept(price: str) -> None:
    book = make_book([(price, "1"), ("5", "2")], [(price, "3"), ("4611686018427387904", "4")])
    for side in SIDES:
        assert D(price) in dict(book.levels(side))
    assert book.apply_levels(1, 10, 11, [(price, "0")], [(price, "0")]) == "applied"
    book.check()
    assert (book.count_of("bids"), book.count_of("asks")) == (1, 1)


@pytest.mark.parametrize("value", ["9223372036854775808", "1E+19", "-1", "NaN", "Infinity", "ten", "1E-19"])
def test_what_does_not_fit_is_refused_before_anything_is_touched(book: Book, value: str) -> None:
    before = book.digest()
    for bids, asks in ([("7", "7"), (value, "1")], []), ([("7", "7")], [("200", value)]):
        with pytest.raises(DecodeError):
            book.apply_levels(11, 10, 11, bids, asks)
        book.check()
        assert (book.digest(), book.last_id) == (before, 10)


def test_floats_are_refused(book: Book) -> None:
    with pytest.raises(TypeError):
        book.apply_levels(11, 10, 11, [(1.5, "1")], [])  # type: ignore[list-item]


def test_digits_grow_with_longer_fractions_and_ignore_trailing_zeros(book: Book) -> None:
    assert (book.price_digits, book.qty_digits) == (1, 2)
    levels = book.levels("bids")
    book.apply_levels(11, 10, 11, [("100.50000000", "2.000")], [("101.00000001", "0.00001")])
    assert (book.price_digits, book.qty_digits) == (8, 5)
    assert book.levels("bids") == levels
    assert book.levels("asks")[1] == (D("101.00000001"), D("0.00001"))
    assert book.horizon("bids") == 99
    book.check()


def test_digits_that_do_not_fit_change_nothing() -> None:
    book = make_book([("9000000000000000000", "1")], [("5", "1")])
    before = book.digest()
    for price_digits, qty_digits in ((1, 0), (0, 19), (-1, 0)):
        with pytest.raises(ValueError, match="cannot go"):
            book.set_digits(price_digits, qty_digits)
    with pytest.raises(DecodeError):
        book.apply_levels(11, 10, 11, [], [("5.5", "1")])
    assert (book.digest(), book.price_digits, book.last_id) == (before, 0, 10)
    book.set_digits(0, 18)
    assert book.digest() == before


def test_values_are_exact_whatever_the_decimal_context() -> None:
    book = make_book([("123456789.12345678", "1")], [])
    with localcontext() as context:
        context.prec = 3
        assert str(book.levels("bids")[0][0]) == "123456789.12345678"


# The verified horizon and the cap


def test_a_side_shorter_than_the_limit_is_complete(book: Book) -> None:
    assert (book.horizon("bids"), book.horizon("asks")) == (99, D("Infinity"))
    book.apply_levels(11, 10, 11, [("98.9", "1"), ("99.1", "1")], [("5000", "1")])
    assert (book.verified_bids, book.count_of("bids")) == (4, 5)
    assert (book.verified_asks, book.count_of("asks")) == (3, 3)
    assert [price for price, _ in book.levels("bids", verified_only=True)] == [D("100.5"), 100, D("99.1"), 99]


def test_nothing_is_verified_without_a_snapshot() -> None:
    book = Book()
    assert (book.horizon("bids"), book.horizon("asks")) == (D("Infinity"), D("-Infinity"))


def test_the_farthest_goes_first_and_takes_the_horizon_along() -> None:
    book = make_book([("3", "1"), ("2", "1"), ("1", "1")], [("4", "1")], max_levels=3)
    book.apply_levels(11, 10, 11, [("3.5", "1"), ("0.5", "1")], [])
    assert [price for price, _ in book.levels("bids")] == [D("3.5"), 3, 2]
    assert book.dropped_levels == 2
    # 1 was dropped, and then 0.5 at once: what lies above 1 is known, and nothing else (tenths by now).
    assert book.horizon("bids") == D("1.1")
    book.apply_levels(12, 11, 12, [("3.5", "0"), ("3", "0"), ("1", "1")], [])
    assert book.levels("bids", verified_only=True) == [(D(2), D(1))]
    book.set_digits(3, 0)
    book.apply_levels(13, 12, 13, [("1.001", "1")], [])
    assert [price for price, _ in book.levels("bids", verified_only=True)] == [2, D("1.001")]
    book.check()


def test_a_partial_replaces_the_top_and_keeps_the_rest_unverified(book: Book) -> None:
    assert book.replace_top_levels(10, [], []) == "old"
    assert book.replace_top_levels(12, [("100.2", "1"), ("99.5", "2")], []) == "applied"
    assert book.levels("bids") == [(D("100.2"), D(1)), (D("99.5"), D(2)), (D(99), D(4))]
    assert book.levels("bids", verified_only=True) == book.levels("bids", 2)
    assert book.count_of("asks") == 0
    book.check()


def test_swap_exchanges_all_but_the_counters(book: Book) -> None:
    other = make_book([("7.123", "1")], [], max_levels=1)
    other.apply_levels(11, 10, 15, [("8", "1")], [], ts_event=3, recv_ns=4)
    mine, its = book.digest(), other.digest()
    book.swap_with(other)
    assert (book.digest(), other.digest()) == (its, mine)
    assert (book.last_id, book.ts_event, book.recv_ns, book.price_digits) == (15, 3, 4, 3)
    assert (other.last_id, other.price_digits) == (10, 1)
    assert (book.dropped_levels, other.dropped_levels) == (0, 1)
    assert book.horizon("bids") == D("7.124")
    book.swap_with(book)
    book.check()
    other.check()


def test_differences_count_inside_both_horizons_only(book: Book) -> None:
    other = make_book([("100.50", "2"), ("100", "1.250"), ("98", "4")], [("101", "3"), ("102.501", "1")])
    # 99 is missing in the other and lies inside both; 98 lies outside the first one's. Of the asks 102.5 and 102.501.
    assert book.differences_from(other) == other.differences_from(book) == 3
    assert book.differences_from(book) == 0
    assert book.differences_from(Book()) == 0


def test_reset_forgets_levels_ids_and_horizon(book: Book) -> None:
    book.reset()
    assert (book.last_id, book.first_id, book.count_of("bids"), book.verified_asks) == (0, 0, 0, 0)
    assert book.apply_levels(11, 10, 11, [("1", "1")], []) == "gap"


# What Python reads


def test_views_of_the_top(book: Book) -> None:
    assert (book.best_bid, book.best_ask) == ((D("100.5"), D(2)), (D(101), D(3)))
    assert (book.mid, book.spread, book.crossed) == (D("100.75"), D("0.5"), False)
    assert book.microprice == pytest.approx((100.5 * 3 + 101 * 2) / 5)
    assert book.imbalance() == pytest.approx(-0.2)
    assert book.imbalance(3) == pytest.approx((7.25 - 4) / 11.25)
    assert book.vwap("asks", "3.5") == (3 * D(101) + D("0.5") * D("102.5")) / D("3.5")
    assert book.vwap("bids", D(2)) == D("100.5")
    assert book.vwap("asks", 5) is None
    with pytest.raises(ValueError, match="above 0"):
        book.vwap("asks", 0)
    with pytest.raises(ValueError, match="'bids' or 'asks'"):
        book.count_of("offers")  # type: ignore[arg-type]


def test_an_empty_side_has_no_mid() -> None:
    book = make_book([("1", "1")], [])
    assert (book.mid, book.spread, book.microprice, book.best_ask, book.crossed) == (None, None, None, None, False)
    assert Book().imbalance() is None


def test_crossed_includes_locked(book: Book) -> None:
    book.apply_levels(11, 10, 11, [("101", "1")], [])
    assert book.crossed
    assert book.spread == 0


def test_arrays_keep_the_book_of_their_moment(book: Book) -> None:
    bids = np.asarray(book.bids)
    assert bids.dtype == np.float64
    assert bids.tolist() == [[100.5, 2.0], [100.0, 1.25], [99.0, 4.0]]
    assert not bids.flags.writeable
    book.reset()
    assert bids[0, 0] == 100.5
    assert np.asarray(book.asks).shape == (0, 2)
    assert len(book.bids) == 0


def test_digest_is_of_plain_text() -> None:
    book = make_book([("0.00000100", "1200"), ("0.5", "10.50")], [("1E+3", "0.001")])
    text = "b,0.5,10.5\nb,0.000001,1200\na,1000,0.001\n"
    assert book.digest() == hashlib.sha256(text.encode()).hexdigest()


def test_arguments_are_checked() -> None:
    for options in ({"price_digits": 19}, {"qty_digits": -1}, {"max_levels": -1}):
        with pytest.raises(ValueError, match=r"digits|max_levels"):
            Book(**options)


# Memory


def ladder(start: int, step: int, n: int = 1000) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return (
        [(str(start - i * step), "1") for i in range(n)],
        [(str(start + step + i * step), "1") for i in range(n)],
    )


@pytest.mark.parametrize("step", [1, 7, 64, 97, 100, 1009, 12_500, 999_983])
def test_a_book_of_1000_levels_is_small_however_sparse(step: int) -> None:
    book = make_book(*ladder(10_000_000_000, step))
    assert book.count_of("bids") == book.count_of("asks") == 1000
    assert book.memory_bytes < 150_000  # 500 of them: 75 MB


def test_an_empty_book_holds_nothing() -> None:
    assert Book().memory_bytes < 1000


def test_digits_finer_than_the_tick_cost_nothing() -> None:
    coarse, fine = make_book(*ladder(600_000, 1)), Book(price_digits=8)
    fine.load_levels(10, *ladder(600_000, 1))
    assert fine.memory_bytes <= coarse.memory_bytes * 1.5
    fine.check()


def test_memory_does_not_grow_with_a_wandering_market() -> None:
    book = Book(max_levels=100)
    book.load_levels(1, *ladder(5_000_000, 1, 100))
    peak = 0
    for i in range(120):
        touch = 5_000_000 + i * 300
        rows = [(str(touch - k), "1") for k in range(100)]
        gone = [(str(touch - 300 + k), "0") for k in range(301)]
        book.apply_levels(i + 2, i + 1, i + 2, rows, gone + [(str(touch + 1 + k), "1") for k in range(100)])
        peak = max(peak, book.memory_bytes)
    book.check()
    assert peak < 60_000
    assert book.best_bid == (D(5_000_000 + 119 * 300), D(1))


STARVE = """
import resource
from mdfeed._book import Book

def rows(batch):
    return [(str(9 * 10**18 - (batch * 2000 + i) * 1_000_003), "1") for i in range(2000)]

book = Book()
book.load_levels(1, rows(0), [])
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (3 << 20), resource.RLIM_INFINITY))
try:
    for batch in range(1, 1000):
        book.apply_levels(batch, batch, batch + 1, rows(batch), [])
except MemoryError as error:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    book.check()
    print(error, book.last_id, book.count_of("bids"))
    book.load_levels(5, rows(0), rows(1))
    book.check()
    print("then", book.count_of("asks"))
"""


def test_no_memory_is_an_error_and_not_a_crash() -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists() or "libasan" in maps.read_text():
        pytest.skip("needs Linux and an address space limit, which AddressSanitizer does not bear")
    done = subprocess.run([sys.executable, "-c", STARVE], capture_output=True, text=True, timeout=100)
    assert done.stdout == "the book is cleared 0 0\nthen 2000\n", done.stderr


# Real captures


def read_frames(*paths: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        with gzip.open(path, "rt") as lines:
            for line in lines:
                yield json.loads(line.partition(" ")[2])


CAPTURES = {
    "usdm": (["usdm/btcusdt_20240718.gz", "usdm/btcusdt_20240719.gz"], 9017, 0),
    "spot": (["spot/ethusdt_20240808.gz"], 3432, 2),
    "cm": (["cm/ethusd_perp_20240808.gz"], 22887, 0),
}


@pytest.mark.parametrize("venue", CAPTURES)
def test_real_captures_end_like_the_twin_and_agree_with_the_ticker(data_dir: Path, venue: str) -> None:
    names, expected, tolerated = CAPTURES[venue]
    book, twin = Book(), ReferenceBook()
    early: list[tuple[Any, ...]] = []
    tickers: list[dict[str, Any]] = []
    tops: list[tuple[int, Any, Any]] = []
    applied = 0
    for frame in read_frames(*(data_dir / "hft" / name for name in names)):
        if "lastUpdateId" in frame:
            args = frame["lastUpdateId"], frame["bids"], frame["asks"], 1000
            book.load_levels(*args)
            twin.load_levels(*args)
            diffs, early = early, []
        elif "@depth" in frame["stream"]:
            data = frame["data"]
            diffs = [(data["U"], data.get("pu", data["U"] - 1), data["u"], data["b"], data["a"])]
        else:
            if "@bookTicker" in frame["stream"]:
                tickers.append(frame["data"])
            continue
        for diff in diffs:
            status = book.apply_levels(*diff)
            assert status == twin.apply_levels(*diff)
            if status == "applied":
                applied += 1
                tops.append((book.last_id, book.best_bid, book.best_ask))
            elif book.last_id == 0:
                early.append(diff)
            else:
                assert status == "old"
    book.check()
    assert applied == expected
    assert book.digest() == twin.digest()
    for side in SIDES:
        assert book.levels(side, None, True) == twin.levels(side, None, True)

    # After a diff with final id u the top is the newest ticker's with an id up to u.
    tickers.sort(key=lambda ticker: int(ticker["u"]))
    judged, wrong, i = 0, [], 0
    for last_id, bid, ask in tops:
        while i + 1 < len(tickers) and tickers[i + 1]["u"] <= last_id:
            i += 1
        if tickers[i]["u"] > last_id or last_id > tickers[-1]["u"]:
            continue
        shown = tickers[i]
        judged += 1
        if (bid, ask) != ((D(shown["b"]), D(shown["B"])), (D(shown["a"]), D(shown["A"]))):
            wrong.append(last_id)
    assert judged > 0.9 * applied
    assert len(wrong) <= tolerated, wrong
