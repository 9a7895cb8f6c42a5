# One instrument's trades of one kind: each id once, whatever line brings it. No clock, no policy.

from mdfeed._types cimport *

cdef struct Hole:
    # Ids first..last have not come.
    int64_t first_id
    int64_t last_id
    bint is_counted         # they were seen, and are in the figures: what is missing is their publication


cdef enum:
    HOLES = 32


cdef class Tape:
    cdef readonly int64_t first_id          # the first that was seen, 0 before it and once ids have started over
    cdef readonly int64_t last_id           # newest id seen, 0 before the first
    cdef readonly int64_t last_ts           # its venue time, ns
    cdef readonly int64_t count             # market trades counted, each once
    cdef readonly int64_t duplicates
    cdef readonly int64_t gaps              # steps in the ids
    cdef readonly int64_t missing           # ids inside the open steps
    cdef readonly int64_t lost              # ids that nobody will bring any more
    cdef readonly int64_t filled            # ids that came late into a step
    cdef readonly int64_t restarts
    cdef readonly int64_t said_id           # newest id that was published, as far as it got; 0 before the first
    cdef readonly bint is_withheld          # the newest market trade was kept back
    cdef bint is_again                      # the newest was seen before: publish it, but it counts no more
    cdef int64_t last_price
    cdef int64_t high_price
    cdef int64_t low_price
    cdef i128 _qty
    cdef i128 _notional
    cdef bint _is_notional_lost             # it has passed 128 bits
    cdef Hole _holes[32]
    cdef int32_t _hole_count
    cdef int64_t _past_id                   # the newest that was published before our time
    # A run of old ids that chain: repeats of a lagging line, or a restarted venue.
    cdef int64_t _old_id                    # the newest of it
    cdef int32_t _old_run                   # its length
    cdef int32_t _late_run                  # of its newest, those with newer times
    cdef int64_t _old_since_ns              # receipt of the first
    cdef bint _is_doubted

    # True when this trade is new and counts: publish it. False: a duplicate or not a market trade.
    cdef bint add(self, const Trade *trade, int64_t ts_event, int64_t recv_ns) noexcept nogil
    # What became of a trade that add() has taken: it was published, or kept back.
    cdef void said(self, int64_t trade_id) noexcept nogil
    cdef void withhold(self, int64_t trade_id) noexcept nogil
    # The venue's ids have started over elsewhere: here they probably have too.
    cdef void doubt(self) noexcept nogil
    cdef void rescale(self, int64_t price_factor, int64_t qty_factor) noexcept nogil

    # Start over with all but ids and their counters.
    cdef void forget_figures(self) noexcept nogil

    cdef bint _fill(self, int64_t trade_id) noexcept nogil
    # Whether an id is inside an open step.
    cdef bint is_missing(self, int64_t trade_id) noexcept nogil
    cdef void _open(self, int64_t first_id, int64_t last_id, bint is_counted) noexcept nogil
    cdef void _open_again(self, int64_t first_id, int64_t last_id) noexcept nogil
    cdef void _cut(self, int64_t first_id, int64_t last_id) noexcept nogil
    cdef bint _join_past(self, int64_t past_id) noexcept nogil
    cdef void _close(self, int32_t i) noexcept nogil
    cdef void _give_up(self, int32_t i) noexcept nogil
    cdef bint _is_restart(self, int64_t trade_id, int64_t ts_event, int64_t recv_ns) noexcept nogil
