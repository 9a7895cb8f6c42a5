"""A ladder examined as a whole: its differences from another, its size, and whether it contradicts itself.

Reads only. Refuses to mend: a ladder that fails check_ladder is a bug.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN

from mdfeed._grid cimport count_bits, divide_price
from mdfeed._ladder cimport (
    HORIZON_NONE, HORIZON_OPEN, Cursor, Ladder, Page, best_level, first_page, next_level, start_cursor, turn_sign,
)
from mdfeed._types cimport *


cdef i128 find_end(const Ladder *ladder, int64_t factor) noexcept nogil:
    # The key of the verified horizon in a unit `factor` times finer.
    if ladder.horizon == HORIZON_OPEN:
        return <i128>1 << 126
    if ladder.horizon == HORIZON_NONE:
        return -(<i128>1 << 126)
    return (<i128>ladder.horizon + ladder.is_horizon_short) * factor - ladder.is_horizon_short


cdef int64_t count_differences(const Ladder *mine, Scale my_scale,
                               const Ladder *its, Scale its_scale) noexcept nogil:
    # A merge in 128 bits. A side that is used up stands just beyond the end.
    cdef i128 end = min(find_end(mine, my_scale.price), find_end(its, its_scale.price)), my_key, its_key
    cdef int64_t found = 0
    cdef Cursor my_cursor, its_cursor
    cdef Level my, it
    cdef bint has_my, has_it
    my.price = my.qty = it.price = it.qty = 0
    start_cursor(mine, &my_cursor)
    start_cursor(its, &its_cursor)
    has_my = next_level(mine, &my_cursor, &my)
    has_it = next_level(its, &its_cursor, &it)
    while has_my or has_it:
        my_key = <i128>turn_sign(mine, my.price) * my_scale.price if has_my else end + 1
        its_key = <i128>turn_sign(its, it.price) * its_scale.price if has_it else end + 1
        if my_key > end and its_key > end:
            break
        if my_key != its_key:
            found += 1
        else:
            found += <i128>my.qty * my_scale.qty != <i128>it.qty * its_scale.qty
        if my_key <= its_key:
            has_my = next_level(mine, &my_cursor, &my)
        if its_key <= my_key:
            has_it = next_level(its, &its_cursor, &it)
    return found


cdef bint can_scale(const Ladder *ladder, Scale scale) noexcept nogil:
    cdef Cursor cursor
    cdef Level level
    start_cursor(ladder, &cursor)
    while next_level(ladder, &cursor, &level):
        if level.price > INT64_MAX // scale.price or level.qty > INT64_MAX // scale.qty:
            return False
    return True


cdef int64_t count_bytes(const Ladder *ladder) noexcept nogil:
    cdef int64_t total = round_block(ladder.far_capacity * <int64_t>sizeof(Level))
    cdef int32_t i
    total += round_block(ladder.n_pages * <int64_t>sizeof(Page)) + round_block(ladder.n_pages // 8)
    for i in range(ladder.n_pages):
        total += round_block(ladder.pages[i].capacity * 8)
    return total


cdef int check_pages(const Ladder *ladder) except -1:
    cdef const Page *page
    cdef int32_t i
    held = 0
    for i in range(ladder.n_pages):
        page = ladder.pages + i
        n, is_marked = count_bits(page.bits), ladder.summary[i >> 6] >> (i & 63) & 1
        held += n
        assert (n > 0) == is_marked, f"page {i}: {n} levels, the summary says {is_marked}"
        assert (page.qtys == NULL) == (n == 0), f"page {i}: {n} levels without memory, or memory without levels"
        assert page.capacity in (0, 3, 7, 15, 64), f"page {i}: capacity {page.capacity}"
        assert n <= page.capacity, f"page {i}: {n} levels in room for {page.capacity}"
        assert n > 8 or page.capacity < 64, f"page {i}: {n} levels do not make it dense"
    assert ladder.best_page == first_page(ladder, 0), f"best page {ladder.best_page}, not {first_page(ladder, 0)}"
    return held


cdef object check_far(const Ladder *ladder):
    cdef uint64_t quotient
    cdef int64_t price
    assert ladder.n_far <= ladder.far_capacity, f"{ladder.n_far} far levels in room for {ladder.far_capacity}"
    for i in range(ladder.n_far):
        assert i == 0 or ladder.far[i - 1].price < ladder.far[i].price, f"far levels {i - 1} and {i} out of order"
        price = turn_sign(ladder, ladder.far[i].price)
        quotient = divide_price(&ladder.grid, price)
        is_on_grid = quotient <= ladder.grid.last_quotient
        assert is_on_grid == (price % ladder.grid.unit == 0), f"price {price}, unit {ladder.grid.unit}: wrong division"
        page = (turn_sign(ladder, <int64_t>quotient) >> 6) - ladder.base
        assert not (is_on_grid and 0 <= page < ladder.n_pages), f"far level {i}: price {price} belongs into page {page}"


cdef object check_ladder(const Ladder *ladder):
    cdef Cursor cursor
    cdef Level level, best
    cdef int64_t found = 0, verified = 0, key, last = INT64_MIN
    held = check_pages(ladder)
    check_far(ladder)
    best.price = best.qty = -1
    assert best_level(ladder, &best) == (ladder.count > 0), f"{ladder.count} levels, best {best.price}"
    start_cursor(ladder, &cursor)
    while next_level(ladder, &cursor, &level):
        key = turn_sign(ladder, level.price)
        assert level.price >= 0 and level.qty > 0, f"price {level.price}, quantity {level.qty}"
        assert key > last, f"key {key} after {last}"
        assert found or (level.price == best.price and level.qty == best.qty), f"first {level.price}, best {best.price}"
        last = key
        found += 1
        verified += key <= ladder.horizon
    assert found == ladder.count == held + ladder.n_far, (
        f"{found} levels read, {ladder.count} counted, {held} in pages and {ladder.n_far} far")
    assert verified == ladder.verified, f"{verified} levels inside the horizon, {ladder.verified} counted"
    assert ladder.misses <= ladder.patience, f"{ladder.misses} misses, and the window is where it was"
    assert ladder.max_levels == 0 or found <= ladder.max_levels, f"{found} levels, cap {ladder.max_levels}"
