"""One instrument's order book with price-time priority: limit, cancel and market orders.

It answers for who trades with whom, and for the totals of each level. It refuses to know time, randomness, ids of
updates and text: prices are int ticks, quantities int steps, an order is the int that the caller names it by.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

BID = 0
ASK = 1


class Fill(NamedTuple):
    """One trade: a resting order met. `price` is the resting order's."""

    maker: int
    price: int
    qty: int


class Level:
    """The orders at one price, oldest first (a dict keeps insertion order; a partial fill keeps an order's place)."""

    __slots__ = ("orders", "qty")

    def __init__(self) -> None:
        self.orders: dict[int, int] = {}
        self.qty = 0


class Side:
    """One side of the book: levels by price, and the prices in ascending order."""

    __slots__ = ("levels", "prices")

    def __init__(self) -> None:
        self.levels: dict[int, Level] = {}
        self.prices: list[int] = []

    def _remove(self, price: int) -> None:
        del self.levels[price]
        del self.prices[bisect_left(self.prices, price)]


class OrderBook:
    """Matching for one instrument. `changes` collects (side, price, new total) until the caller clears it."""

    __slots__ = ("asks", "bids", "changes", "orders")

    def __init__(self) -> None:
        self.bids = Side()
        self.asks = Side()
        self.orders: dict[int, tuple[int, int]] = {}  # order -> (side, price)
        self.changes: list[tuple[int, int, int]] = []

    def side(self, side: int) -> Side:
        return self.asks if side else self.bids

    def best_bid(self) -> int:
        """Best bid in ticks; 0 when there is none."""
        prices = self.bids.prices
        return prices[-1] if prices else 0

    def best_ask(self) -> int:
        """Best ask in ticks; 0 when there is none."""
        prices = self.asks.prices
        return prices[0] if prices else 0

    def top(self) -> tuple[int, int, int, int]:
        """(bid price, bid qty, ask price, ask qty); an empty side is 0, 0."""
        bid, ask = self.best_bid(), self.best_ask()
        return (
            bid,
            self.bids.levels[bid].qty if bid else 0,
            ask,
            self.asks.levels[ask].qty if ask else 0,
        )

    def limit(self, order: int, side: int, price: int, qty: int) -> list[Fill]:
        """Place a limit order; what crosses trades at the resting prices, the rest joins the end of its level."""
        if qty <= 0 or price <= 0:
            raise ValueError(f"order {order}: price {price} and quantity {qty} must be positive")
        if order in self.orders:
            raise ValueError(f"order {order} is already in the book")
        fills: list[Fill] = []
        rest = self._take(1 - side, qty, price, fills)
        if rest:
            self._rest(order, side, price, rest)
        return fills

    def market(self, side: int, qty: int) -> list[Fill]:
        """Take up to `qty` from the other side at any price; what finds nobody lapses."""
        if qty <= 0:
            raise ValueError(f"quantity {qty} must be positive")
        fills: list[Fill] = []
        self._take(1 - side, qty, 0, fills)
        return fills

    def cancel(self, order: int) -> bool:
        """Remove a resting order; False when it is not in the book (filled, or never there)."""
        where = self.orders.pop(order, None)
        if where is None:
            return False
        number, price = where
        side = self.side(number)
        level = side.levels[price]
        level.qty -= level.orders.pop(order)
        if not level.orders:
            side._remove(price)
        self.changes.append((number, price, level.qty))
        return True

    def levels(self, side: int, count: int) -> Iterator[tuple[int, int]]:
        """Up to `count` (price, qty) of one side, best first."""
        levels = self.side(side).levels
        prices = self.asks.prices[:count] if side else self.bids.prices[: -count - 1 : -1]
        return ((price, levels[price].qty) for price in prices)

    def rescale_prices(self, factor: int) -> None:
        """A tick is `factor` times smaller from now on."""
        for side in (self.bids, self.asks):
            side.levels = {price * factor: level for price, level in side.levels.items()}
            side.prices = [price * factor for price in side.prices]
        self.orders = {order: (number, price * factor) for order, (number, price) in self.orders.items()}
        self.changes = [(number, price * factor, qty) for number, price, qty in self.changes]

    def _rest(self, order: int, number: int, price: int, qty: int) -> None:
        side = self.side(number)
        level = side.levels.get(price)
        if level is None:
            level = side.levels[price] = Level()
            insort(side.prices, price)
        level.orders[order] = qty
        level.qty += qty
        self.orders[order] = (number, price)
        self.changes.append((number, price, level.qty))

    def _take(self, number: int, qty: int, bound: int, fills: list[Fill]) -> int:
        """Fill up to `qty` against side `number`, not beyond price `bound` (0: no bound); what is left of `qty`."""
        side = self.side(number)
        while qty and side.prices:
            price = side.prices[0] if number else side.prices[-1]
            if bound and (price > bound if number else price < bound):
                break
            level = side.levels[price]
            while qty and level.orders:
                maker, resting = next(iter(level.orders.items()))
                traded = min(qty, resting)
                qty -= traded
                level.qty -= traded
                if traded == resting:
                    del level.orders[maker]
                    del self.orders[maker]
                else:
                    level.orders[maker] = resting - traded
                fills.append(Fill(maker, price, traded))
            if not level.orders:
                side._remove(price)
            self.changes.append((number, price, level.qty))
        return qty
