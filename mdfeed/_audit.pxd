# A ladder examined as a whole.

from mdfeed._ladder cimport Ladder
from mdfeed._types cimport *


# What one step of a ladder's price and quantity is worth in the common, finer unit of a comparison.
cdef struct Scale:
    int64_t price
    int64_t qty


cdef inline int64_t round_block(int64_t size) noexcept nogil:
    # What malloc takes for so many bytes: its own 8, rounded up to 16.
    return (size + 8 + 15) // 16 * 16 if size else 0


# Prices inside both verified horizons at which the two sides (of the same sort) differ.
cdef int64_t count_differences(const Ladder *mine, Scale my_scale,
                               const Ladder *its, Scale its_scale) noexcept nogil
# Whether every price and quantity still fits int64 after multiplication.
cdef bint can_scale(const Ladder *ladder, Scale scale) noexcept nogil
# Bytes held: malloc's 8 bytes a block and its rounding to 16 included.
cdef int64_t count_bytes(const Ladder *ladder) noexcept nogil
# Raises AssertionError when the ladder contradicts itself.
cdef object check_ladder(const Ladder *ladder)
