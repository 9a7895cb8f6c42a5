"""The book against its obviously right twin, step by step, whatever the order of what happens to it."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mdfeed._book import Book
from mdfeed.errors import DecodeError
from tests.reference import ReferenceBook

SIDES = ("bids", "asks")
MAX_INT = 2**63 - 1

near = st.integers(-150, 150)
qtys = st.one_of(st.just("0"), st.integers(1, 500).map(str), st.decimals("0.001", "9", places=3).map(str))


class BookMachine(RuleBasedStateMachine):
    """Prices walk around `centre`, a whole number of `tick`; now and then one is off the grid or very far."""

    @initialize(
        max_levels=st.sampled_from([0, 0, 3, 20, 60]),
        centre=st.sampled_from([0, 300, 50_000, 640_000]),
        tick=st.sampled_from(["1", "0.1", "0.05", "25"]),
    )
    def start(self, max_levels: int, centre: int, tick: str) -> None:
        self.cap = max_levels
        self.book, self.twin = Book(max_levels=max_levels), ReferenceBook(max_levels)
        self.shadow, self.shadow_twin = Book(max_levels=max_levels), ReferenceBook(max_levels)
        self.centre, self.tick = centre, Decimal(tick)

    def rows(self, data: st.DataObject, least: int = 0, most: int = 40) -> list[tuple[str, str]]:
        steps = data.draw(st.lists(st.tuples(near, qtys), min_size=least, max_size=most))
        rows = [(str(abs(self.centre + step) * self.tick), qty) for step, qty in steps]
        if data.draw(st.integers(0, 3)) == 0:
            far = st.one_of(
                st.sampled_from(["0", "556.8", "642025", "9000000000"]),
                st.integers(0, 10**9).map(str),
                st.decimals("0.01", "700000", places=2).map(str),
            )
            rows += data.draw(st.lists(st.tuples(far, qtys), max_size=8))
        return rows

    def run_of_levels(self, data: st.DataObject) -> list[tuple[str, str]]:
        """Many neighbours with one quantity: what fills pages, and empties them."""
        first, n = data.draw(near), data.draw(st.integers(1, 160))
        qty = data.draw(qtys)
        return [(str(abs(self.centre + first + i) * self.tick), qty) for i in range(n)]

    def feed(self, prev_id: int, last_id: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
        status = self.book.apply_levels(prev_id + 1, prev_id, last_id, bids, asks)
        assert status == self.twin.apply_levels(prev_id + 1, prev_id, last_id, bids, asks)

    @rule(data=st.data(), limit=st.sampled_from([0, 1, 10, 40, 1000]), ahead=st.integers(1, 20))
    def load(self, data: st.DataObject, limit: int, ahead: int) -> None:
        last_id = self.twin.last_id + ahead
        bids, asks = self.rows(data, most=60), self.rows(data, most=60)
        self.book.load_levels(last_id, bids, asks, limit)
        self.twin.load_levels(last_id, bids, asks, limit)

    @rule(data=st.data(), overlap=st.integers(0, 5), ahead=st.integers(1, 9))
    def apply(self, data: st.DataObject, overlap: int, ahead: int) -> None:
        self.feed(self.twin.last_id - overlap, self.twin.last_id + ahead, self.rows(data), self.rows(data))

    @rule(data=st.data(), behind=st.integers(0, 9))
    def apply_old(self, data: st.DataObject, behind: int) -> None:
        last_id = self.twin.last_id - behind
        self.feed(last_id - 1, last_id, self.rows(data, most=3), self.rows(data, most=3))

    @rule(data=st.data(), hole=st.integers(1, 9))
    def apply_after_a_gap(self, data: st.DataObject, hole: int) -> None:
        last_id = self.twin.last_id + hole
        self.feed(last_id, last_id + 1, self.rows(data, most=3), self.rows(data, most=3))

    @rule(data=st.data())
    def apply_run(self, data: st.DataObject) -> None:
        self.feed(self.twin.last_id, self.twin.last_id + 1, self.run_of_levels(data), self.run_of_levels(data))

    @rule(steps=st.integers(-30_000, 30_000))
    def drift(self, steps: int) -> None:
        self.centre = abs(self.centre + steps)

    @rule(step=st.sampled_from([-97, 61, 997]))
    def march(self, step: int) -> None:
        """The touch walks away in one go, far enough to leave the window of pages."""
        rows = []
        for _ in range(150):
            self.centre = abs(self.centre + step)
            rows.append((str(self.centre * self.tick), "1"))
        self.feed(self.twin.last_id, self.twin.last_id + 1, rows, rows[::2])

    @rule(data=st.data(), ahead=st.integers(-2, 9))
    def replace_top(self, data: st.DataObject, ahead: int) -> None:
        last_id = max(1, self.twin.last_id + ahead)
        bids, asks = self.rows(data, most=20), self.rows(data, most=20)
        status = self.book.replace_top_levels(last_id, bids, asks)
        assert status == self.twin.replace_top_levels(last_id, bids, asks)

    @rule(price_more=st.sampled_from([0, 1, 2, 17]), qty_more=st.sampled_from([0, 1, 3, 17]))
    def rescale(self, price_more: int, qty_more: int) -> None:
        price_digits, qty_digits = self.book.price_digits + price_more, self.book.qty_digits + qty_more
        rows = [row for side in SIDES for row in self.twin.levels(side)]
        fits = max(price_digits, qty_digits) <= 18 and all(
            price * 10**price_digits <= MAX_INT and qty * 10**qty_digits <= MAX_INT for price, qty in rows
        )
        before = self.book.price_digits, self.book.qty_digits
        if fits and (price_digits > 9 or qty_digits > 15):
            return  # the book would take it, and then refuse the prices that this machine feeds
        try:
            self.book.set_digits(price_digits, qty_digits)
        except ValueError:
            assert not fits
            assert (self.book.price_digits, self.book.qty_digits) == before
        else:
            assert fits

    @rule(value=st.sampled_from(["9300000000000000000", "1E+30", "-1", "NaN", "x", "1E-19", "0.0000000000000000001"]))
    def refuse(self, value: str) -> None:
        for row in ((value, "1"), ("1", value)):
            try:
                self.book.apply_levels(1, self.twin.last_id, self.twin.last_id + 1, [row], [])
            except DecodeError:
                continue
            raise AssertionError(f"{value} was taken")

    @rule()
    def swap(self) -> None:
        self.book.swap_with(self.shadow)
        self.twin, self.shadow_twin = self.shadow_twin, self.twin

    @rule()
    def reset(self) -> None:
        self.book.reset()
        self.twin.reset()

    @precondition(lambda self: self.twin.last_id > 0)
    @rule(data=st.data())
    def copy_into_shadow(self, data: st.DataObject) -> None:
        """A shadow that knows the same levels, less and more a few."""
        bids, asks = self.twin.levels("bids"), self.twin.levels("asks")
        extra = self.rows(data, most=4)
        for shadow in (self.shadow, self.shadow_twin):
            shadow.load_levels(self.twin.last_id, bids + [(Decimal(p), Decimal(q)) for p, q in extra], asks[:-1], 0)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "twin"):
            return
        book, twin = self.book, self.twin
        book.check()
        self.shadow.check()
        assert (book.last_id, book.first_id) == (twin.last_id, twin.first_id)
        for side in SIDES:
            levels = twin.levels(side)
            assert book.levels(side) == levels
            assert book.count_of(side) == len(levels)
            verified = twin.levels(side, None, True)
            assert book.levels(side, None, True) == verified
            assert book.levels(side, 5, True) == verified[:5]
            assert (book.verified_bids if side == "bids" else book.verified_asks) == len(verified)
        assert book.best_bid == next(iter(twin.levels("bids", 1)), None)
        assert book.best_ask == next(iter(twin.levels("asks", 1)), None)
        assert book.crossed == twin.crossed
        assert book.digest() == twin.digest()
        # The digits of the two may differ. Dropped levels are counted by the object, and stay through a swap.
        assert book.differences_from(self.shadow) == twin.differences_from(self.shadow_twin)
        assert self.shadow.differences_from(book) == twin.differences_from(self.shadow_twin)
        assert book.dropped_levels + self.shadow.dropped_levels == twin.dropped_levels + self.shadow_twin.dropped_levels


BookMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestBookMachine = BookMachine.TestCase
