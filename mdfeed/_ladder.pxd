# One side of a book: price -> quantity in the order of the touch. Knows no ids, no snapshot, no other side.
#
# A level's key is its price for asks and its negated price for bids, so that lower is better on both sides.
# Levels on the learned price grid (`unit`) and inside the window live in pages of 64 grid steps; a page keeps an
# occupancy bitmap and its quantities packed in the order of the bits, so that a page with one level costs 32 bytes
# and not 512. Everything else (far from the touch, off the grid) is kept in `far`, an array sorted by key.
# Nothing is allocated before the first level.

from mdfeed._types cimport *


cdef enum:
    # Values of Ladder.horizon that are no key.
    HORIZON_OPEN = 0x7FFFFFFFFFFFFFFF

cdef extern from *:
    """
    #define MDFEED_HORIZON_NONE INT64_MIN
    """
    const int64_t HORIZON_NONE "MDFEED_HORIZON_NONE"


cdef struct Page:
    uint64_t bits           # bit i: grid step i of the page holds a level
    int64_t *qtys           # popcount(bits) quantities, lowest key first; NULL when empty


cdef struct Ladder:
    Page *pages
    uint64_t *summary       # bit i: page i is not empty
    uint8_t *capacities     # of pages[i].qtys
    int32_t n_pages         # 0 or a power of two from 64 on
    int32_t best_page       # lowest page that is not empty; n_pages when all are
    int64_t base            # page number (grid step / 64, rounded down) of pages[0]
    int64_t unit            # the grid's step in price units
    uint64_t inverse        # exact division by `unit`: see set_level
    uint64_t last_quotient
    uint32_t shift
    int64_t mask            # -1 for bids, 0 for asks: (x ^ mask) - mask is price -> key and back
    Level *far              # `price` holds the key
    int32_t n_far
    int32_t far_capacity
    int64_t count
    int64_t verified        # levels whose key <= horizon
    int64_t horizon         # HORIZON_OPEN: all is verified; HORIZON_NONE: nothing is
    bint is_horizon_short   # the horizon ends just before a dropped level, not at a known one
    int64_t max_levels      # 0: no cap
    int64_t dropped         # levels dropped at max_levels since the ladder was made
    int32_t misses          # levels that went to `far` since the window was last looked at
    int32_t patience        # how many of them until it is looked at again


cdef struct Cursor:
    # A place in one ladder; valid until the ladder changes.
    uint64_t bits           # of the current page: those still to come
    int32_t page
    int32_t rank
    int32_t far


cdef void init_ladder(Ladder *self, bint is_bids, int64_t max_levels) noexcept nogil
# Frees everything and forgets all levels and the horizon; the ladder stays usable.
cdef void clear_ladder(Ladder *self) noexcept nogil
# Sets each level (0 deletes). NO_MEMORY: some of them are missing, the ladder is sound.
cdef Status set_levels(Ladder *self, const Level *levels, int32_t n) noexcept nogil
# Forgets all, then holds these levels, verified up to the worst of them when `is_cut`, else without bound.
cdef Status load_ladder(Ladder *self, const Level *levels, int32_t n, bint is_cut) noexcept nogil
# These levels instead of all from the touch to the worst of them, and the horizon there. None: the side is empty.
cdef Status replace_ladder_top(Ladder *self, const Level *levels, int32_t n) noexcept nogil
# The best level; False when there is none.
cdef bint best_level(const Ladder *self, Level *out) noexcept nogil

cdef void start_cursor(const Ladder *self, Cursor *cursor) noexcept nogil
# The next level, best first; False after the last.
cdef bint next_level(const Ladder *self, Cursor *cursor, Level *out) noexcept nogil
cdef inline bint is_verified(const Ladder *self, int64_t price) noexcept nogil:
    return (price ^ self.mask) - self.mask <= self.horizon

# Whether every price and quantity still fits int64 after multiplication.
cdef bint can_scale(const Ladder *self, int64_t price_factor, int64_t qty_factor) noexcept nogil
# Only after can_scale said so.
cdef void scale_ladder(Ladder *self, int64_t price_factor, int64_t qty_factor) noexcept nogil

cdef int64_t ladder_bytes(const Ladder *self) noexcept nogil
# Raises AssertionError when the ladder contradicts itself.
cdef object check_ladder(const Ladder *self)
