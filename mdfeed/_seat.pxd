# Which snapshot a symbol's book needs, and how it takes its seat.

from mdfeed._book cimport Book
from mdfeed._sync cimport FrameBuffer
from mdfeed._trust cimport Source, Trust
from mdfeed._types cimport *


cdef class Seat(Trust):
    cdef readonly Book shadow               # a newer snapshot on its way to the book's id, or None
    cdef readonly FrameBuffer buffer        # raw diffs: for the join, for a parked gap, for a shadow
    cdef int32_t _limit                     # levels a side that the newest snapshot was asked with
    cdef int32_t _shadow_limit
    cdef Source _shadow_source
    cdef int64_t _placed_ns                 # since when the shadow waits for the book to reach its id
    cdef int64_t _seated_ns                 # when a snapshot took over last
    cdef int64_t _newest_id                 # of the diff that came last, whatever became of it; 0: no line has any
    cdef int64_t _newest_ts                 # its event time
    cdef bint _has_diffs
    cdef bint _is_depth_silent              # not told yet: no diffs, though something shows that there are some
    cdef bint _is_deaf                      # the venue's book went on without a diff, and none has come since
    cdef int32_t _deaf_run                  # snapshots in a row that found it deaf
    cdef int64_t _deaf_id                   # of the newest of them
    cdef int32_t _still_run                 # checks in a row, no diff between, that found the book unchanged
    cdef int32_t _vain_run                  # of them, those that a trade had called for
    cdef int64_t _sure_ns                   # when a snapshot last was the book, or had its id
    cdef bint _is_lineless                  # the last line that carried the diffs is gone
    cdef bint _is_shadowing                 # diffs are also held, for a shadow that was asked for
    cdef bint _is_in_flight
    cdef int64_t _parked_ns                 # since when a gap waits for another line; 0: none
    cdef int64_t _opened_ns                 # since when a line carries the diffs; 0: none
    cdef int64_t _requested_ns
    cdef int64_t _retry_ns                  # no snapshot is wanted before
    cdef int64_t _joined_ns
    cdef int32_t _attempts
    cdef int8_t _given_price_digits         # what was known when the symbol was added
    cdef int8_t _given_qty_digits
    cdef readonly int64_t ghosts            # levels in which shadow snapshots contradicted the book

    cdef void join(self, int64_t now_ns, int32_t limit, Source source) noexcept
    cdef bint is_to_be_checked(self, int64_t now_ns) noexcept
    # Ahead of the lines by id and behind them by time: the venue's ids have started over since.
    cdef bint is_of_another_past(self, const Message *snapshot) noexcept nogil
    cdef void watch_shadow(self, int64_t now_ns) noexcept
    cdef bint is_silent(self) noexcept nogil    # STALE since nothing came, or no diff
    # There were diffs, and none has come: the book starts over, and its line is to be replaced.
    cdef void find_deaf(self, const char *reason, int64_t now_ns) noexcept
    # Not to be published before a diff has come, or a check has found that none is due.
    cdef void stay_deaf(self, int64_t now_ns) noexcept
    cdef void find_heard(self, int64_t now_ns) noexcept
    cdef int32_t least_limit(self, int32_t first_limit, int64_t now_ns) noexcept
    cdef str answer_check(self, int64_t last_id, int64_t now_ns)
    # Whether this partial depth is to seat the book (or a shadow): nothing better has come.
    cdef bint wants_partial(self, const Update *update) noexcept
    cdef void start_shadow(self, int32_t limit, Source source)
    cdef void see_again(self, int64_t now_ns) noexcept
    cdef bint is_seated(self) noexcept nogil    # good, or so but for its top: a shadow may take over
    cdef str place_shadow(self, int64_t now_ns, Status status)
    cdef str settle_shadow(self, int64_t now_ns, Status status)
    cdef void drop_shadow(self, int64_t now_ns) noexcept
    cdef void back_off(self, int64_t now_ns) noexcept
    cdef void forget_digits(self) noexcept
    cdef bint _is_horizon_thin(self, int64_t least) noexcept
    cdef void expire_request(self, int64_t now_ns) noexcept
