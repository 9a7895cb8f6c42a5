"""Seeded order flow: what arrives at one instrument's book, and when.

Limit orders come around a slowly moving reference price at power-law distances, cancels in proportion to what rests,
market orders in bursts, now and then an order at 1 % or 200 % of the price. The book follows the reference because
orders placed around it cross what was left behind. Answers for chance alone: matching, ids, text are elsewhere, and
the same seed gives the same flow whatever anybody listens to.
"""

from __future__ import annotations

import math
import random

from mdfeed.exchange.matching import ASK, BID, Fill, OrderBook
from mdfeed.exchange.profiles import Profile

_SIZES = 1024  # drawn once: a lognormal draw an order would be the dearest step of the flow
_RECENT = 512  # orders that may be cancelled soon after they came, as most are on the real venue
_DISTANCE_POWER = 1.2
_WIDE_SHARE = 0.30  # of limit orders: anywhere in the seeded range, so that the far levels live too
_UNIFORM_SHARE = 0.40  # of cancels: any resting order; with the shares above, levels a side stay about as seeded
_SEEDED_A_LEVEL = 2
_FAR_SHARE = 0.001  # of limit orders: at 1 % or 200 % of the price
_CANCEL_SHARE = 0.47  # of events when as many orders rest as were seeded
_BURST_SHARE = 0.02  # of events: the first market order of a burst
_BURST_MEAN = 3.0
_PULL = 2e-6  # of the reference back to the opening price an event: months must not end at zero


class Flow:
    """The order flow of one instrument at `rate` events/s, with `levels` seeded price levels a side."""

    def __init__(self, profile: Profile, seed: str, rate: float, levels: int) -> None:
        self.profile = profile
        self.rate = rate
        self.reference = float(profile.price_ticks)
        self._open = self.reference
        self._rng = random.Random(seed)
        # Bids must stay above zero: at most four fifths of the price hold the seeded levels.
        self._levels = max(1, min(levels, int(self._open * 0.8)))
        self._gap_mean = min(1.6, self._open * 0.8 / self._levels)
        self._span = self._levels * self._gap_mean
        self._sizes = [max(1, round(profile.qty_steps * self._rng.lognormvariate(0.0, 1.1))) for _ in range(_SIZES)]
        self._resting: list[int] = []
        self._recent: list[int] = []
        self._next_order = 1
        self._target = 0
        self._burst_left = 0
        self._burst_side = BID

    def open(self, book: OrderBook) -> None:
        """Fill the empty book: `levels` prices a side, dense at the touch."""
        for side, sign in ((BID, -1), (ASK, 1)):
            distance = math.ceil(self.profile.spread_ticks)
            for _ in range(self._levels):
                price = int(self._open) + sign * distance
                if price <= 0:
                    break
                for _ in range(_SEEDED_A_LEVEL):
                    self._place(book, side, price, is_near=False)
                distance += 1 if self._rng.random() < 2.0 - self._gap_mean else 2
        self._target = len(book.orders)

    def gap_ns(self) -> int:
        """Time from this event to the next: exponential, far shorter inside a burst."""
        pace = self.rate if not self._burst_left else max(2_000.0, self.rate * 20.0)
        return 1 + int(-math.log(1.0 - self._rng.random()) / pace * 1e9)

    def act(self, book: OrderBook) -> tuple[int, list[Fill]]:
        """Let one event happen to `book`: the side of who acted, and the trades. It may be that nothing changed."""
        rng = self._rng
        self.reference += rng.gauss(0.0, 0.04) * self.profile.reach_ticks + (self._open - self.reference) * _PULL
        if self._burst_left:
            self._burst_left -= 1
            return self._burst_side, book.market(self._burst_side, self._size())
        draw = rng.random()
        if draw < _BURST_SHARE:
            self._burst_left = int(rng.expovariate(1.0 / _BURST_MEAN))
            self._burst_side = BID if rng.random() < 0.5 else ASK
            return self._burst_side, book.market(self._burst_side, self._size())
        crowd = len(book.orders) / self._target if self._target else 0.0
        if draw < _BURST_SHARE + _CANCEL_SHARE * min(crowd, 2.0) and self._cancel(book):
            return BID, []
        side = BID if rng.random() < 0.5 else ASK
        draw = rng.random()
        is_near = draw >= _FAR_SHARE + _WIDE_SHARE
        price = self._far_price(side) if draw < _FAR_SHARE else self._price(side, is_near)
        return side, self._place(book, side, price, is_near)

    def rescale_prices(self, factor: int, profile: Profile) -> None:
        """A tick is `factor` times smaller from now on; `profile` says so too."""
        self.profile = profile
        self.reference *= factor
        self._open *= factor
        self._span *= factor

    def place(self, book: OrderBook, side: int, price: int) -> list[Fill]:
        """A limit order at `price`, wherever that is."""
        return self._place(book, side, price, is_near=False)

    def _far_price(self, side: int) -> int:
        return max(1, int(self.reference * (0.01 if side == BID else 2.0)) + self._rng.randrange(3))

    def _price(self, side: int, is_near: bool) -> int:
        rng = self._rng
        distance = rng.random() * self._span
        if is_near:
            distance = self.profile.reach_ticks * ((1.0 - rng.random()) ** (-1.0 / _DISTANCE_POWER) - 1.0)
            distance = min(distance, self._span)
        distance += self.profile.spread_ticks
        price = self.reference - distance if side == BID else self.reference + distance + 1.0
        return max(1, int(price))

    def _place(self, book: OrderBook, side: int, price: int, is_near: bool) -> list[Fill]:
        order = self._next_order
        self._next_order = order + 1
        fills = book.limit(order, side, price, self._size())
        if order in book.orders:
            self._resting.append(order)
            if len(self._resting) > 2 * len(book.orders) + _RECENT:
                # Those that were filled, or cancelled as recent ones, stay behind here.
                self._resting = [old for old in self._resting if old in book.orders]
            if is_near and len(self._recent) < _RECENT:
                self._recent.append(order)
            elif is_near:
                self._recent[int(self._rng.random() * _RECENT)] = order
        return fills

    def _cancel(self, book: OrderBook) -> bool:
        pool = self._resting if self._rng.random() < _UNIFORM_SHARE else self._recent
        for orders in (pool, self._resting):
            while orders:
                place = int(self._rng.random() * len(orders))
                order, orders[place] = orders[place], orders[-1]
                orders.pop()
                if book.cancel(order):
                    return True
        return False

    def _size(self) -> int:
        return self._sizes[int(self._rng.random() * _SIZES)]
