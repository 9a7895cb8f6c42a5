"""The rolling 24 h window of one instrument.

Answers for: 24 h figures that are wrong by the edge minute at most, exact sums in 128 bits, ageing of what the venue
said before we saw trades ourselves. Refuses to know: clocks (time is an argument), symbols, and where figures go.

The window holds the minute under way and the 1440 before it: up to a minute more than 24 h. Before it has seen that
much by itself it leans on a seed: what the venue's ticker says, less what the ring holds, is the prior; it covers the
time before our first trade and is taken to have been traded evenly, so it shrinks by the minute as that time leaves
the window. Its extremes and its open stay until all of it has left. Klines (seed_minutes) replace the prior by true
minutes.
"""

from collections.abc import Iterable

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from mdfeed._audit cimport round_block
from mdfeed._text cimport int_of_wide, wide_of_int

cdef extern from *:
    bint adds_beyond "__builtin_add_overflow"(i128, i128, i128 *) noexcept nogil
    bint multiplies_beyond "__builtin_mul_overflow"(i128, i128, i128 *) noexcept nogil

cdef enum:
    SHARE_BITS = 20

cdef int64_t MINUTE_NS = 60000000000
cdef int64_t LARGEST = 9223372036854775807


cdef inline i128 share_of(i128 whole, int64_t share) noexcept nogil:
    # whole * share / 2^SHARE_BITS without passing 128 bits.
    return (whole >> SHARE_BITS) * share + (((whole & ((1 << SHARE_BITS) - 1)) * share) >> SHARE_BITS)


cdef inline i128 wide_power_of_ten(int digits) noexcept nogil:
    cdef i128 power = 1
    cdef int _i
    for _i in range(digits):
        power *= 10
    return power


cdef inline bint grows(i128 *value, i128 factor, i128 largest) noexcept nogil:
    return not multiplies_beyond(value[0], factor, value) and value[0] <= largest


cdef bint scale_minute(Minute *minute, i128 price, i128 qty) noexcept nogil:
    # False: something does not fit; the minute is then half scaled.
    cdef i128 most = <i128>1 << 126
    cdef i128 quote_factor = price * qty    # 36 digits at most: fits
    cdef i128 high = minute.high_price
    if not grows(&high, price, LARGEST):
        return False
    minute.open_price *= <int64_t>price
    minute.high_price = <int64_t>high
    minute.low_price *= <int64_t>price
    return grows(&minute.volume, qty, most) and grows(&minute.quote_volume, quote_factor, most)


