"""One side of a book: the paged ladder.

Answers for levels kept exactly, in order, in little memory, whatever their prices. Refuses to know ids, snapshots
and the other side: that is `_book`.

The window of pages is placed so that a quarter of it lies before the touch. It is looked at again only when enough
levels missed it (`misses` > `patience`): then the price grid is learned anew (the largest unit of 2s and 5s that
seven eighths of the near levels share, so digits finer than the tick cost nothing), the window is sized to hold
fifteen sixteenths of the levels, and all is rebuilt if that differs from what is there. A few stray prices before
the touch neither move it nor are lost: they live in `far`.
"""

from libc.stdint cimport INT32_MAX, INT64_MAX
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove, memset

from mdfeed._types cimport *

cdef extern from *:
    """
    static inline int mdfeed_lowest(uint64_t x) { return __builtin_ctzll(x); }
    static inline int mdfeed_highest(uint64_t x) { return 63 - __builtin_clzll(x); }
    static inline uint64_t mdfeed_turn(uint64_t x, uint32_t n) { return (x >> n) | (x << ((64 - n) & 63)); }
    static inline int mdfeed_count(uint64_t x) {
    #if defined(__POPCNT__) || defined(__aarch64__)
        return __builtin_popcountll(x);
    #else   /* the baseline x86-64 has no such instruction, and the compiler's substitute is a call */
        x = x - ((x >> 1) & 0x5555555555555555ULL);
        x = (x & 0x3333333333333333ULL) + ((x >> 2) & 0x3333333333333333ULL);
        x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0FULL;
        return (int)((x * 0x0101010101010101ULL) >> 56);
    #endif
    }
    """
    int lowest "mdfeed_lowest"(uint64_t x) noexcept nogil
    int highest "mdfeed_highest"(uint64_t x) noexcept nogil
    int count_bits "mdfeed_count"(uint64_t x) noexcept nogil
    uint64_t turn_right "mdfeed_turn"(uint64_t x, uint32_t n) noexcept nogil

cdef enum:
    MIN_PAGES = 64
    MAX_PAGES = 1024        # 17 KB of directory; 65,536 grid steps
    MIN_PATIENCE = 64
    MAX_PATIENCE = 4096
    STRAYS = 8              # levels before the touch that do not move the window
    SAMPLE = 256            # levels nearest to the touch from which the grid is learned
    MIN_SAMPLE = 16


cdef inline int64_t turn_sign(const Ladder *self, int64_t value) noexcept nogil:
    return (value ^ self.mask) - self.mask


cdef void set_unit(Ladder *self, int64_t unit) noexcept nogil:
    # unit = odd << shift. n is a multiple of unit iff turn_right(n * odd**-1, shift) <= (2**64 - 1) / unit, and that
    # is the quotient then (arithmetic modulo 2**64): a multiplication where a division would cost 5 ns.
    cdef uint64_t odd, inverse
    cdef int i
    self.unit = unit
    self.shift = lowest(<uint64_t>unit)
    odd = <uint64_t>unit >> self.shift
    inverse = odd                           # right in 3 bits; each step doubles them
    for i in range(5):
        inverse *= 2 - odd * inverse
    self.inverse = inverse
    self.last_quotient = <uint64_t>-1 // <uint64_t>unit


cdef void init_ladder(Ladder *self, bint is_bids, int64_t max_levels) noexcept nogil:
    memset(self, 0, sizeof(Ladder))
    self.mask = -1 if is_bids else 0
    self.max_levels = max_levels
    self.horizon = HORIZON_NONE
    self.patience = MIN_PATIENCE
    set_unit(self, 1)


cdef void free_memory(Ladder *self) noexcept nogil:
    cdef int32_t i
    for i in range(self.n_pages):
        free(self.pages[i].qtys)
    free(self.pages)
    free(self.summary)
    free(self.capacities)
    free(self.far)


