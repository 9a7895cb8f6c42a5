"""One side of a book: the paged ladder.

Answers for levels kept exactly, in order, in little memory, whatever their prices. Refuses to know ids, snapshots
and the other side: that is `_book`.

The window of pages is placed so that a quarter of it lies before the touch. It is looked at again only when enough
levels missed it (`misses` > `patience`): then the price grid is learned anew, the window is sized to hold fifteen
sixteenths of the levels, and all is rebuilt if that differs from what is there. A few stray prices before
the touch neither move it nor are lost: they live in `far`.
"""

from libc.stdint cimport INT32_MAX, INT64_MAX
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

from mdfeed._grid cimport count_bits, divide_price, highest_bit, learn_unit, lowest_bit, set_unit
from mdfeed._types cimport *

cdef enum:
    MIN_PAGES = 64
    MAX_PAGES = 1024        # 17 KB of directory; 65,536 grid steps
    MIN_PATIENCE = 64
    MAX_PATIENCE = 4096
    STRAYS = 8              # levels before the touch that do not move the window
    DENSE = 64              # capacity of a page with one place a step
    PACKED = 15             # the largest packed capacity; a level more unpacks the page,
    SPARSE = 8              # and this few pack it again


cdef void init_ladder(Ladder *self, bint is_bids, int64_t max_levels) noexcept nogil:
    memset(self, 0, sizeof(Ladder))
    self.mask = -1 if is_bids else 0
    self.max_levels = max_levels
    self.horizon = HORIZON_NONE
    self.patience = MIN_PATIENCE
    set_unit(&self.grid, 1)


cdef void free_memory(Ladder *self) noexcept nogil:
    cdef int32_t i
    for i in range(self.n_pages):
        free(self.pages[i].qtys)
    free(self.pages)
    free(self.summary)
    free(self.far)


cdef void clear_ladder(Ladder *self) noexcept nogil:
    cdef int64_t dropped = self.dropped
    free_memory(self)
    init_ladder(self, self.mask != 0, self.max_levels)
    self.dropped = dropped


