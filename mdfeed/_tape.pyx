"""Trades of one instrument, merged by id.

Ids of one kind (aggTrade `a`, trade `t`) rise by one a trade. Two lines bring each trade twice, and a line
that loses one leaves a hole that the other may fill: so a late id that was missing is a trade, any other
late id is a duplicate. Fills that are not market trades (insurance fund, ADL) take an id and count nothing.
"""

from libc.stdint cimport INT64_MAX
from libc.string cimport memmove

from decimal import Decimal

cdef extern from *:
    """
    #define mdfeed_add_overflows(a, b, out) __builtin_add_overflow(a, b, out)
    #define mdfeed_multiply_overflows(a, b, out) __builtin_mul_overflow(a, b, out)
    """
    bint add_overflows "mdfeed_add_overflows"(i128 a, i128 b, i128 *out) noexcept nogil
    bint multiply_overflows "mdfeed_multiply_overflows"(i128 a, i128 b, i128 *out) noexcept nogil

cdef enum:
    RESTART_RUN = 3     # so many chained old ids may mean that ids started over
    FAR = 10_000_000    # ids further apart than this are of another life of the venue, or of another venue

# How long such a run must last where the event times do not tell, for the venue's clock may have been set back too.
cdef int64_t DOUBTED_NS = 1_000_000_000
cdef int64_t OLD_NS = 10_000_000_000


