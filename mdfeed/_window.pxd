# The rolling 24 h window of one instrument. No clock: time is an argument.

from mdfeed._types cimport *

cdef enum:
    MINUTES = 1441          # 1440 whole minutes and the one under way


cdef struct Minute:
    # All zero: no trade. 64 bytes, so that a window is 92 KB.
    i128 volume             # qty_digits
    i128 quote_volume       # price_digits + qty_digits
    int64_t open_price
    int64_t high_price
    int64_t low_price
    int64_t count


cdef class Window:
    # 24 h of one instrument in minute buckets; see _window.pyx.
    cdef readonly int price_digits
    cdef readonly int qty_digits
    cdef readonly int64_t dropped       # trades older than the window, without memory, or without a time
    cdef Minute *_ring                  # minute m is at m % MINUTES; NULL until the first trade
    cdef int64_t _newest                # minute: the ring holds (_newest - MINUTES, _newest]
    cdef int64_t _own_from              # ns: from here on the ring is complete; 0 before the first trade or seed
    cdef int64_t _heard_from            # ns: and from here on that is known
    cdef Minute _total                  # of the ring; extremes valid unless _is_stale
    cdef bint _is_stale
    cdef Minute _prior                  # what a seed says of the time before _own_from
    cdef int64_t _prior_from            # ns
    cdef int64_t _prior_to              # ns; equal to _prior_from: nothing
    cdef int64_t _covered_to            # ns: trades up to here are in a seed already
    cdef bint _is_seeded
    cdef bint _is_prior_quote_known
    cdef int64_t _last_ts
    cdef int64_t _last_price            # 0: none seen
    # `fills`: matches in it, as the venue's own figures count them. `now_ns`: when it came, by the venue's clock.
    cdef void add(self, int64_t ts_ns, int64_t price, int64_t qty, int64_t fills, int64_t now_ns) noexcept nogil
    # The venue's own rolling window, from ticker/24hr or @ticker.
    cdef void seed_ticker(self, const Ticker *ticker) noexcept nogil
    cdef void day(self, int64_t now_ns, Day *out) noexcept nogil
    # More digits, no loss. BAD when something does not fit (nothing changed).
    cdef Status rescale(self, int price_digits, int qty_digits) noexcept nogil
    cdef bint _has_ring(self, int64_t minute) noexcept nogil
    cdef void _advance(self, int64_t minute) noexcept nogil
    cdef void _take_out(self, Minute *minute) noexcept nogil
    cdef void _find_extremes(self) noexcept nogil
    cdef void _seed(self, const Minute *seed, int64_t open_ts, int64_t close_ts, int64_t last_price) noexcept nogil
    cdef void _clamp_prior(self) noexcept nogil
