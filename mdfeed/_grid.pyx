"""The price grid of a ladder.

Answers for a unit learned from prices, so that digits finer than the tick cost neither memory nor time. Refuses to
know the venue's tick size: it need not be told, may change, and a few prices off the grid do no harm.
"""

from mdfeed._types cimport *

cdef enum:
    SAMPLE = 256
    MIN_SAMPLE = 16


cdef void set_unit(Grid *self, int64_t unit) noexcept nogil:
    cdef uint64_t odd, inverse
    cdef int _step
    self.unit = unit
    self.shift = lowest_bit(<uint64_t>unit)
    odd = <uint64_t>unit >> self.shift
    inverse = odd                           # right in 3 bits; each step (Newton) doubles them
    for _step in range(5):
        inverse *= 2 - odd * inverse
    self.inverse = inverse
    self.last_quotient = <uint64_t>-1 // <uint64_t>unit


cdef int64_t learn_unit(const Level *levels, int64_t n) noexcept nogil:
    cdef int64_t unit = 1, factor = 2, hits, i, largest
    if n < MIN_SAMPLE:
        return 1
    if n > SAMPLE:
        n = SAMPLE
    largest = max(levels[0].price, levels[n - 1].price)
    while unit <= largest // factor:
        hits = 0
        for i in range(n):
            hits += levels[i].price % (unit * factor) == 0
        if hits * 8 >= n * 7:
            unit *= factor
        elif factor == 2:
            factor = 5
        else:
            break
    return unit
