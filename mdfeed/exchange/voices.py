"""What each wanted stream has to say, and when: one voice a stream.

A voice is told of changes, gathers them, and gives the text of its next frame. It answers for windows, U/u/pu chains
and the venue's habits of lateness; it refuses to know who listens, sockets and wall clocks. Times are UTC ns.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

from mdfeed.exchange import streams
from mdfeed.exchange.matching import ASK, BID, OrderBook
from mdfeed.exchange.profiles import Profile
from mdfeed.exchange.streams import Channel
from mdfeed.exchange.tape import AggTrade, Tape, Trade

MS = 1_000_000
_SLOW_SHARE = 0.02  # of frames that come late, so that bookTicker is seen ahead of and behind its diff
_SLOW_MS = 60


class Voice:
    """One stream. `listeners` counts who wants it; at zero it is dropped, and a later one starts a new window."""

    id_offset = 0  # between the market's own ids and those that are said

    def __init__(self, name: str, channel: Channel, seed: str, profile: Profile) -> None:
        self.name = name
        self._profile = profile
        self.channel = channel
        self.listeners = 0
        self._interval_ns = channel.interval_ms * MS
        self._rng = random.Random(f"{seed}:{name}")
        self._phase_ns = self._rng.randrange(max(1, channel.interval_ms)) * MS
        self._last_due_ns = 0

    def rescale_prices(self, factor: int, profile: Profile) -> None:
        """A tick is `factor` times smaller from now on; `profile` says so too."""
        self._profile = profile

    def next_cut(self, now_ns: int) -> int:
        """When the window that `now_ns` lies in ends."""
        return now_ns + self._interval_ns - (now_ns - self._phase_ns) % self._interval_ns

    def due(self, now_ns: int) -> int:
        """When a frame made now leaves the venue: some ms later, at times far later, never before an earlier one."""
        draw = self._rng.random()
        delay_ms = draw / _SLOW_SHARE * _SLOW_MS if draw < _SLOW_SHARE else draw * 4.0
        self._last_due_ns = max(self._last_due_ns + 1, now_ns + int(delay_ms * MS))
        return self._last_due_ns


class BookVoice(Voice, ABC):
    """A stream cut from the book at intervals; `is_dirty` while something has changed since the last cut."""

    is_dirty = False
    _first_id = _last_id = _prev_id = 0

    def _ids(self) -> tuple[int, int, int]:
        """U, u, pu as they are said."""
        by = self.id_offset
        return self._first_id - by, self._last_id - by, self._prev_id - by

    @abstractmethod
    def note(self, update_id: int, changes: list[tuple[int, int, int]], now_ns: int) -> None: ...

    @abstractmethod
    def cut(self, book: OrderBook, now_ns: int) -> str: ...


class DiffVoice(BookVoice):
    """`@depth`: what changed since the last cut, as absolute quantities."""

    def __init__(self, name: str, channel: Channel, seed: str, profile: Profile, last_id: int) -> None:
        super().__init__(name, channel, seed, profile)
        self._prev_id = last_id
        self._time_ms = 0
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def note(self, update_id: int, changes: list[tuple[int, int, int]], now_ns: int) -> None:
        if not self.is_dirty:
            self.is_dirty = True
            self._first_id = update_id
        self._last_id = update_id
        self._time_ms = now_ns // MS
        for side, price, qty in changes:
            (self._asks if side else self._bids)[price] = qty

    def rescale_prices(self, factor: int, profile: Profile) -> None:
        super().rescale_prices(factor, profile)
        self._bids = {price * factor: qty for price, qty in self._bids.items()}
        self._asks = {price * factor: qty for price, qty in self._asks.items()}

    def cut(self, book: OrderBook, now_ns: int) -> str:
        ids = self._ids()
        # Futures send both sides in ascending order of price.
        bids = streams.levels_text(self._profile, sorted(self._bids.items()))
        asks = streams.levels_text(self._profile, sorted(self._asks.items()))
        text = streams.depth_text(self._profile, now_ns // MS, self._time_ms, ids, bids, asks)
        self._prev_id = self._last_id
        self._bids.clear()
        self._asks.clear()
        self.is_dirty = False
        return text


class PartialVoice(BookVoice):
    """`@depth5|10|20`: the top levels, best first, whenever the book has changed."""

    def __init__(self, name: str, channel: Channel, seed: str, profile: Profile, last_id: int) -> None:
        super().__init__(name, channel, seed, profile)
        self._prev_id = last_id
        self._time_ms = 0

    def note(self, update_id: int, changes: list[tuple[int, int, int]], now_ns: int) -> None:
        if not self.is_dirty:
            self.is_dirty = True
            self._first_id = update_id
        self._last_id = update_id
        self._time_ms = now_ns // MS

    def cut(self, book: OrderBook, now_ns: int) -> str:
        ids = self._ids()
        count = self.channel.levels
        bids = streams.levels_text(self._profile, book.levels(BID, count))
        asks = streams.levels_text(self._profile, book.levels(ASK, count))
        self._prev_id = self._last_id
        self.is_dirty = False
        return streams.depth_text(self._profile, now_ns // MS, self._time_ms, ids, bids, asks)


class TopVoice(Voice):
    """`@bookTicker`: the best bid and ask whenever one of their four numbers has changed."""

    def __init__(self, name: str, channel: Channel, seed: str, profile: Profile, book: OrderBook) -> None:
        super().__init__(name, channel, seed, profile)
        self._top = book.top()

    def rescale_prices(self, factor: int, profile: Profile) -> None:
        super().rescale_prices(factor, profile)
        bid, bid_qty, ask, ask_qty = self._top
        self._top = (bid * factor, bid_qty, ask * factor, ask_qty)

    def note(self, update_id: int, top: tuple[int, int, int, int], now_ns: int) -> str | None:
        if top == self._top:
            return None
        self._top = top
        time_ms = now_ns // MS
        # E runs some ms behind T, and steps back between frames.
        said_id, event_ms = update_id - self.id_offset, time_ms + int(self._rng.random() * 6)
        return streams.book_ticker_text(self._profile, said_id, top, event_ms, time_ms)


class TradeVoice(Voice):
    """`@trade` and `@aggTrade`."""

    def trade(self, trade: Trade, now_ns: int) -> str:
        return streams.trade_text(self._profile, trade, now_ns // MS)

    def agg(self, agg: AggTrade, now_ns: int) -> str:
        return streams.agg_trade_text(self._profile, agg, now_ns // MS)


class ForceVoice(Voice):
    """`@forceOrder`: at most one liquidation a second, the latest of it on the venue, here the first."""

    def __init__(self, name: str, channel: Channel, seed: str, profile: Profile) -> None:
        super().__init__(name, channel, seed, profile)
        self._quiet_until_ns = 0

    def note(self, is_sell: bool, price: int, qty: int, now_ns: int) -> str | None:
        if now_ns < self._quiet_until_ns:
            return None
        self._quiet_until_ns = now_ns + self._interval_ns
        return streams.force_order_text(self._profile, is_sell, price, qty, now_ns // MS, now_ns // MS + 1)


class PulseVoice(Voice):
    """`@ticker`, `@miniTicker`, `@markPrice`: at fixed intervals, whether or not anything changed."""

    def pulse(self, tape: Tape, reference: float, now_ns: int) -> str:
        now_ms = now_ns // MS
        if self.channel.kind == "markPrice":
            return streams.mark_price_text(self._profile, reference, now_ms)
        day = tape.day(now_ms)
        if self.channel.kind == "ticker":
            return streams.ticker_text(self._profile, day, now_ms)
        return streams.mini_ticker_text(self._profile, day, now_ms)
