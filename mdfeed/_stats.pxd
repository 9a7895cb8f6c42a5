# Counting without cost: a log-linear latency histogram and the rolling 24 h window. No clock: time is an argument.

from mdfeed._types cimport *

cdef class Histogram:
    # Nanoseconds, log-linear: 16 linear steps in each power of two (6 % wide), 0 .. about 70 s, then one overflow bucket.
    # record() is a few instructions and allocates nothing. Negative values count as 0.
    cdef void record(self, int64_t ns) noexcept nogil
    cdef void record_n(self, int64_t ns, int64_t n) noexcept nogil


cdef class Window:
    # 24 h of one instrument in minute buckets; see _stats.pyx.
    cdef void add(self, int64_t ts_ns, int64_t price, int64_t qty) noexcept nogil
    cdef void day(self, int64_t now_ns, Day *out) noexcept nogil
    cdef Status rescale(self, int price_digits, int qty_digits) noexcept nogil
