# Counting without cost: a log-linear latency histogram; the rolling 24 h window is cimported from here too.

from mdfeed._types cimport *
from mdfeed._window cimport Window

cdef enum:
    BUCKETS = 529           # 16 for 0..15 ns, 16 for each power of two up to 2^36 ns, one for what is above


cdef class Histogram:
    # Nanoseconds, log-linear: 16 linear steps in each power of two (6 % wide), 0 .. 68.7 s, then one overflow
    # bucket. record() is a few instructions and allocates nothing. Negative values count as 0.
    cdef int64_t _counts[BUCKETS]
    cdef readonly int64_t count
    cdef i128 _sum
    cdef int64_t _min
    cdef int64_t _max
    cdef void record(self, int64_t ns) noexcept nogil
    cdef void record_n(self, int64_t ns, int64_t n) noexcept nogil