cdef class Window:
    """Rolling 24 h of one instrument: open, high, low, volume, quote volume, count, VWAP. Scaled integers.

    92 KB once it has seen a trade. `dropped` counts trades that are older than the window.
    """

    def __init__(self, price_digits: int, qty_digits: int) -> None:
        if not 0 <= price_digits <= 18 or not 0 <= qty_digits <= 18:
            raise ValueError("digits are 0 to 18")
        self.price_digits = price_digits
        self.qty_digits = qty_digits

    def __dealloc__(self) -> None:
        free(self._ring)

    cdef bint _has_ring(self, int64_t minute) noexcept nogil:
        if self._ring == NULL:
            self._ring = <Minute *>calloc(MINUTES, sizeof(Minute))
            if self._ring == NULL:
                return False
            self._newest = minute
        return True

    cdef void _advance(self, int64_t minute) noexcept nogil:
        cdef Minute *old
        if minute - self._newest >= MINUTES:
            memset(self._ring, 0, MINUTES * sizeof(Minute))
            memset(&self._total, 0, sizeof(Minute))
            self._newest = minute
        while self._newest < minute:
            self._newest += 1
            old = &self._ring[self._newest % MINUTES]
            if old.count:
                self._take_out(old)

    cdef void _take_out(self, Minute *minute) noexcept nogil:
        self._total.volume -= minute.volume
        self._total.quote_volume -= minute.quote_volume
        self._total.count -= minute.count
        self._is_stale = True
        memset(minute, 0, sizeof(Minute))

    cdef void _find_extremes(self) noexcept nogil:
        cdef Minute *minute
        cdef int64_t i
        self._is_stale = False
        self._total.open_price = self._total.high_price = self._total.low_price = 0
        for i in range(self._newest - MINUTES + 1, self._newest + 1):
            minute = &self._ring[(i + MINUTES) % MINUTES]
            if minute.count:
                if self._total.open_price == 0:
                    self._total.open_price = minute.open_price
                    self._total.high_price = minute.high_price
                    self._total.low_price = minute.low_price
                if minute.high_price > self._total.high_price:
                    self._total.high_price = minute.high_price
                if minute.low_price < self._total.low_price:
                    self._total.low_price = minute.low_price

    cdef void add(self, int64_t ts_ns, int64_t price, int64_t qty, int64_t fills, int64_t now_ns) noexcept nogil:
        cdef int64_t number = ts_ns // MINUTE_NS
        cdef Minute *minute
        cdef i128 quote = <i128>price * qty
        cdef i128 sum
        if ts_ns <= 0:
            self.dropped += 1
            return
        if ts_ns >= self._last_ts:
            self._last_ts = ts_ns
            self._last_price = price
        if ts_ns <= self._covered_to:
            return
        if not self._has_ring(number) or number <= self._newest - MINUTES:
            self.dropped += 1
            return
        if number > self._newest:
            self._advance(number)
        # Twice the largest sum must fit: day() adds the prior's.
        if adds_beyond(self._total.quote_volume, quote, &sum) or sum > <i128>1 << 126:
            self.dropped += 1
            return
        if self._own_from == 0:
            self._own_from = ts_ns
            # An old trade that comes late, or another day's capture that is played back, says nothing of what was
            # traded between its time and now.
            self._heard_from = max(ts_ns, now_ns - MINUTE_NS)
        minute = &self._ring[number % MINUTES]
        if minute.count == 0:
            minute.open_price = minute.high_price = minute.low_price = price
            if number < self._newest or self._total.count == 0:
                self._is_stale = True
        if price > minute.high_price:
            minute.high_price = price
        if price < minute.low_price:
            minute.low_price = price
        minute.volume += qty
        minute.quote_volume += quote
        minute.count += fills
        self._total.volume += qty
        self._total.quote_volume += quote
        self._total.count += fills
        if price > self._total.high_price:
            self._total.high_price = price
        if price < self._total.low_price:
            self._total.low_price = price

    cdef void seed_ticker(self, const Ticker *ticker) noexcept nogil:
        cdef Minute seed
        cdef int digits = self.price_digits + self.qty_digits - ticker.quote_digits
        seed.volume = ticker.volume
        # A quote volume of our own trades has no more digits; a longer text of the venue's is cut.
        if ticker.quote_digits < 0:
            seed.quote_volume = -1
        elif digits >= 0:
            if multiplies_beyond(ticker.quote_volume, wide_power_of_ten(digits), &seed.quote_volume):
                return
        else:
            seed.quote_volume = ticker.quote_volume // wide_power_of_ten(-digits)
        seed.count = ticker.trade_count
        seed.open_price = ticker.open_price
        seed.high_price = ticker.high_price
        seed.low_price = ticker.low_price
        self._seed(&seed, ticker.open_ts, ticker.close_ts, ticker.last_price)

    cdef void _seed(self, const Minute *seed, int64_t open_ts, int64_t close_ts, int64_t last_price) noexcept nogil:
        cdef int64_t number
        cdef Minute *later
        if close_ts <= self._covered_to or close_ts <= open_ts or seed.quote_volume > <i128>1 << 126:
            return
        if last_price and close_ts >= self._last_ts:
            self._last_ts = close_ts
            self._last_price = last_price
        self._is_seeded = True
        if self._own_from == 0:
            self._own_from = self._heard_from = close_ts
        elif self._own_from <= open_ts:
            return
        self._covered_to = close_ts
        self._is_prior_quote_known = seed.quote_volume >= 0
        self._prior = seed[0]
        self._prior_from = open_ts
        self._prior_to = self._own_from
        # What the ring holds of the seed's time is in both. The minute that close_ts cuts counts as whole.
        self._prior.volume -= self._total.volume
        self._prior.quote_volume -= self._total.quote_volume
        self._prior.count -= self._total.count
        if self._ring != NULL:
            for number in range(max(close_ts // MINUTE_NS, self._newest - MINUTES) + 1, self._newest + 1):
                later = &self._ring[number % MINUTES]
                self._prior.volume += later.volume
                self._prior.quote_volume += later.quote_volume
                self._prior.count += later.count
        self._clamp_prior()

    cdef void _clamp_prior(self) noexcept nogil:
        if self._prior.volume < 0:
            self._prior.volume = 0
        if self._prior.quote_volume < 0:
            self._prior.quote_volume = 0
        if self._prior.count < 0:
            self._prior.count = 0

    cdef void day(self, int64_t now_ns, Day *out) noexcept nogil:
        cdef int64_t number = now_ns // MINUTE_NS
        cdef int64_t start
        cdef int64_t share
        if self._ring != NULL:
            if number > self._newest:
                self._advance(number)
            number = self._newest
            if self._is_stale:
                self._find_extremes()
        elif number < self._covered_to // MINUTE_NS:
            number = self._covered_to // MINUTE_NS
        start = (number - MINUTES + 1) * MINUTE_NS
        memset(out, 0, sizeof(Day))
        out.is_known = out.is_quote_known = self._is_seeded or 0 < self._heard_from <= start + MINUTE_NS
        if not out.is_known:
            return
        out.volume = self._total.volume
        out.quote_volume = self._total.quote_volume
        out.trade_count = self._total.count
        if self._total.count:
            out.open_price = self._total.open_price
            out.high_price = self._total.high_price
            out.low_price = self._total.low_price
        if start < self._prior_to and self._prior_from < self._prior_to and self._prior.high_price > 0:
            share = self._prior_to - (start if start > self._prior_from else self._prior_from)
            share = <int64_t>((<i128>share << SHARE_BITS) // (self._prior_to - self._prior_from))
            out.is_quote_known = self._is_prior_quote_known
            out.volume += share_of(self._prior.volume, share)
            out.quote_volume += share_of(self._prior.quote_volume, share)
            out.trade_count += <int64_t>share_of(self._prior.count, share)
            out.open_price = self._prior.open_price
            if self._prior.high_price > out.high_price:
                out.high_price = self._prior.high_price
            if out.low_price == 0 or self._prior.low_price < out.low_price:
                out.low_price = self._prior.low_price
        if out.high_price == 0:
            # Nobody traded: the price stood where it was, if we know where.
            out.open_price = out.high_price = out.low_price = self._last_price
            out.is_known = self._last_price > 0

    cdef Status rescale(self, int price_digits, int qty_digits) noexcept nogil:
        cdef i128 price, qty
        cdef Minute scaled[3]
        cdef int i
        if price_digits < self.price_digits or qty_digits < self.qty_digits or price_digits > 18 or qty_digits > 18:
            return BAD
        price = wide_power_of_ten(price_digits - self.price_digits)
        qty = wide_power_of_ten(qty_digits - self.qty_digits)
        if self._ring != NULL and self._is_stale:
            self._find_extremes()
        # No minute is larger than the total: when that fits, all of them do.
        scaled[0] = self._total
        scaled[1] = self._prior
        memset(&scaled[2], 0, sizeof(Minute))
        scaled[2].high_price = self._last_price
        for i in range(3):
            if not scale_minute(&scaled[i], price, qty):
                return BAD
        self._total = scaled[0]
        self._prior = scaled[1]
        self._last_price = scaled[2].high_price
        if self._ring != NULL:
            for i in range(MINUTES):
                scale_minute(&self._ring[i], price, qty)
        self.price_digits = price_digits
        self.qty_digits = qty_digits
        return OK

    def add_trade(self, ts_ns: int, price: int, qty: int, fills: int = 1, now_ns: int = 0) -> None:
        """A market trade of `fills` matches, scaled; in any order. One that a seed covers already changes no sum.

        `now_ns` is when it came, by the venue's clock; 0: in its own time.
        """
        self.add(ts_ns, price, qty, fills, now_ns)

    def seed(self, open: int, high: int, low: int, volume: int, quote_volume: int, count: int, open_ts: int,
             close_ts: int, last: int = 0) -> None:
        """The venue's own rolling window from `open_ts` to `close_ts` (ns); scaled, quote volume by both digits.

        A seed that is not newer than the last one, or whose whole time the ring covers, changes no figure. A quote
        volume of -1 is not known.
        """
        cdef Minute seed = Minute(wide_of_int(volume), wide_of_int(quote_volume), open, high, low, count)
        self._seed(&seed, open_ts, close_ts, last)

    def seed_minutes(self, rows: Iterable[tuple[int, int, int, int, int, int, int]], closed_to_ns: int = 0) -> None:
        """True minutes, from 1 m klines: (open_ts, open, high, low, volume, quote_volume, count), any order.

        A row replaces a minute of ours that holds fewer trades. Rows may reach up to the minute under way; trades up
        to `closed_to_ns` are in them, whenever they come, and a minute up to there that has no row had no trade.
        """
        cdef int64_t first = 0, last = 0, number
        cdef Minute row
        cdef Minute *minute
        for open_ts, *prices, volume, quote_volume, count in sorted(rows):
            number = open_ts // MINUTE_NS
            if not self._has_ring(number):
                raise MemoryError
            if number > self._newest:
                self._advance(number)
            if number <= self._newest - MINUTES:
                continue
            first = first or number
            last = number
            minute = &self._ring[number % MINUTES]
            row = Minute(wide_of_int(volume), wide_of_int(quote_volume), prices[0], prices[1], prices[2], count)
            if row.count <= minute.count:
                continue
            if number * MINUTE_NS < self._prior_to:
                self._prior.volume -= row.volume - minute.volume
                self._prior.quote_volume -= row.quote_volume - minute.quote_volume
                self._prior.count -= row.count - minute.count
            self._take_out(minute)
            minute[0] = row
            self._total.volume += row.volume
            self._total.quote_volume += row.quote_volume
            self._total.count += row.count
        if not first:
            return
        self._clamp_prior()
        if self._last_ts < last * MINUTE_NS:
            self._last_ts = last * MINUTE_NS
            self._last_price = prices[0]
        self._covered_to = max(self._covered_to, last * MINUTE_NS, <int64_t>closed_to_ns)
        # Complete from the first row on, if the rows reach what was complete before.
        if self._own_from == 0 or max((last + 1) * MINUTE_NS, <int64_t>closed_to_ns + 1) >= self._own_from:
            if self._own_from == 0 or first * MINUTE_NS < self._own_from:
                self._own_from = self._heard_from = first * MINUTE_NS
            self._prior_to = min(self._prior_to, self._own_from)

    @property
    def memory_bytes(self) -> int:
        """Bytes held, malloc's own share included."""
        return object.__sizeof__(self) + (round_block(MINUTES * sizeof(Minute)) if self._ring != NULL else 0)

    def grow_digits(self, price_digits: int, qty_digits: int) -> None:
        """More digits, no loss. Raises OverflowError, with nothing changed, for fewer or when a figure does not fit."""
        if self.rescale(price_digits, qty_digits) != OK:
            raise OverflowError(f"the window does not fit {price_digits} and {qty_digits} digits")

    def figures(self, now_ns: int) -> dict[str, int] | None:
        """open, high, low, volume, quote_volume, count at `now_ns`, scaled; None while 24 h are not known.

        quote_volume is -1 while the venue's own, which did not fit, is still leaned on.
        """
        cdef Day day
        self.day(now_ns, &day)
        if not day.is_known:
            return None
        return {
            "open": day.open_price,
            "high": day.high_price,
            "low": day.low_price,
            "volume": int_of_wide(day.volume),
            "quote_volume": int_of_wide(day.quote_volume) if day.is_quote_known else -1,
            "count": day.trade_count,
        }

    def vwap(self, now_ns: int) -> float | None:
        """Volume-weighted mean price of the window, or None while unknown or without a trade."""
        figures = self.figures(now_ns)
        if figures is None or not figures["volume"] or figures["quote_volume"] < 0:
            return None
        return figures["quote_volume"] / figures["volume"] / 10**self.price_digits
