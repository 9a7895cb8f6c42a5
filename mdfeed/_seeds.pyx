"""What REST brings of a symbol besides its book: 24 h figures, and trades that the lines have missed.

Answers for scaling Decimals to a symbol's digits (which grow where they must) and for taking from an answer only what
is missing. Refuses to know requests, times and retries.
"""

from libc.string cimport memset

from mdfeed._feed cimport Feed
from mdfeed._track cimport Track
from mdfeed._types cimport *

from mdfeed.errors import DecodeError


cdef class Seeds:
    """The way into a feed for rows that a venue has parsed (mdfeed.venues)."""

    cdef readonly Feed feed

    def __init__(self, Feed feed not None):
        self.feed = feed

    cdef int _grow(self, Track track, prices, qtys) except -1:
        cdef Instrument *instrument = track.instrument
        cdef Message message
        memset(&message, 0, sizeof(Message))
        message.instrument = instrument.index
        message.price_digits = max(instrument.price_digits, *map(fraction_digits, prices))
        message.qty_digits = max(instrument.qty_digits, *map(fraction_digits, qtys))
        if message.price_digits == instrument.price_digits and message.qty_digits == instrument.qty_digits:
            return 0
        if self.feed._grow_digits(&message) != OK:
            raise DecodeError(f"{track.symbol}: a longer fraction does not fit", b"")
        return 0

    def ticker(self, str symbol, row):
        """The venue's own 24 h figures (a TickerRow); our trades go on from there."""
        cdef Track track = self.feed.tracks[symbol]
        cdef Instrument *instrument = track.instrument
        cdef Message message
        prices = (row.last, row.open, row.high, row.low)
        self._grow(track, prices, (row.volume, 0))
        memset(&message, 0, sizeof(Message))
        message.ticker.last_price, message.ticker.open_price, message.ticker.high_price, message.ticker.low_price = (
            scaled(price, instrument.price_digits) for price in prices
        )
        message.ticker.volume = scaled(row.volume, instrument.qty_digits)
        # Scaled by both digits it may pass 63 bits; fewer digits of its fraction do as well.
        message.ticker.quote_digits = instrument.price_digits + instrument.qty_digits
        quote = int(row.quote_volume.scaleb(message.ticker.quote_digits))
        while quote >= 1 << 63 and message.ticker.quote_digits:
            quote //= 10
            message.ticker.quote_digits -= 1
        if quote >= 1 << 63:
            message.ticker.quote_digits = -1
            quote = 0
        message.ticker.quote_volume = quote
        message.ticker.open_ts = row.open_ts
        message.ticker.close_ts = row.close_ts
        message.ticker.trade_count = row.count
        track.on_ticker(&message, 0)

    def minutes(self, str symbol, rows, int64_t closed_to_ns):
        """True minutes (KlineRows, closed ones only): each replaces a minute of ours that holds fewer trades.

        Together with rows given before they hold all trades of their time, up to `closed_to_ns`.
        """
        cdef Track track = self.feed.tracks[symbol]
        rows = list(rows)
        if not rows:
            return
        self._grow(track, [price for row in rows for price in (row.open, row.high, row.low, row.close)],
                   [row.volume for row in rows] + [0])
        price_digits, qty_digits = track.instrument.price_digits, track.instrument.qty_digits
        track.window.seed_minutes([
            (row.open_ts, scaled(row.open, price_digits), scaled(row.high, price_digits), scaled(row.low, price_digits),
             scaled(row.volume, qty_digits), int(row.quote_volume.scaleb(price_digits + qty_digits)), row.count)
            for row in rows
        ], closed_to_ns)

    def trades(self, str symbol, rows, int64_t recv_ns):
        """Aggregate trades (TradeRows): those that are missing are published, in their order. Returns how many."""
        cdef Track track = self.feed.tracks[symbol]
        cdef Message message
        cdef int64_t found = 0
        rows = [row for row in rows if track.agg_trades.is_missing(row.trade_id)]
        if not rows:
            return 0
        self._grow(track, [row.price for row in rows] + [0], [row.qty for row in rows] + [0])
        memset(&message, 0, sizeof(Message))
        message.kind = K_AGG_TRADE
        message.instrument = track.instrument.index
        for row in sorted(rows, key=by_id):
            message.trade.trade_id = row.trade_id
            message.trade.price = scaled(row.price, track.instrument.price_digits)
            message.trade.qty = scaled(row.qty, track.instrument.qty_digits)
            message.trade.ts_trade = message.ts_event = row.ts_trade
            message.trade.is_buyer_maker = row.is_buyer_maker
            message.trade.is_market = True
            message.trade.fills = row.fills
            found += track.take_trade(&message, recv_ns)
        return found


def by_id(row):
    return row.trade_id


cdef int64_t scaled(value, int digits) except? -1:
    scaled_value = int(value.scaleb(digits))
    if not 0 <= scaled_value < 1 << 63:
        raise DecodeError(f"{value} does not fit {digits} digits", b"")
    return scaled_value


def fraction_digits(value):
    """Significant fraction digits of a Decimal (61800.20 has one); 0 of 0."""
    return max(0, -value.normalize().as_tuple().exponent) if value else 0
