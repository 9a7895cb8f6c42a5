"""Long seeded walks of a dense market beside the twin: full pages, far ladders, horizons and digits in all mixtures."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from reference import ReferenceBook

from mdfeed._book import Book

SIDES = ("bids", "asks")
Rows = list[tuple[str, str]]


class Market:
    """Draws rows around a touch that walks; most of them within a few hundred ticks, some far away."""

    def __init__(self, seed: int, tick: str) -> None:
        self.random = Random(seed)
        self.tick = Decimal(tick)
        self.touch = self.random.choice([400, 60_000, 5_000_000])

    def rows(self, sign: int, n: int, deletes: float) -> Rows:
        rows = []
        for _ in range(n):
            distance = self.random.randrange(20_000 if self.random.random() < 0.1 else 200)
            price = abs(self.touch + sign * distance) * self.tick
            qty = "0" if self.random.random() < deletes else f"{self.random.randrange(1, 10**6)}E-3"
            rows.append((str(price), qty))
        return rows

    def both(self, n: int, deletes: float) -> tuple[Rows, Rows]:
        return self.rows(-1, n, deletes), self.rows(1, n, deletes)

    def walk(self) -> None:
        self.touch = abs(self.touch + self.random.choice([0, 1, -1, 7, -30, 64, 500, -900]))


def assert_same(book: Book, twin: ReferenceBook) -> None:
    book.check()
    assert book.digest() == twin.digest()
    assert book.dropped_levels == twin.dropped_levels
    for side in SIDES:
        assert book.levels(side, None, True) == twin.levels(side, None, True)


@pytest.mark.parametrize("max_levels", [0, 150])
@pytest.mark.parametrize(("seed", "tick"), [(1, "1"), (2, "0.01"), (3, "0.25"), (4, "50")])
def test_a_walk_ends_like_the_twin(seed: int, tick: str, max_levels: int) -> None:
    market, random = Market(seed, tick), Random(seed)
    book, twin = Book(max_levels=max_levels), ReferenceBook(max_levels)
    for now in range(1, 250):
        market.walk()
        action = random.random()
        if now == 1 or action < 0.03:
            bids, asks = market.both(300, 0)
            limit = random.choice([0, 100])
            book.load_levels(now, bids, asks, limit)
            twin.load_levels(now, bids, asks, limit)
        elif action < 0.1:
            # The top as it stands, with other quantities: what a partial depth mostly is.
            bids, asks = ([(str(price), "5") for price, _ in twin.levels(side, 10)] for side in SIDES)
            assert book.replace_top_levels(now, bids, asks) == twin.replace_top_levels(now, bids, asks) == "applied"
        else:
            # Tides: the ladder fills for a while, then it is eaten.
            bids, asks = market.both(random.choice([3, 60, 200]), 0.25 if now % 60 < 40 else 0.9)
            status = book.apply_levels(now, now - 1, now, bids, asks)
            assert status == twin.apply_levels(now, now - 1, now, bids, asks) == "applied"
        if action > 0.97 and book.price_digits < 6:
            book.set_digits(book.price_digits + 1, book.qty_digits + 1)
        assert_same(book, twin)
    assert book.count_of("bids") > 50


def test_a_grid_too_coarse_to_scale_is_given_up() -> None:
    """Only price 0 is left on a grid of 10**17, so that more digits fit though the grid's step does not."""
    rows = [(f"{i}E+17", "1") for i in range(40)]
    book, twin = Book(), ReferenceBook()
    for each in (book, twin):
        each.load_levels(1, rows, rows)
        each.apply_levels(2, 1, 2, *[[(price, "0") for price, _ in rows[1:]] + [("1", "2"), ("7", "2")]] * 2)
    book.set_digits(2, 0)
    assert_same(book, twin)
    for each in (book, twin):
        each.apply_levels(3, 2, 3, *[[("1", "3"), ("0.01", "1"), ("7", "0"), ("0", "4")]] * 2)
    assert_same(book, twin)
