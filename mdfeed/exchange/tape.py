"""What one instrument has traded: trades, aggregate trades, minute candles, the last 24 hours.

Every number is an int (ticks, steps, their product, ms), so sums are exact. Serves the market and playback alike.
Refuses to know who listens, and writes no JSON.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

MINUTE_MS = 60_000
DAY_MINUTES = 1440
AGG_WINDOW_MS = 100  # fills of one price and one taking side within 100 ms are one aggregate trade
AGGS_MAX = 20_000
_ROWS_MAX = 1500  # minutes kept: what one klines answer may ask for
_ROW = 10  # ints a minute: open time, open, high, low, close, qty, quote, trades, taker buy qty, taker buy quote


class Trade(NamedTuple):
    """One match. Price in ticks, qty in steps, time in ms. `is_buyer_maker`: the taker sold."""

    trade_id: int
    price: int
    qty: int
    time_ms: int
    is_buyer_maker: bool


@dataclass(slots=True)
class AggTrade:
    """Trades `first`..`last` of one price and taking side."""

    agg_id: int
    price: int
    qty: int
    first: int
    last: int
    time_ms: int
    is_buyer_maker: bool


class Day(NamedTuple):
    """Statistics of the 24 hours up to a moment; `first_id` to `last_id` are trade ids, -1 when nothing traded."""

    open_ms: int
    close_ms: int
    open: int
    high: int
    low: int
    last: int
    last_qty: int
    qty: int
    quote: int
    trades: int
    first_id: int
    last_id: int


class Tape:
    """Everything one instrument has traded, bounded: `aggs_max` aggregate trades, 1,500 minutes.

    `past_seed` gives it a made-up day before its start, so that the 24 h figures are full from the first second;
    None (playback) starts it empty. The past is made when first asked for.
    """

    def __init__(
        self,
        price: int,
        qty: int,
        start_ms: int,
        first_trade: int,
        first_agg: int,
        past_seed: str | None,
        aggs_max: int = AGGS_MAX,
    ):
        self.next_trade = first_trade
        self.aggs: deque[AggTrade] = deque(maxlen=aggs_max)
        self.last_price = price
        self.last_qty = qty
        self._start_ms = start_ms - start_ms % MINUTE_MS
        self._first_trade = first_trade
        self._next_agg = first_agg
        self._pending: AggTrade | None = None
        self._pending_window = 0
        self._past_seed = past_seed
        self._open = price
        self._typical_qty = qty
        self._rows = array("q")

    def trade(self, price: int, qty: int, time_ms: int, is_buyer_maker: bool) -> tuple[Trade, AggTrade | None]:
        """Record a match; its id is the next one. Also the aggregate trade that this one has closed, if any."""
        trade = Trade(self.next_trade, price, qty, time_ms, is_buyer_maker)
        self.next_trade += 1
        self.last_price, self.last_qty = price, qty
        self._candle(trade)
        closed = None
        pending = self._pending
        window = time_ms // AGG_WINDOW_MS
        if (
            pending is not None
            and pending.price == price
            and pending.is_buyer_maker == is_buyer_maker
            and window == self._pending_window
        ):
            pending.qty += qty
            pending.last = trade.trade_id
            pending.time_ms = time_ms
        else:
            closed = self.close_agg()
            self._pending = AggTrade(
                self._next_agg, price, qty, trade.trade_id, trade.trade_id, time_ms, is_buyer_maker
            )
            self._pending_window = window
            self._next_agg += 1
        return trade, closed

    def copy(self, trade_id: int, price: int, qty: int, time_ms: int, is_buyer_maker: bool) -> AggTrade:
        """Record a match that has its id already, and as an aggregate trade of its own with the same id."""
        self.next_trade = trade_id
        self.trade(price, qty, time_ms, is_buyer_maker)
        agg = AggTrade(trade_id, price, qty, trade_id, trade_id, time_ms, is_buyer_maker)
        self._pending = None
        self.aggs.append(agg)
        return agg

    def close_agg(self) -> AggTrade | None:
        """End the open aggregate trade (its 100 ms are over) and return it."""
        closed, self._pending = self._pending, None
        if closed is not None:
            self.aggs.append(closed)
        return closed

    @property
    def is_agg_open(self) -> bool:
        return self._pending is not None

    def agg(self, agg_id: int) -> AggTrade | None:
        """A closed aggregate trade of the market's own (their ids have no holes); None when it is not known."""
        place = agg_id - self.aggs[0].agg_id if self.aggs else -1
        return self.aggs[place] if 0 <= place < len(self.aggs) else None

    def aggs_from(self, from_id: int | None, start_ms: int | None, end_ms: int | None, limit: int) -> list[AggTrade]:
        """Closed aggregate trades, ascending: from an id, or within times, else the newest `limit`."""
        found = [
            agg
            for agg in self.aggs
            if (from_id is None or agg.agg_id >= from_id)
            and (start_ms is None or agg.time_ms >= start_ms)
            and (end_ms is None or agg.time_ms <= end_ms)
        ]
        return found[:limit] if from_id is not None or start_ms is not None else found[-limit:]

    def candles(self, minutes: int, start_ms: int | None, end_ms: int | None, limit: int) -> list[list[int]]:
        """Rows of ten ints (see `_ROW`) of `minutes` each, ascending: the newest, or the first from a start."""
        self._make_past()
        span = minutes * MINUTE_MS
        merged: list[list[int]] = []
        rows = self._rows
        for at in range(0, len(rows), _ROW):
            row = rows[at : at + _ROW].tolist()
            opened = row[0] - row[0] % span
            if (start_ms is not None and opened < start_ms) or (end_ms is not None and opened > end_ms):
                continue
            if merged and merged[-1][0] == opened:
                into = merged[-1]
                into[2] = max(into[2], row[2])
                into[3] = min(into[3], row[3])
                into[4] = row[4]
                for column in range(5, _ROW):
                    into[column] += row[column]
            else:
                merged.append([opened, *row[1:]])
        return merged[:limit] if start_ms is not None else merged[-limit:]

    def day(self, now_ms: int) -> Day:
        """Statistics of the 24 hours before `now_ms`, to the minute."""
        self._make_past()
        rows = self._rows
        oldest = now_ms - now_ms % MINUTE_MS - (DAY_MINUTES - 1) * MINUTE_MS
        at = 0
        while at < len(rows) and rows[at] < oldest:
            at += _ROW
        count = sum(rows[at + 7 :: _ROW])
        last_id = self.next_trade - 1
        return Day(
            oldest,
            now_ms,
            rows[at + 1] if at < len(rows) else self.last_price,
            max(rows[at + 2 :: _ROW], default=self.last_price),
            min(rows[at + 3 :: _ROW], default=self.last_price),
            self.last_price,
            self.last_qty,
            sum(rows[at + 5 :: _ROW]),
            sum(rows[at + 6 :: _ROW]),
            count,
            last_id - count + 1 if count else -1,
            last_id if count else -1,
        )

    def rescale_prices(self, factor: int) -> None:
        """A tick is `factor` times smaller: the past is told in the new one."""
        self._make_past()
        self.last_price *= factor
        self._open *= factor
        for agg in (*self.aggs, *((self._pending,) if self._pending is not None else ())):
            agg.price *= factor
        for at in range(0, len(self._rows), _ROW):
            for column in (1, 2, 3, 4, 6, 9):
                self._rows[at + column] *= factor

    def _candle(self, trade: Trade) -> None:
        rows = self._rows
        opened = trade.time_ms - trade.time_ms % MINUTE_MS
        price, quote = trade.price, trade.price * trade.qty
        if not rows or rows[-_ROW] < opened:
            rows.extend((opened, price, price, price, price, 0, 0, 0, 0, 0))
            if len(rows) > _ROWS_MAX * _ROW:
                del rows[: len(rows) - _ROWS_MAX * _ROW]
        rows[-8] = max(rows[-8], price)
        rows[-7] = min(rows[-7], price)
        rows[-6] = price
        rows[-5] += trade.qty
        rows[-4] += quote
        rows[-3] += 1
        if not trade.is_buyer_maker:
            rows[-2] += trade.qty
            rows[-1] += quote

    def _make_past(self) -> None:
        """The day before the start, walked backwards from the opening price, once."""
        if self._past_seed is None:
            return
        rng = random.Random(self._past_seed)
        self._past_seed = None
        close = self._open
        sigma = max(1.0, self._open * 0.0004)
        past: list[tuple[int, ...]] = []
        for minute in range(1, DAY_MINUTES + 1):
            opened = max(4, close + round(rng.gauss(0.0, sigma)))
            high = max(opened, close) + int(rng.expovariate(2.0 / sigma))
            low = max(2, min(opened, close) - int(rng.expovariate(2.0 / sigma)))
            count = 1 + int(rng.expovariate(0.02))
            qty = count * self._typical_qty
            taker = qty // 2
            mean = (opened + close) // 2
            start = self._start_ms - minute * MINUTE_MS
            past.append((start, opened, high, low, close, qty, qty * mean, count, taker, taker * mean))
            close = opened
        self._rows = array("q", [number for row in reversed(past) for number in row]) + self._rows