cdef class Tape:
    """Count, quantity, notional, high, low and last of the trades of one kind."""

    cdef bint add(self, const Trade *trade, int64_t ts_event, int64_t recv_ns) noexcept nogil:
        cdef int64_t trade_id = trade.trade_id
        cdef bint is_newest = True
        self.is_again = False
        if trade_id == self.last_id + 1 and self.last_id:
            self.last_id = trade_id
        elif self.last_id == 0:
            self.first_id = self.last_id = trade_id
            self._join_past(self._past_id)
        elif trade_id > self.last_id:
            self._open(self.last_id + 1, trade_id - 1, False)
            self.last_id = trade_id
        elif self._fill(trade_id):
            is_newest = False
        elif self._is_restart(trade_id, ts_event, recv_ns):
            self.restarts += 1
            self.first_id = 0
            self.last_id = trade_id
            self.last_ts = 0
            self.said_id = 0
            self.lost += self.missing
            self._hole_count = 0
            self.missing = 0
            self._open(trade_id - self._old_run + 1, trade_id - 1, False)   # they were taken for repeats
        else:
            self.duplicates += 1
            return False
        if is_newest and ts_event > self.last_ts:
            self.last_ts = ts_event
        self._old_run = self._late_run = 0
        self._is_doubted = False
        if not trade.is_market:
            if trade_id == self.said_id + 1:
                self.said_id = trade_id     # there is nothing to say of it
            return False
        if self.is_again:
            return True
        if is_newest or self.count == 0:
            self.last_price = trade.price
        if self.count == 0 or trade.price > self.high_price:
            self.high_price = trade.price
        if self.count == 0 or trade.price < self.low_price:
            self.low_price = trade.price
        self.count += 1
        self._qty += <i128>trade.qty
        self._is_notional_lost |= add_overflows(self._notional, <i128>trade.price * <i128>trade.qty, &self._notional)
        return True

    cdef void said(self, int64_t trade_id) noexcept nogil:
        self.is_withheld = False
        if trade_id > self.said_id:
            self.said_id = trade_id

    cdef void withhold(self, int64_t trade_id) noexcept nogil:
        self.is_withheld = True
        if trade_id <= self.said_id:        # newer ones are known by that: all above it are still to be said
            self._open(trade_id, trade_id, True)
            self.gaps -= 1                  # of a step that was counted already

    cdef void _open(self, int64_t first_id, int64_t last_id, bint is_counted) noexcept nogil:
        self.gaps += 1
        self.missing += last_id - first_id + 1
        if self._hole_count == HOLES:       # no room to remember the oldest: it can no longer be filled
            self._give_up(0)
        self._holes[self._hole_count].first_id = first_id
        self._holes[self._hole_count].last_id = last_id
        self._holes[self._hole_count].is_counted = is_counted
        self._hole_count += 1

    cdef bint _join_past(self, int64_t past_id) noexcept nogil:
        """What came between the newest id of an earlier life and our first one is a hole like any other, the oldest."""
        if past_id == 0 or not past_id + 1 < self.first_id <= past_id + FAR:
            return False
        if self._hole_count == HOLES:       # ours are the younger ones: they come first
            self.gaps += 1
            self.lost += self.first_id - past_id - 1
            return False
        self._open(past_id + 1, self.first_id - 1, False)
        memmove(&self._holes[1], &self._holes[0], <size_t>(self._hole_count - 1) * sizeof(Hole))
        self._holes[0].first_id = past_id + 1
        self._holes[0].last_id = self.first_id - 1
        self._holes[0].is_counted = False
        return True

    cdef void _open_again(self, int64_t first_id, int64_t last_id) noexcept nogil:
        """What was seen of these ids is to be published still; what was not is missing anyway."""
        cdef int32_t i
        cdef int64_t end_id, next_id
        while first_id <= last_id:
            end_id, next_id = last_id, 0
            for i in range(self._hole_count):
                if self._holes[i].first_id <= first_id <= self._holes[i].last_id:
                    next_id = self._holes[i].last_id + 1
                elif first_id < self._holes[i].first_id <= end_id:
                    end_id = self._holes[i].first_id - 1
            if next_id == 0:
                self._open(first_id, end_id, True)
                next_id = end_id + 1
            first_id = next_id

    cdef void _cut(self, int64_t first_id, int64_t last_id) noexcept nogil:
        """These ids are missing no longer: another has published them."""
        cdef int32_t i = 0
        cdef Hole *hole
        while i < self._hole_count:
            hole = &self._holes[i]
            if first_id <= hole.first_id and hole.last_id <= last_id:
                self.missing -= hole.last_id - hole.first_id + 1
                self._close(i)
                continue
            if first_id <= hole.first_id <= last_id:
                self.missing -= last_id - hole.first_id + 1
                hole.first_id = last_id + 1
            elif first_id <= hole.last_id <= last_id:
                self.missing -= hole.last_id - first_id + 1
                hole.last_id = first_id - 1
            i += 1

    cdef void _close(self, int32_t i) noexcept nogil:
        self._hole_count -= 1
        memmove(&self._holes[i], &self._holes[i + 1], <size_t>(self._hole_count - i) * sizeof(Hole))

    cdef void _give_up(self, int32_t i) noexcept nogil:
        cdef int64_t size = self._holes[i].last_id - self._holes[i].first_id + 1
        self.missing -= size
        self.lost += size
        self._close(i)

    cdef bint is_missing(self, int64_t trade_id) noexcept nogil:
        cdef int32_t i
        for i in range(self._hole_count):
            if self._holes[i].first_id <= trade_id <= self._holes[i].last_id:
                return True
        return False

    cdef bint _fill(self, int64_t trade_id) noexcept nogil:
        cdef int32_t i
        cdef int64_t last_id
        cdef Hole *hole
        for i in range(self._hole_count):
            hole = &self._holes[i]
            if trade_id < hole.first_id or trade_id > hole.last_id:
                continue
            last_id = hole.last_id
            self.is_again = hole.is_counted
            self.missing -= 1
            self.filled += 1
            if trade_id == hole.first_id:
                hole.first_id += 1
            elif trade_id == last_id:
                hole.last_id -= 1
            else:
                hole.last_id = trade_id - 1
                self.gaps -= 1              # one step seen from two sides is still one
                self.missing -= last_id - trade_id
                self._open(trade_id + 1, last_id, self.is_again)
                return True
            if hole.first_id > hole.last_id:
                self._close(i)
            return True
        return False

    cdef void doubt(self) noexcept nogil:
        self._is_doubted = True

    cdef bint _is_restart(self, int64_t trade_id, int64_t ts_event, int64_t recv_ns) noexcept nogil:
        if self._old_run == 0 or trade_id != self._old_id + 1:
            self._old_run = self._late_run = 0
            self._old_since_ns = recv_ns
        self._old_id = trade_id
        self._old_run += 1
        self._late_run = self._late_run + 1 if ts_event > self.last_ts else 0
        if self._late_run >= RESTART_RUN:
            return True
        return self._old_run >= RESTART_RUN and recv_ns - self._old_since_ns >= (
            DOUBTED_NS if self._is_doubted else OLD_NS)

    cdef void rescale(self, int64_t price_factor, int64_t qty_factor) noexcept nogil:
        if max(self.high_price, self.last_price) > INT64_MAX // price_factor:
            self.forget_figures()
            return
        self.last_price *= price_factor
        self.high_price *= price_factor
        self.low_price *= price_factor
        self._qty *= <i128>qty_factor
        self._is_notional_lost |= multiply_overflows(self._notional, <i128>price_factor * <i128>qty_factor,
                                                     &self._notional)

    cdef void forget_figures(self) noexcept nogil:
        self.count = 0
        self.last_price = self.high_price = self.low_price = 0
        self._qty = self._notional = 0
        self._is_notional_lost = False

    @property
    def holes(self):
        """Open holes as (first_id, last_id), oldest first."""
        return [(self._holes[i].first_id, self._holes[i].last_id) for i in range(self._hole_count)]

    def resume(self, int64_t past_id, int64_t own_id=0, bint is_doubted=False):
        """From now on what comes is published (again). Opens what is still to be: (first, last) of it, or None.

        Others have published up to `past_id`, we ourselves up to `own_id` (0: nothing is known of it). What was handed
        on may not have arrived when `is_doubted`. Before a trade was seen `past_id` is remembered, and the first one
        opens the hole. One that is far from our ids says nothing: it was another life of the venue.
        """
        cdef int64_t base, first_id = 0
        if self.last_id == 0:
            self._past_id = past_id if past_id > own_id else 0
            return None
        self.is_withheld = False
        if not -FAR <= past_id - self.last_id <= FAR:
            past_id = 0
        if self.said_id:
            base = self.said_id
            if is_doubted and 0 < own_id < base and base - own_id <= FAR:
                base = own_id
        elif (past_id or own_id) and self.first_id:
            base = self.first_id - 1        # nothing of what we saw was published
        else:
            base = self.last_id
        if past_id > max(self._past_id, own_id):
            if self._join_past(past_id):
                first_id = past_id + 1
            self._past_id = past_id
        if past_id > base:
            self._cut(base + 1, past_id)
            base = past_id
        self.said_id = max(self.said_id, self.last_id)
        if base < self.last_id:
            self._open_again(base + 1, self.last_id)
            self.gaps -= first_id != 0      # with what came before our first it is one step
            return first_id or base + 1, self.last_id
        return (first_id, self.first_id - 1) if first_id else None

    def give_up(self, int64_t first_id, int64_t last_id):
        """Ids first..last will not come any more: they are counted as lost. Returns how many of them were missing."""
        cdef int64_t lost = self.lost
        cdef int32_t i = 0
        while i < self._hole_count:
            if first_id <= self._holes[i].first_id and self._holes[i].last_id <= last_id:
                self._give_up(i)
            else:
                i += 1
        return self.lost - lost

    def summary(self, int price_digits, int qty_digits):
        """`count`, and as exact decimal text `qty`, `high`, `low`, `last`; `vwap` has 8 digits more at most.

        `vwap` is None when the sum behind it does not fit 128 bits.
        """
        if self.count == 0:
            return None
        qty = Decimal(self._qty).scaleb(-qty_digits)
        vwap = None
        if self._qty and not self._is_notional_lost:
            vwap = (Decimal(self._notional) / Decimal(self._qty)).scaleb(-price_digits)
            vwap = plain(round(vwap, price_digits + 8))
        return {
            "count": self.count,
            "qty": plain(qty),
            "vwap": vwap,
            "high": plain(Decimal(self.high_price).scaleb(-price_digits)),
            "low": plain(Decimal(self.low_price).scaleb(-price_digits)),
            "last": plain(Decimal(self.last_price).scaleb(-price_digits)),
        }


def plain(value):
    """Decimal as text without exponent and without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
