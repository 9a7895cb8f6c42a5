# One side of a book: price -> quantity in the order of the touch. Knows no ids, no snapshot, no other side.
#
# A level's key is its price for asks and its negated price for bids, so that lower is better on both sides.
# Levels on the learned price grid and inside the window live in pages of 64 grid steps with an occupancy
# bitmap. A page with more than a few levels holds 64 quantities, one a step (setting a level is a store, without a
# branch to mispredict); one with few packs them in the order of the bits, so that a lonely level costs 32 bytes and
# not 528. Everything else (far from the touch, off the grid) is kept in `far`, an array sorted by key. Nothing is
# allocated before the first level.

from mdfeed._grid cimport Grid, lowest_bit
from mdfeed._types cimport *


cdef extern from *:
    """
    #define MDFEED_HORIZON_OPEN INT64_MAX
    #define MDFEED_HORIZON_NONE INT64_MIN
    """
    # Values of Ladder.horizon that are no key: everything is verified, nothing is.
    const int64_t HORIZON_OPEN "MDFEED_HORIZON_OPEN"
    const int64_t HORIZON_NONE "MDFEED_HORIZON_NONE"


cdef struct Page:
    uint64_t bits           # bit i: grid step i of the page holds a level
    int64_t *qtys           # NULL when empty
    int32_t capacity        # 64: qtys[step]; 3, 7, 15: packed, qtys[rank of the step's bit]; 0: empty


cdef struct Ladder:
    Page *pages
    uint64_t *summary       # bit i: page i is not empty
    int32_t n_pages         # 0 or a power of two from 64 on
    int32_t best_page       # lowest page that is not empty; n_pages when all are
    int64_t base            # page number (grid step / 64, rounded down) of pages[0]
    Grid grid
    int64_t mask            # -1 for bids, 0 for asks
    Level *far              # `price` holds the key
    int32_t n_far
    int32_t far_capacity
    int64_t count
    int64_t verified        # levels whose key <= horizon
    int64_t horizon         # a key, or one of the two above
    bint is_horizon_short   # the horizon ends just before a dropped level, not at a known one
    int64_t max_levels      # 0: no cap
    int64_t dropped         # levels dropped at max_levels; whoever counts them sets it back to 0
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
# Every price, quantity and the horizon times these; only if all fit (_audit.can_scale).
cdef void scale_ladder(Ladder *self, int64_t price_factor, int64_t qty_factor) noexcept nogil


cdef inline int64_t turn_sign(const Ladder *self, int64_t value) noexcept nogil:
    # Price -> key and back.
    return (value ^ self.mask) - self.mask


cdef inline int64_t key_at(const Ladder *self, int32_t page, int step) noexcept nogil:
    return ((self.base + page) * 64 + step) * self.grid.unit


cdef inline int32_t first_page(const Ladder *self, int32_t start) noexcept nogil:
    # The first page from `start` on that is not empty, else n_pages.
    cdef int32_t word = start >> 6, words = self.n_pages >> 6
    cdef uint64_t bits
    if start >= self.n_pages:
        return self.n_pages
    bits = self.summary[word] & (<uint64_t>-1 << (start & 63))
    while bits == 0:
        word += 1
        if word == words:
            return self.n_pages
        bits = self.summary[word]
    return (word << 6) + lowest_bit(bits)


cdef inline void start_cursor(const Ladder *self, Cursor *cursor) noexcept nogil:
    cursor.page = self.best_page
    cursor.bits = self.pages[self.best_page].bits if self.best_page < self.n_pages else 0
    cursor.rank = 0
    cursor.far = 0


# The next level, best first; False after the last.
cdef inline bint next_level(const Ladder *self, Cursor *cursor, Level *out) noexcept nogil:
    cdef const Page *page
    cdef int64_t key
    cdef int step
    if cursor.bits == 0 and cursor.page < self.n_pages:
        cursor.page = first_page(self, cursor.page + 1)
        cursor.rank = 0
        if cursor.page < self.n_pages:
            cursor.bits = self.pages[cursor.page].bits
    if cursor.bits != 0:
        page = self.pages + cursor.page
        step = lowest_bit(cursor.bits)
        key = key_at(self, cursor.page, step)
        if cursor.far == self.n_far or key < self.far[cursor.far].price:
            out.price = turn_sign(self, key)
            out.qty = page.qtys[step if page.capacity == 64 else cursor.rank]
            cursor.bits &= cursor.bits - 1
            cursor.rank += 1
            return True
    elif cursor.far == self.n_far:
        return False
    out.price = turn_sign(self, self.far[cursor.far].price)
    out.qty = self.far[cursor.far].qty
    cursor.far += 1
    return True


# The best level; False, and out untouched, when there is none.
cdef inline bint best_level(const Ladder *self, Level *out) noexcept nogil:
    cdef Cursor cursor
    start_cursor(self, &cursor)
    return next_level(self, &cursor, out)