cdef Status place_window(Ladder *self, int64_t unit, int32_t n_pages, int64_t base) noexcept nogil:
    # For a ladder without pages.
    cdef size_t n = n_pages
    self.pages = <Page *>calloc(n, sizeof(Page))
    self.summary = <uint64_t *>calloc(n // 64, sizeof(uint64_t))
    if self.pages == NULL or self.summary == NULL:
        free(self.pages)
        free(self.summary)
        self.pages = NULL
        self.summary = NULL
        return NO_MEMORY
    self.n_pages = n_pages
    self.best_page = n_pages
    self.base = base
    set_unit(&self.grid, unit)
    return OK


cdef bint worst_key(const Ladder *self, int64_t *out) noexcept nogil:
    cdef int32_t word = (self.n_pages >> 6) - 1, page
    cdef bint is_found = False
    while word >= 0 and self.summary[word] == 0:
        word -= 1
    if word >= 0:
        page = (word << 6) + highest_bit(self.summary[word])
        out[0] = key_at(self, page, highest_bit(self.pages[page].bits))
        is_found = True
    if self.n_far and (not is_found or self.far[self.n_far - 1].price > out[0]):
        out[0] = self.far[self.n_far - 1].price
        is_found = True
    return is_found


cdef bint resize_page(Page *page, int32_t capacity) noexcept nogil:
    cdef int64_t *qtys = <int64_t *>realloc(page.qtys, capacity * sizeof(int64_t))
    if qtys == NULL:
        return False
    page.qtys = qtys
    page.capacity = capacity
    return True


cdef bint unpack_page(Page *page) noexcept nogil:
    cdef int rank = count_bits(page.bits), step
    cdef uint64_t bits = page.bits
    if not resize_page(page, DENSE):
        return False
    while bits:
        # From the last on: no quantity moves to a lower index.
        step = highest_bit(bits)
        rank -= 1
        page.qtys[step] = page.qtys[rank]
        bits ^= <uint64_t>1 << step
    return True


cdef void pack_page(Page *page) noexcept nogil:
    cdef int rank = 0
    cdef uint64_t bits = page.bits
    while bits:
        page.qtys[rank] = page.qtys[lowest_bit(bits)]
        rank += 1
        bits &= bits - 1
    if not resize_page(page, PACKED):
        page.capacity = PACKED          # the block stays larger than it need be


cdef Status insert_packed(Ladder *self, int32_t index, int step, int64_t key, int64_t qty) noexcept nogil:
    cdef Page *page = self.pages + index
    cdef int n = count_bits(page.bits), rank
    cdef uint64_t bit = <uint64_t>1 << step
    if n == page.capacity:
        if n == PACKED:
            if not unpack_page(page):
                return NO_MEMORY
        elif not resize_page(page, 2 * n + 1 if n else 3):      # with malloc's own 8 bytes a power of two
            return NO_MEMORY
    if page.capacity == DENSE:
        page.qtys[step] = qty
    else:
        rank = count_bits(page.bits & (bit - 1))
        memmove(page.qtys + rank + 1, page.qtys + rank, (n - rank) * sizeof(int64_t))
        page.qtys[rank] = qty
    page.bits |= bit
    self.summary[index >> 6] |= <uint64_t>1 << (index & 63)
    if index < self.best_page:
        self.best_page = index
    self.count += 1
    self.verified += key <= self.horizon
    return OK


cdef void remove_packed(Ladder *self, int32_t index, int step, int64_t key) noexcept nogil:
    cdef Page *page = self.pages + index
    cdef uint64_t bit = <uint64_t>1 << step
    cdef int n, rank
    page.bits ^= bit
    n = count_bits(page.bits)
    self.count -= 1
    self.verified -= key <= self.horizon
    if n == 0:
        free(page.qtys)
        page.qtys = NULL
        page.capacity = 0
        self.summary[index >> 6] &= ~(<uint64_t>1 << (index & 63))
        if index == self.best_page:
            self.best_page = first_page(self, index)
        return
    rank = count_bits(page.bits & (bit - 1))
    memmove(page.qtys + rank, page.qtys + rank + 1, (n - rank) * sizeof(int64_t))
    if n <= page.capacity >> 2:
        resize_page(page, page.capacity >> 1)       # in vain: it stays as it is


cdef int32_t find_far(const Ladder *self, int64_t key) noexcept nogil:
    # Index of the first far level that is not better than key.
    cdef const Level *far = self.far
    cdef int32_t low = 0, n = self.n_far, half
    while n > 0:
        half = n >> 1
        if far[low + half].price < key:
            low += half + 1
            n -= half + 1
        else:
            n = half
    return low


cdef Status insert_far(Ladder *self, int32_t at, int64_t key, int64_t qty) noexcept nogil:
    cdef int32_t capacity = self.far_capacity
    cdef Level *far = self.far
    if self.n_far == capacity:
        if capacity > 1 << 29:
            return NO_MEMORY
        capacity += (capacity >> 1) + 8
        far = <Level *>realloc(far, capacity * sizeof(Level))
        if far == NULL:
            return NO_MEMORY
        self.far = far
        self.far_capacity = capacity
    memmove(far + at + 1, far + at, (self.n_far - at) * sizeof(Level))
    far[at].price = key
    far[at].qty = qty
    self.n_far += 1
    self.count += 1
    self.verified += key <= self.horizon
    return OK


cdef Status set_far(Ladder *self, int64_t key, int64_t qty) noexcept nogil:
    cdef int32_t at
    if self.n_pages == 0:
        if qty == 0:
            return OK
        if place_window(self, 1, MIN_PAGES, (key >> 6) - MIN_PAGES // 4) != OK:
            return NO_MEMORY
        return set_level(self, turn_sign(self, key), qty)
    at = find_far(self, key)
    if at < self.n_far and self.far[at].price == key:
        if qty != 0:
            self.far[at].qty = qty
        else:
            self.n_far -= 1
            memmove(self.far + at, self.far + at + 1, (self.n_far - at) * sizeof(Level))
            self.count -= 1
            self.verified -= key <= self.horizon
    elif qty != 0 and insert_far(self, at, key, qty) != OK:
        return NO_MEMORY
    self.misses += 1
    if self.misses > self.patience:
        settle_window(self)
    return OK


cdef inline Status set_level(Ladder *self, int64_t price, int64_t qty) noexcept nogil:
    cdef uint64_t quotient = divide_price(&self.grid, price)
    cdef int64_t grid = turn_sign(self, <int64_t>quotient), key = turn_sign(self, price)
    cdef uint64_t index = <uint64_t>((grid >> 6) - self.base)
    cdef int step = grid & 63, had, has
    cdef Page *page
    if quotient > self.grid.last_quotient or index >= <uint64_t>self.n_pages:
        return set_far(self, key, qty)
    page = self.pages + index
    has = qty != 0
    had = page.bits >> step & 1
    if page.capacity == DENSE:
        page.qtys[step] = qty
        page.bits ^= <uint64_t>(had ^ has) << step
        self.count += has - had
        self.verified += (has - had) & -<int>(key <= self.horizon)
        if count_bits(page.bits) <= SPARSE:
            pack_page(page)
        return OK
    if has and had:
        page.qtys[count_bits(page.bits & ((<uint64_t>1 << step) - 1))] = qty
    elif has:
        return insert_packed(self, <int32_t>index, step, key, qty)
    elif had:
        remove_packed(self, <int32_t>index, step, key)
    return OK


cdef void drop_worst(Ladder *self) noexcept nogil:
    cdef int64_t key
    if not worst_key(self, &key):
        return
    set_level(self, turn_sign(self, key), 0)
    self.dropped += 1
    if self.horizon >= key:
        self.horizon = key - 1
        self.is_horizon_short = True


cdef Status set_levels(Ladder *self, const Level *levels, int32_t n) noexcept nogil:
    cdef int64_t limit = self.max_levels or INT64_MAX
    cdef int32_t i
    for i in range(n):
        if set_level(self, levels[i].price, levels[i].qty) != OK:
            return NO_MEMORY
        if self.count > limit:
            drop_worst(self)
    return OK


cdef int64_t worst_of(const Ladder *self, const Level *levels, int32_t n) noexcept nogil:
    cdef int64_t worst = HORIZON_NONE, key
    cdef int32_t i
    for i in range(n):
        key = turn_sign(self, levels[i].price)
        if key > worst:
            worst = key
    return worst


cdef Status load_ladder(Ladder *self, const Level *levels, int32_t n, bint is_cut) noexcept nogil:
    cdef Status status
    clear_ladder(self)
    self.horizon = worst_of(self, levels, n) if is_cut else HORIZON_OPEN
    status = set_levels(self, levels, n)
    settle_window(self)
    return status


cdef Status replace_ladder_top(Ladder *self, const Level *levels, int32_t n) noexcept nogil:
    cdef int64_t worst = worst_of(self, levels, n)
    cdef Level best
    if n == 0:
        clear_ladder(self)
        self.horizon = HORIZON_OPEN
        return OK
    while best_level(self, &best) and turn_sign(self, best.price) <= worst:
        set_level(self, best.price, 0)
    self.horizon = worst
    self.is_horizon_short = False
    self.verified = 0
    return set_levels(self, levels, n)


cdef bint refill(Ladder *self, const Level *levels, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        if set_level(self, levels[i].price, levels[i].qty) != OK:
            return False
    return True


cdef void settle_window(Ladder *self) noexcept nogil:
    # Looks at the levels that are there, and rebuilds if grid or window no longer suit them. Short of memory it
    # leaves all as it is: slower, and right.
    cdef Ladder fresh = self[0]
    cdef Cursor cursor
    cdef int64_t n = 0, unit, base, anchor, span, moved
    cdef int32_t n_pages = MIN_PAGES
    cdef Level *levels
    self.misses = 0
    if self.count == 0:
        return
    levels = <Level *>malloc(self.count * sizeof(Level))
    if levels == NULL:
        return
    start_cursor(self, &cursor)
    while next_level(self, &cursor, levels + n):
        n += 1
    unit = learn_unit(levels, n)
    anchor = turn_sign(self, levels[STRAYS if n > 2 * STRAYS else n // 2].price) // unit >> 6
    span = (turn_sign(self, levels[n - 1 - n // 16].price) // unit >> 6) - anchor
    while n_pages < MAX_PAGES and n_pages // 4 * 3 <= span:
        n_pages *= 2
    base = anchor - n_pages // 4
    moved = anchor - self.base - self.n_pages // 4
    if (unit == self.grid.unit and n_pages <= self.n_pages <= 4 * n_pages
            and -self.n_pages // 8 <= moved <= self.n_pages // 8):
        if self.patience < MAX_PATIENCE:
            self.patience *= 2
    else:
        fresh.pages = NULL
        fresh.far = NULL
        fresh.n_pages = fresh.n_far = fresh.far_capacity = 0
        fresh.count = fresh.verified = 0
        fresh.patience = INT32_MAX          # no settling while settling
        if place_window(&fresh, unit, n_pages, base) == OK and refill(&fresh, levels, n):
            fresh.misses = 0
            fresh.patience = MIN_PATIENCE + <int32_t>(n // 4 if n < 4 * MAX_PATIENCE else MAX_PATIENCE)
            free_memory(self)
            self[0] = fresh
        else:
            free_memory(&fresh)
            if self.patience < MAX_PATIENCE:
                self.patience *= 2
    free(levels)


cdef void scale_ladder(Ladder *self, int64_t price_factor, int64_t qty_factor) noexcept nogil:
    # Grid steps stay what they are: only the unit grows. A unit that does not fit any more means that the pages hold
    # no price but 0, step 0 of every grid: take one on which no multiple of ten lies (INT64_MAX ends in 7).
    cdef uint64_t bits
    cdef Page *page
    cdef int32_t i
    cdef int rank
    cdef int64_t end
    set_unit(&self.grid, self.grid.unit * price_factor if self.grid.unit <= INT64_MAX // price_factor else INT64_MAX)
    for i in range(self.n_pages):
        page = self.pages + i
        bits, rank = page.bits, 0
        while bits:
            page.qtys[lowest_bit(bits) if page.capacity == DENSE else rank] *= qty_factor
            bits &= bits - 1
            rank += 1
    for i in range(self.n_far):
        self.far[i].price *= price_factor
        self.far[i].qty *= qty_factor
    if self.horizon == HORIZON_OPEN or self.horizon == HORIZON_NONE:
        return
    # A horizon beyond what int64 holds excludes all (bids) or nothing (asks). One that ends just before a dropped
    # level still does so in the finer unit.
    end = self.horizon + self.is_horizon_short
    if end > INT64_MAX // price_factor:
        self.horizon = HORIZON_OPEN
    elif end < -(INT64_MAX // price_factor):
        self.horizon = HORIZON_NONE
    else:
        self.horizon = end * price_factor - self.is_horizon_short
