# One instrument's exact book. Knows levels, ids and the continuity rule; no venue, no clock, no I/O.

from mdfeed._audit cimport Scale
from mdfeed._ladder cimport Cursor, Ladder
from mdfeed._types cimport *


cdef class Book:
    cdef Ladder _sides[2]                   # bids, asks
    cdef readonly int64_t last_id           # 0: no snapshot yet, every diff is a GAP
    cdef readonly int64_t first_id          # of the newest applied diff
    cdef readonly int64_t ts_event          # ns, venue time of the newest applied update; whoever applies it sets it
    cdef readonly int64_t recv_ns           # likewise
    cdef readonly int price_digits
    cdef readonly int qty_digits
    cdef readonly int64_t dropped_levels    # far levels dropped at max_levels, counted

    # The continuity rule, then the levels: OLD, GAP (book untouched) or APPLIED; NO_MEMORY leaves it unusable: cleared.
    cdef Status apply(self, const Update *update) noexcept nogil

    # Replaces everything by a snapshot. `limit` is what was asked for: a side with fewer levels is complete,
    # so its verified horizon is unbounded; else the horizon is the side's last price. 0: complete, whatever its size.
    # OK, BAD (last_id below 1; book untouched) or NO_MEMORY (cleared).
    cdef Status load(self, const Update *update, int32_t limit) noexcept nogil

    # A self-contained top (partial depth): replaces the levels from the touch to its worst price, when newer.
    # The verified horizon becomes the intersection-safe one: what lies inside the partial's range is exact. A side
    # without levels is empty then. OLD, APPLIED or NO_MEMORY (cleared).
    cdef Status replace_top(self, const Update *update) noexcept nogil

    cdef void clear(self) noexcept nogil
    cdef Top top(self) noexcept nogil
    cdef bint is_crossed(self) noexcept nogil

    # Up to n levels of a side (0 bids, 1 asks) best first into out; verified_only stops at the horizon.
    # Returns the number written.
    cdef int32_t depth(self, int side, int32_t n, bint verified_only, Level *out) noexcept nogil

    cdef int64_t count(self, int side) noexcept nogil
    # Levels inside the verified horizon, at most `at_most`. O(1): the count is kept.
    cdef int64_t count_verified(self, int side, int64_t at_most) noexcept nogil
    # Whether the verified horizon of a side is unbounded.
    cdef bint is_whole(self, int side) noexcept nogil
    # More digits, no loss: every price and quantity times a power of ten. BAD when one does not fit, when the digits
    # are fewer than before or more than 18 (book untouched).
    cdef Status rescale(self, int price_digits, int qty_digits) noexcept nogil
    # Number of levels in which two books differ within both verified horizons (prices present in one only, or
    # other quantities): shadow snapshots count ghosts with it. The digits may differ.
    cdef int64_t differences(self, Book other) noexcept nogil
    # Exchanges the whole contents (ladders with their cap, ids, times, digits, horizon) with another book in O(1).
    # `dropped_levels` stays: it counts what this object dropped.
    cdef void swap(self, Book other) noexcept nogil
    # Every level of a side, best first: begin(), then read() while it returns True. Valid until the book changes.
    cdef void begin(self, int side, Cursor *cursor) noexcept nogil
    cdef bint read(self, int side, Cursor *cursor, Level *out) noexcept nogil

    cdef Scale _scale_to(self, int price_digits, int qty_digits) noexcept nogil
    cdef Status _done(self, const Update *update, Status bids, Status asks) noexcept nogil
    cdef tuple _pack(self, bids, asks)
    cdef object _feed(self, int how, ids, bids, asks, int32_t limit, int64_t ts_event, int64_t recv_ns)
