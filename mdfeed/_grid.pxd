# The price grid of a ladder: multiples of a learned unit, told apart and divided without a division.

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
    int lowest_bit "mdfeed_lowest"(uint64_t x) noexcept nogil       # x is not 0
    int highest_bit "mdfeed_highest"(uint64_t x) noexcept nogil     # x is not 0
    int count_bits "mdfeed_count"(uint64_t x) noexcept nogil
    uint64_t turn_right "mdfeed_turn"(uint64_t x, uint32_t n) noexcept nogil


cdef struct Grid:
    int64_t unit            # 1 or more
    uint64_t inverse        # of the unit's odd part, modulo 2**64
    uint64_t last_quotient  # (2**64 - 1) / unit
    uint32_t shift          # unit = odd << shift


# price / unit where the price lies on the grid; anything above `last_quotient` where it does not. With arithmetic
# modulo 2**64, n is a multiple of odd << shift iff turn_right(n * odd**-1, shift) <= (2**64 - 1) / unit, and that is
# the quotient then: a multiplication where a division would cost 5 ns.
cdef inline uint64_t divide_price(const Grid *self, int64_t price) noexcept nogil:
    return turn_right(<uint64_t>price * self.inverse, self.shift)


cdef void set_unit(Grid *self, int64_t unit) noexcept nogil

# The unit that suits these levels: the largest product of 2s and 5s that seven eighths of the first 256 prices are
# multiples of. 1 for fewer than 16. Levels are in order, best first or last.
cdef int64_t learn_unit(const Level *levels, int64_t n) noexcept nogil
