# Counting without cost: a log-linear latency histogram and the rolling 24 h window. No clock: time is an argument.

from mdfeed._types cimport *

cdef enum:
    BUCKETS = 529           # 16 for 0..15 ns, 16 for each power of two up to 2^36 ns, one for what is above
    MINUTES = 1441          # 1440 whole minutes and the one under way


cdef class Histogram:
    # Nanoseconds, log-linear: 16 linear steps in each power of two (6 % wide), 0 .. about 70 s, then one overflow bucket.
    # record() is a few instructions and allocates nothing. Negative values count as 0.
    cdef int64_t _counts[BUCKETS]
    cdef readonly int64_t count
    cdef i128 _sum
    cdef int64_t _min
    cdef int64_t _max
    cdef void record(self, int64_t ns) noexcept nogil
    cdef void record_n(self, int64_t ns, int64_t n) noexcept nogil


cdef struct Minute:
    # All zero: no trade. 64 bytes, so that a window is 92 KB.
    i128 volume             # qty_digits
    i128 quote_volume       # price_digits + qty_digits
    int64_t open_price
    int64_t high_price
    int64_t low_price
    int64_t count


cdef class Window:
    # 24 h of one instrument in minute buckets; see _stats.pyx.
    cdef readonly int price_digits
    cdef readonly int qty_digits
    cdef readonly int64_t dropped       # trades older than the window, without memory, or with a time before 1970
    cdef Minute *_ring                  # minute m is at m % MINUTES; NULL until the first trade
    cdef int64_t _newest                # minute: the ring holds (_newest - MINUTES, _newest]
    cdef int64_t _own_from              # minute: from here on the ring is complete; 0 before the first trade or seed
    cdef Minute _total                  # of the ring; extremes valid unless _is_stale
    cdef bint _is_stale
    cdef Minute _prior                  # what a seed says of the time before _own_from
    cdef int64_t _prior_from            # ns
    cdef int64_t _prior_to              # ns; equal to _prior_from: nothing
    cdef int64_t _covered_to            # ns: trades up to here are in a seed already
    cdef void add(self, int64_t ts_ns, int64_t price, int64_t qty) noexcept nogil
    # The venue's own rolling window, from ticker/24hr or @ticker.
    cdef void seed_ticker(self, const Ticker *ticker) noexcept nogil
    cdef void day(self, int64_t now_ns, Day *out) noexcept nogil
    # More digits, no loss. BAD when something does not fit (nothing changed).
    cdef Status rescale(self, int price_digits, int qty_digits) noexcept nogil
