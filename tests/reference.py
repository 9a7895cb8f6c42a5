"""The obviously right twin of the book and of the continuity rule: dicts and Decimals, no cleverness.

Knows nothing of mdfeed. Slow on purpose: every question is answered by sorting everything again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

INFINITY = Decimal("Infinity")
Row = tuple[Decimal | str, Decimal | str]


def plain(number: Decimal) -> str:
    """Plain decimal text without exponent and trailing zeros: 61800.20 -> 61800.2, 1E+2 -> 100."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass
class ReferenceSide:
    """Price -> quantity. `sign` turns a price into a rank: lower is nearer to the touch."""

    sign: int
    max_levels: int = 0
    qtys: dict[Decimal, Decimal] = field(default_factory=dict)
    horizon: Decimal = -INFINITY  # a rank: what is nearer is verified
    holds_horizon: bool = True  # the level at the horizon is verified too
    dropped: int = 0

    def rank(self, price: Decimal) -> Decimal:
        return self.sign * price

    def ordered(self) -> list[tuple[Decimal, Decimal]]:
        return sorted(self.qtys.items(), key=lambda row: self.rank(row[0]))

    def is_verified(self, price: Decimal) -> bool:
        rank = self.rank(price)
        return rank < self.horizon or (self.holds_horizon and rank == self.horizon)

    def set(self, rows: list[tuple[Decimal, Decimal]]) -> None:
        for price, qty in rows:
            if qty:
                self.qtys[price] = qty
            else:
                self.qtys.pop(price, None)
            if self.max_levels and len(self.qtys) > self.max_levels:
                worst = max(self.qtys, key=self.rank)
                del self.qtys[worst]
                self.dropped += 1
                if self.is_verified(worst):
                    self.horizon, self.holds_horizon = self.rank(worst), False

    def load(self, rows: list[tuple[Decimal, Decimal]], limit: int) -> None:
        is_complete = limit == 0 or len(rows) < limit
        self.qtys = {}
        self.horizon = INFINITY if is_complete else max(self.rank(price) for price, _ in rows)
        self.holds_horizon = True
        self.set(rows)

    def replace_top(self, rows: list[tuple[Decimal, Decimal]]) -> None:
        worst = max((self.rank(price) for price, _ in rows), default=INFINITY)
        self.qtys = {price: qty for price, qty in self.qtys.items() if self.rank(price) > worst}
        self.horizon, self.holds_horizon = worst, True
        self.set(rows)


def exact(rows: Iterable[Row]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(qty)) for price, qty in rows]


class ReferenceBook:
    """A book by the letter of the rules, with the method names of `mdfeed._book.Book` where they mean the same."""

    def __init__(self, max_levels: int = 0) -> None:
        self.sides = {"bids": ReferenceSide(-1, max_levels), "asks": ReferenceSide(1, max_levels)}
        self.last_id = 0
        self.first_id = 0

    def apply_levels(self, first_id: int, prev_id: int, last_id: int, bids: Iterable[Row], asks: Iterable[Row]) -> str:
        if last_id <= self.last_id:
            return "old"
        if self.last_id == 0 or prev_id > self.last_id:
            return "gap"
        self.sides["bids"].set(exact(bids))
        self.sides["asks"].set(exact(asks))
        self.first_id, self.last_id = first_id, last_id
        return "applied"

    def load_levels(self, last_id: int, bids: Iterable[Row], asks: Iterable[Row], limit: int = 0) -> None:
        self.sides["bids"].load(exact(bids), limit)
        self.sides["asks"].load(exact(asks), limit)
        self.first_id = self.last_id = last_id

    def replace_top_levels(self, last_id: int, bids: Iterable[Row], asks: Iterable[Row]) -> str:
        if last_id <= self.last_id:
            return "old"
        self.sides["bids"].replace_top(exact(bids))
        self.sides["asks"].replace_top(exact(asks))
        self.first_id = self.last_id = last_id
        return "applied"

    def reset(self) -> None:
        for side in self.sides.values():
            side.qtys, side.horizon, side.holds_horizon = {}, -INFINITY, True
        self.first_id = self.last_id = 0

    def levels(self, side: str, n: int | None = None, verified_only: bool = False) -> list[tuple[Decimal, Decimal]]:
        held = self.sides[side]
        return [row for row in held.ordered() if not verified_only or held.is_verified(row[0])][:n]

    @property
    def dropped_levels(self) -> int:
        return sum(side.dropped for side in self.sides.values())

    @property
    def crossed(self) -> bool:
        bids, asks = self.sides["bids"].qtys, self.sides["asks"].qtys
        return bool(bids and asks) and max(bids) >= min(asks)

    def differences_from(self, other: ReferenceBook) -> int:
        found = 0
        for name, mine in self.sides.items():
            its = other.sides[name]
            for price in mine.qtys.keys() | its.qtys.keys():
                if mine.is_verified(price) and its.is_verified(price):
                    found += mine.qtys.get(price) != its.qtys.get(price)
        return found

    def text(self) -> str:
        return "".join(
            f"{mark},{plain(price)},{plain(qty)}\n"
            for mark, side in (("b", "bids"), ("a", "asks"))
            for price, qty in self.sides[side].ordered()
        )

    def digest(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()