cdef void clear_ladder(Ladder *self) noexcept nogil:
    cdef int64_t dropped = self.dropped
    free_memory(self)
    init_ladder(self, self.mask != 0, self.max_levels)
    self.dropped = dropped


cdef Status place_window(Ladder *self, int64_t unit, int32_t n_pages, int64_t base) noexcept nogil:
    # For a ladder without pages.
    cdef size_t n = n_pages
    self.pages = <Page *>malloc(n * sizeof(Page))
    self.summary = <uint64_t *>malloc(n // 8)
    self.capacities = <uint8_t *>malloc(n)
    if self.pages == NULL or self.summary == NULL or self.capacities == NULL:
        free(self.pages)
        free(self.summary)
        free(self.capacities)
        self.pages = NULL
        self.summary = NULL
        self.capacities = NULL
        return NO_MEMORY
    memset(self.pages, 0, n * sizeof(Page))
    memset(self.summary, 0, n // 8)
    memset(self.capacities, 0, n)
    self.n_pages = n_pages
    self.best_page = n_pages
    self.base = base
    set_unit(self, unit)
    return OK


cdef int32_t first_page(const Ladder *self, int32_t start) noexcept nogil:
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
    return (word << 6) + lowest(bits)


cdef inline int64_t key_at(const Ladder *self, int32_t page, int step) noexcept nogil:
    return ((self.base + page) * 64 + step) * self.unit


cdef bint worst_key(const Ladder *self, int64_t *out) noexcept nogil:
    cdef int32_t word = (self.n_pages >> 6) - 1, page
    cdef bint is_found = False
    while word >= 0 and self.summary[word] == 0:
        word -= 1
    if word >= 0:
        page = (word << 6) + highest(self.summary[word])
        out[0] = key_at(self, page, highest(self.pages[page].bits))
        is_found = True
    if self.n_far and (not is_found or self.far[self.n_far - 1].price > out[0]):
        out[0] = self.far[self.n_far - 1].price
        is_found = True
    return is_found


cdef bint resize_page(Ladder *self, uint64_t index, int capacity) noexcept nogil:
    cdef int64_t *qtys = <int64_t *>realloc(self.pages[index].qtys, capacity * sizeof(int64_t))
    if qtys == NULL:
        return False
    self.pages[index].qtys = qtys
    self.capacities[index] = <uint8_t>capacity
    return True


cdef Status insert_near(Ladder *self, uint64_t index, uint64_t bit, int rank, int64_t key, int64_t qty) noexcept nogil:
    cdef Page *page = self.pages + index
    cdef int n = count_bits(page.bits), capacity = self.capacities[index]
    if n == capacity:
        # 3, 7, 15, 31: with malloc's own 8 bytes a power of two.
        capacity = 2 * capacity + 1 if 0 < capacity < 31 else 64 if capacity else 3
        if not resize_page(self, index, capacity):
            return NO_MEMORY
    if rank < n:
        memmove(page.qtys + rank + 1, page.qtys + rank, (n - rank) * sizeof(int64_t))
    page.qtys[rank] = qty
    page.bits |= bit
    self.summary[index >> 6] |= <uint64_t>1 << (index & 63)
    if <int32_t>index < self.best_page:
        self.best_page = <int32_t>index
    self.count += 1
    self.verified += key <= self.horizon
    return OK


cdef void remove_near(Ladder *self, uint64_t index, uint64_t bit, int rank, int64_t key) noexcept nogil:
    cdef Page *page = self.pages + index
    cdef int n, capacity = self.capacities[index]
    page.bits ^= bit
    n = count_bits(page.bits)
    self.count -= 1
    self.verified -= key <= self.horizon
    if n == 0:
        free(page.qtys)
        page.qtys = NULL
        self.capacities[index] = 0
        self.summary[index >> 6] &= ~(<uint64_t>1 << (index & 63))
        if <int32_t>index == self.best_page:
            self.best_page = first_page(self, self.best_page)
        return
    if rank < n:
        memmove(page.qtys + rank, page.qtys + rank + 1, (n - rank) * sizeof(int64_t))
    if n <= capacity >> 2:
        # A page that the market has left keeps no room for its best days. In vain, it keeps it.
        resize_page(self, index, 31 if capacity == 64 else capacity >> 1)


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
    cdef uint64_t quotient = turn_right(<uint64_t>price * self.inverse, self.shift)
    cdef int64_t step = turn_sign(self, <int64_t>quotient)
    cdef uint64_t index = <uint64_t>((step >> 6) - self.base)
    cdef uint64_t bit, bits
    cdef int rank
    if quotient > self.last_quotient or index >= <uint64_t>self.n_pages:
        return set_far(self, turn_sign(self, price), qty)
    bit = <uint64_t>1 << (step & 63)
    bits = self.pages[index].bits
    rank = count_bits(bits & (bit - 1))
    if bits & bit:
        if qty != 0:
            self.pages[index].qtys[rank] = qty
        else:
            remove_near(self, index, bit, rank, turn_sign(self, price))
    elif qty != 0:
        return insert_near(self, index, bit, rank, turn_sign(self, price), qty)
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
    cdef int32_t i
    for i in range(n):
        if set_level(self, levels[i].price, levels[i].qty) != OK:
            return NO_MEMORY
        if self.max_levels and self.count > self.max_levels:
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


cdef bint best_level(const Ladder *self, Level *out) noexcept nogil:
    cdef const Page *page
    cdef int64_t key
    if self.best_page < self.n_pages:
        page = self.pages + self.best_page
        key = key_at(self, self.best_page, lowest(page.bits))
        if self.n_far == 0 or key < self.far[0].price:
            out.price = turn_sign(self, key)
            out.qty = page.qtys[0]
            return True
    elif self.n_far == 0:
        return False
    out.price = turn_sign(self, self.far[0].price)
    out.qty = self.far[0].qty
    return True


cdef void start_cursor(const Ladder *self, Cursor *cursor) noexcept nogil:
    cursor.page = self.best_page
    cursor.bits = self.pages[self.best_page].bits if self.best_page < self.n_pages else 0
    cursor.rank = 0
    cursor.far = 0


cdef bint next_level(const Ladder *self, Cursor *cursor, Level *out) noexcept nogil:
    cdef int64_t key
    if cursor.bits == 0 and cursor.page < self.n_pages:
        cursor.page = first_page(self, cursor.page + 1)
        cursor.rank = 0
        if cursor.page < self.n_pages:
            cursor.bits = self.pages[cursor.page].bits
    if cursor.bits != 0:
        key = key_at(self, cursor.page, lowest(cursor.bits))
        if cursor.far == self.n_far or key < self.far[cursor.far].price:
            out.price = turn_sign(self, key)
            out.qty = self.pages[cursor.page].qtys[cursor.rank]
            cursor.bits &= cursor.bits - 1
            cursor.rank += 1
            return True
    elif cursor.far == self.n_far:
        return False
    out.price = turn_sign(self, self.far[cursor.far].price)
    out.qty = self.far[cursor.far].qty
    cursor.far += 1
    return True


cdef int64_t learn_unit(const Level *levels, int64_t n) noexcept nogil:
    # The largest product of 2s and 5s that divides seven eighths of the prices.
    cdef int64_t unit = 1, hits, i, largest, factor
    cdef int which
    if n > SAMPLE:
        n = SAMPLE
    if n < MIN_SAMPLE:
        return 1
    largest = levels[0].price if levels[0].price > levels[n - 1].price else levels[n - 1].price
    for which in range(2):
        factor = 5 if which else 2
        while unit <= largest // factor:
            hits = 0
            for i in range(n):
                hits += levels[i].price % (unit * factor) == 0
            if hits * 8 < n * 7:
                break
            unit *= factor
    return unit


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
    if (unit == self.unit and n_pages <= self.n_pages <= 4 * n_pages
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


cdef bint can_scale(const Ladder *self, int64_t price_factor, int64_t qty_factor) noexcept nogil:
    cdef Cursor cursor
    cdef Level level
    start_cursor(self, &cursor)
    while next_level(self, &cursor, &level):
        if level.price > INT64_MAX // price_factor or level.qty > INT64_MAX // qty_factor:
            return False
    return True


cdef void scale_ladder(Ladder *self, int64_t price_factor, int64_t qty_factor) noexcept nogil:
    # Grid steps stay what they are: only the unit grows. A unit that does not fit any more means that the pages hold
    # no price but 0, step 0 of every grid: take one on which no multiple of ten lies (INT64_MAX ends in 7).
    cdef int32_t i
    cdef int k
    cdef int64_t end
    set_unit(self, self.unit * price_factor if self.unit <= INT64_MAX // price_factor else INT64_MAX)
    for i in range(self.n_pages):
        for k in range(count_bits(self.pages[i].bits)):
            self.pages[i].qtys[k] *= qty_factor
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


cdef int64_t ladder_bytes(const Ladder *self) noexcept nogil:
    # What malloc holds for it: its 8 bytes a block and rounding to 16 included.
    cdef int64_t total = self.far_capacity * <int64_t>sizeof(Level) + 16
    cdef int32_t i
    if self.n_pages:
        total += self.n_pages * <int64_t>(sizeof(Page) + 1) + self.n_pages // 8 + 48
    for i in range(self.n_pages):
        if self.capacities[i]:
            total += (self.capacities[i] * 8 + 8 + 15) // 16 * 16
    return total


cdef object check_ladder(const Ladder *self):
    cdef Cursor cursor
    cdef Level level
    cdef int32_t page
    cdef int64_t found = 0, verified = 0, key, last = HORIZON_NONE, near = 0
    for page in range(self.n_pages):
        bits, is_marked = self.pages[page].bits, self.summary[page >> 6] >> (page & 63) & 1
        assert bool(bits) == is_marked, f"page {page}: bits {bits:#x}, summary says {is_marked}"
        held = count_bits(self.pages[page].bits)
        near += held
        assert held <= self.capacities[page] <= 64, f"page {page}: {held} levels, room for {self.capacities[page]}"
        assert (self.pages[page].qtys == NULL) == (held == 0), f"page {page}: {held} levels without memory or reverse"
        for i in range(held):
            assert self.pages[page].qtys[i] > 0, f"page {page}: quantity {self.pages[page].qtys[i]} at {i}"
    assert self.best_page == first_page(self, 0), f"best page {self.best_page}, not {first_page(self, 0)}"
    assert self.n_far <= self.far_capacity
    for i in range(self.n_far):
        assert self.far[i].qty > 0, f"far level {i}: quantity {self.far[i].qty}"
        step, rest = divmod(self.far[i].price, self.unit)
        is_near = self.n_pages and rest == 0 and 0 <= (step >> 6) - self.base < self.n_pages
        assert not is_near, f"far level {i}: key {self.far[i].price} belongs into a page"
        assert i == 0 or self.far[i - 1].price < self.far[i].price, f"far levels {i - 1} and {i} out of order"
    start_cursor(self, &cursor)
    while next_level(self, &cursor, &level):
        key = turn_sign(self, level.price)
        assert level.price >= 0, f"price {level.price}"
        assert key > last, f"key {key} after {last}"
        last = key
        found += 1
        verified += key <= self.horizon
    assert found == self.count == near + self.n_far, f"{found} levels read, {near} + {self.n_far} held, {self.count}"
    assert verified == self.verified, f"{verified} levels inside the horizon, counted {self.verified}"
    assert self.max_levels == 0 or self.count <= self.max_levels, f"{self.count} levels, cap {self.max_levels}"
    assert not best_level(self, &level) if found == 0 else best_level(self, &level), "best level"
    if found:
        start_cursor(self, &cursor)
        price, qty = level.price, level.qty
        next_level(self, &cursor, &level)
        assert (price, qty) == (level.price, level.qty), f"best is {(price, qty)}, first is {(level.price, level.qty)}"
