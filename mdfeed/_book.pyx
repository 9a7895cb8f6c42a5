"""One instrument's exact book.

Answers for both sides' levels, the continuity rule of sequence-numbered venues and the verified horizon, in C for
the feed and in Decimals for Python. Refuses to know venues, frames, clocks and I/O. How one side keeps its levels
is `_ladder`'s.
"""

from decimal import Decimal
from hashlib import sha256

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport INT64_MAX

from mdfeed._audit cimport Scale, can_scale, check_ladder, count_bytes, count_differences
from mdfeed._ladder cimport (
    HORIZON_NONE, HORIZON_OPEN, best_level, clear_ladder, init_ladder, load_ladder, next_level, replace_ladder_top,
    scale_ladder, set_levels, start_cursor,
)
from mdfeed._rows cimport MAX_DIGITS, make_decimal, make_rows, pack_levels, split_decimal, write_rows
from mdfeed._types cimport *

from mdfeed.errors import DecodeError


cdef int find_side(side) except -1:
    if side == "bids":
        return 0
    if side == "asks":
        return 1
    raise ValueError(f"side must be 'bids' or 'asks', not {side!r}")


cdef class Book:
    """One instrument's exact order book.

    Prices and quantities are integers scaled by `price_digits` and `qty_digits`, which grow as longer fractions
    appear; a value that does not fit 63 bits is a DecodeError, never rounded. With `max_levels` each side keeps
    that many levels: the farthest from the touch is dropped first and counted, and the verified horizon shrinks to
    what is still whole.
    """

    def __cinit__(self, int price_digits=0, int qty_digits=0, int64_t max_levels=0):
        init_ladder(&self._sides[0], True, max_levels)
        init_ladder(&self._sides[1], False, max_levels)
        if not (0 <= price_digits <= MAX_DIGITS and 0 <= qty_digits <= MAX_DIGITS):
            raise ValueError(f"digits must be 0 to {MAX_DIGITS}")
        if max_levels < 0:
            raise ValueError("max_levels must not be negative")
        self.price_digits = price_digits
        self.qty_digits = qty_digits

    def __dealloc__(self):
        clear_ladder(&self._sides[0])
        clear_ladder(&self._sides[1])

    # For the feed.

    cdef Status _done(self, const Update *update, Status bids, Status asks) noexcept nogil:
        self.dropped_levels += self._sides[0].dropped + self._sides[1].dropped
        self._sides[0].dropped = self._sides[1].dropped = 0
        if bids != OK or asks != OK:
            self.clear()
            return NO_MEMORY
        self.first_id = update.first_id
        self.last_id = update.last_id
        return APPLIED

    cdef Status apply(self, const Update *update) noexcept nogil:
        if update.last_id <= self.last_id:
            return OLD
        if self.last_id == 0 or update.prev_id > self.last_id:
            return GAP
        return self._done(update, set_levels(&self._sides[0], update.bids, update.n_bids),
                          set_levels(&self._sides[1], update.asks, update.n_asks))

    cdef Status load(self, const Update *update, int32_t limit) noexcept nogil:
        cdef Status bids, asks
        if update.last_id < 1:
            return BAD
        bids = load_ladder(&self._sides[0], update.bids, update.n_bids, 0 < limit <= update.n_bids)
        asks = load_ladder(&self._sides[1], update.asks, update.n_asks, 0 < limit <= update.n_asks)
        return OK if self._done(update, bids, asks) == APPLIED else NO_MEMORY

    cdef Status replace_top(self, const Update *update) noexcept nogil:
        if update.last_id <= self.last_id:
            return OLD
        return self._done(update, replace_ladder_top(&self._sides[0], update.bids, update.n_bids),
                          replace_ladder_top(&self._sides[1], update.asks, update.n_asks))

    cdef void clear(self) noexcept nogil:
        clear_ladder(&self._sides[0])
        clear_ladder(&self._sides[1])
        self.first_id = self.last_id = self.ts_event = self.recv_ns = 0

    cdef Top top(self) noexcept nogil:
        cdef Level bid, ask
        cdef Top top
        bid.price = bid.qty = ask.price = ask.qty = 0
        best_level(&self._sides[0], &bid)
        best_level(&self._sides[1], &ask)
        top.bid_price = bid.price
        top.bid_qty = bid.qty
        top.ask_price = ask.price
        top.ask_qty = ask.qty
        return top

    cdef bint is_crossed(self) noexcept nogil:
        cdef Level bid, ask
        return best_level(&self._sides[0], &bid) and best_level(&self._sides[1], &ask) and bid.price >= ask.price

    cdef int32_t depth(self, int side, int32_t n, bint verified_only, Level *out) noexcept nogil:
        cdef const Ladder *ladder = &self._sides[side]
        cdef Cursor cursor
        cdef int32_t written = 0
        if verified_only and n > ladder.verified:
            n = <int32_t>ladder.verified
        start_cursor(ladder, &cursor)
        while written < n and next_level(ladder, &cursor, out + written):
            written += 1
        return written

    cdef int64_t count(self, int side) noexcept nogil:
        return self._sides[side].count

    cdef int64_t count_verified(self, int side, int64_t at_most) noexcept nogil:
        return min(self._sides[side].verified, at_most)

    cdef bint is_whole(self, int side) noexcept nogil:
        return self._sides[side].horizon == HORIZON_OPEN

    cdef Status rescale(self, int price_digits, int qty_digits) noexcept nogil:
        cdef Scale scale
        if not (self.price_digits <= price_digits <= MAX_DIGITS and self.qty_digits <= qty_digits <= MAX_DIGITS):
            return BAD
        scale = self._scale_to(price_digits, qty_digits)
        if not (can_scale(&self._sides[0], scale) and can_scale(&self._sides[1], scale)):
            return BAD
        scale_ladder(&self._sides[0], scale.price, scale.qty)
        scale_ladder(&self._sides[1], scale.price, scale.qty)
        self.price_digits = price_digits
        self.qty_digits = qty_digits
        return OK

    cdef Scale _scale_to(self, int price_digits, int qty_digits) noexcept nogil:
        cdef Scale scale
        scale.price = power_of_ten(price_digits - self.price_digits)
        scale.qty = power_of_ten(qty_digits - self.qty_digits)
        return scale

    cdef int64_t differences(self, Book other) noexcept nogil:
        cdef int price_digits = max(self.price_digits, other.price_digits)
        cdef int qty_digits = max(self.qty_digits, other.qty_digits)
        cdef Scale mine = self._scale_to(price_digits, qty_digits), its = other._scale_to(price_digits, qty_digits)
        return (count_differences(&self._sides[0], mine, &other._sides[0], its)
                + count_differences(&self._sides[1], mine, &other._sides[1], its))

    cdef void swap(self, Book other) noexcept nogil:
        cdef int side
        for side in range(2):
            self._sides[side], other._sides[side] = other._sides[side], self._sides[side]
        self.last_id, other.last_id = other.last_id, self.last_id
        self.first_id, other.first_id = other.first_id, self.first_id
        self.ts_event, other.ts_event = other.ts_event, self.ts_event
        self.recv_ns, other.recv_ns = other.recv_ns, self.recv_ns
        self.price_digits, other.price_digits = other.price_digits, self.price_digits
        self.qty_digits, other.qty_digits = other.qty_digits, self.qty_digits

    cdef void begin(self, int side, Cursor *cursor) noexcept nogil:
        start_cursor(&self._sides[side], cursor)

    cdef bint read(self, int side, Cursor *cursor, Level *out) noexcept nogil:
        return next_level(&self._sides[side], cursor, out)

    # For Python.

    cdef tuple _pack(self, bids, asks):
        # Both sides as arrays of Level, after growing the digits to what they need.
        bid_rows = [(split_decimal(price), split_decimal(qty)) for price, qty in bids]
        ask_rows = [(split_decimal(price), split_decimal(qty)) for price, qty in asks]
        price_digits = max([self.price_digits] + [price[1] for price, _ in bid_rows + ask_rows])
        qty_digits = max([self.qty_digits] + [qty[1] for _, qty in bid_rows + ask_rows])
        packed = pack_levels(bid_rows, price_digits, qty_digits), pack_levels(ask_rows, price_digits, qty_digits)
        if self.rescale(price_digits, qty_digits) != OK:
            raise DecodeError(f"levels of the book do not fit 63 bits at {price_digits} and {qty_digits} digits")
        return packed

    cdef object _feed(self, int how, ids, bids, asks, int32_t limit, int64_t ts_event, int64_t recv_ns):
        # `how`: 0 apply, 1 load, 2 replace_top. The packed levels live until the end of this call.
        cdef Update update
        cdef Status status
        update.first_id, update.prev_id, update.last_id = ids
        bid_bytes, ask_bytes = self._pack(bids, asks)
        update.bids = <const Level *>PyByteArray_AS_STRING(bid_bytes)
        update.asks = <const Level *>PyByteArray_AS_STRING(ask_bytes)
        update.n_bids = <int32_t>(len(bid_bytes) // sizeof(Level))
        update.n_asks = <int32_t>(len(ask_bytes) // sizeof(Level))
        if how == 0:
            status = self.apply(&update)
        elif how == 1:
            status = self.load(&update, limit)
        else:
            status = self.replace_top(&update)
        if status == NO_MEMORY:
            raise MemoryError("the book is cleared")
        if status == BAD:
            raise ValueError(f"a snapshot's id must be 1 or more, not {update.last_id}")
        if status == OLD:
            return "old"
        if status == GAP:
            return "gap"
        self.ts_event = ts_event
        self.recv_ns = recv_ns
        return "applied"

    def apply_levels(self, first_id, prev_id, last_id, bids, asks, *, ts_event=0, recv_ns=0):
        """Apply one diff by the continuity rule; absolute quantities, 0 deletes.

        Levels are (price, qty) of Decimal or str; the digits grow as needed. Ids are the venue's, `prev_id` the
        `last_id` of the diff before (futures `pu`, spot `U - 1`). Times in UTC ns. Returns "applied", "old" (not
        newer than the book) or "gap" (something before it is missing, or no snapshot was loaded yet): the levels
        are untouched by the latter two. DecodeError for what is no plain number or does not fit 63 bits.
        """
        return self._feed(0, (first_id, prev_id, last_id), bids, asks, 0, ts_event, recv_ns)

    def load_levels(self, last_id, bids, asks, limit=0, *, ts_event=0, recv_ns=0):
        """Replace everything by a snapshot taken at `last_id` (1 or more; else ValueError).

        `limit` is the number of levels that was asked for: a side that has fewer is complete, and verified without
        bound; else it is verified up to its last price. 0: complete.
        """
        self._feed(1, (last_id, last_id, last_id), bids, asks, limit, ts_event, recv_ns)

    def replace_top_levels(self, last_id, bids, asks, *, ts_event=0, recv_ns=0):
        """Replace each side's levels from the touch to the worst price given (partial depth), when newer.

        Returns "applied" or "old". The sides are verified up to there afterwards; a side given empty is empty.
        """
        return self._feed(2, (last_id, last_id, last_id), bids, asks, 0, ts_event, recv_ns)

    def set_digits(self, int price_digits, int qty_digits):
        """Grow the digits, without loss. ValueError, and nothing changed, when they shrink or a level doesn't fit."""
        if self.rescale(price_digits, qty_digits) != OK:
            raise ValueError(f"cannot go from {self.price_digits}, {self.qty_digits} to {price_digits}, {qty_digits}")

    def reset(self):
        """Forget levels, ids and times; keep digits and counters."""
        self.clear()

    def swap_with(self, Book other not None):
        """Exchange the whole contents with another book, at once whatever the size."""
        self.swap(other)

    def differences_from(self, Book other not None):
        """Number of prices inside both verified horizons at which the two books differ."""
        return self.differences(other)

    def levels(self, side, n=None, verified_only=False):
        """Up to `n` levels of "bids" or "asks" as [(price, qty)] of Decimal, best first; None: all."""
        cdef int which = find_side(side)
        cdef int64_t left = self._sides[which].verified if verified_only else self._sides[which].count
        cdef Cursor cursor
        cdef Level level
        found = []
        if n is not None:
            left = min(left, <int64_t>n)
        self.begin(which, &cursor)
        while left > 0 and self.read(which, &cursor, &level):
            found.append((make_decimal(level.price, self.price_digits), make_decimal(level.qty, self.qty_digits)))
            left -= 1
        return found

    @property
    def bids(self):
        """The bids now, best first, as an object for `np.asarray`: (n, 2) float64, price and quantity.

        It shows the book at this access and does not follow it: after an update, take it again.
        """
        return make_rows(&self._sides[0], self.price_digits, self.qty_digits)

    @property
    def asks(self):
        """The asks now; see `bids`."""
        return make_rows(&self._sides[1], self.price_digits, self.qty_digits)

    @property
    def best_bid(self):
        """(price, qty) of Decimal, or None."""
        return next(iter(self.levels("bids", 1)), None)

    @property
    def best_ask(self):
        """(price, qty) of Decimal, or None."""
        return next(iter(self.levels("asks", 1)), None)

    @property
    def crossed(self):
        """Whether the best bid is not below the best ask."""
        return self.is_crossed()

    @property
    def mid(self):
        """Half way between the best prices, exact; None while a side is empty."""
        cdef Top top = self.top()
        if top.bid_qty == 0 or top.ask_qty == 0:
            return None
        return make_decimal((<object>top.bid_price + <object>top.ask_price) * 5, self.price_digits + 1)

    @property
    def spread(self):
        """Best ask less best bid, exact; negative when crossed, None while a side is empty."""
        cdef Top top = self.top()
        if top.bid_qty == 0 or top.ask_qty == 0:
            return None
        return make_decimal(top.ask_price - top.bid_price, self.price_digits)

    @property
    def microprice(self):
        """The best prices weighted by each other's quantity, float; None while a side is empty."""
        cdef Top top = self.top()
        if top.bid_qty == 0 or top.ask_qty == 0:
            return None
        bid, bid_qty, ask, ask_qty = top.bid_price, top.bid_qty, top.ask_price, top.ask_qty
        return (bid * ask_qty + ask * bid_qty) / ((bid_qty + ask_qty) * 10 ** self.price_digits)

    def imbalance(self, n=1):
        """(bids - asks) / (bids + asks) of the quantities in the best `n` levels, -1 to 1; None without any."""
        bids, asks = (sum(qty for _, qty in self.levels(side, n)) for side in ("bids", "asks"))
        return float((bids - asks) / (bids + asks)) if bids or asks else None

    def vwap(self, side, qty):
        """Mean price at which `qty` is filled by that side's levels, from the best on; None if it holds less.

        Decimal, at the current decimal context's precision. ValueError unless `qty` is above 0.
        """
        wanted = left = Decimal(qty)
        total = Decimal(0)
        if not wanted > 0:
            raise ValueError("qty must be above 0")
        for price, held in self.levels(side):
            filled = min(held, left)
            total += price * filled
            left -= filled
            if not left:
                return total / wanted
        return None

    def count_of(self, side):
        """Number of levels of "bids" or "asks"."""
        return self.count(find_side(side))

    @property
    def verified_bids(self):
        """Number of bids inside the verified horizon."""
        return self.count_verified(0, INT64_MAX)

    @property
    def verified_asks(self):
        """Number of asks inside the verified horizon."""
        return self.count_verified(1, INT64_MAX)

    def horizon(self, side):
        """The farthest verified price: bids from it upwards, asks up to it. Infinite when there is no bound.

        Without any verified price (no snapshot yet) it is infinite on the far side: Infinity for bids.
        """
        cdef const Ladder *ladder = &self._sides[find_side(side)]
        if ladder.horizon == HORIZON_OPEN:
            return Decimal("-Infinity" if ladder.mask else "Infinity")
        if ladder.horizon == HORIZON_NONE:
            return Decimal("Infinity" if ladder.mask else "-Infinity")
        return make_decimal(-ladder.horizon if ladder.mask else ladder.horizon, self.price_digits)

    def digest(self):
        """sha256 (hex) of the book as text: `b,<price>,<qty>` and `a,...` lines, each side best first.

        Plain decimals without trailing zeros and exponent.
        """
        text = sha256(write_rows(&self._sides[0], b"b", self.price_digits, self.qty_digits))
        text.update(write_rows(&self._sides[1], b"a", self.price_digits, self.qty_digits))
        return text.hexdigest()

    @property
    def memory_bytes(self):
        """Bytes held, malloc's own share included."""
        return object.__sizeof__(self) + count_bytes(&self._sides[0]) + count_bytes(&self._sides[1])

    def check(self):
        """Raise AssertionError, with the detail, if the book contradicts itself."""
        check_ladder(&self._sides[0])
        check_ladder(&self._sides[1])
        assert self.last_id >= 0
        assert self.last_id or not (self._sides[0].count or self._sides[1].count), "levels without a snapshot"
