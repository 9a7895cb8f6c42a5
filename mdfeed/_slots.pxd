# What each of the lines that carry a symbol has brought of its diffs.

from libc.stdint cimport int32_t, int64_t

from mdfeed._types cimport Update


cdef struct Slot:
    int32_t line                # -1: free
    int32_t late_run            # diffs in a row that chain to each other, old to the book by id and newer by event time
    int32_t old_run             # diffs in a row that are old to the book
    int64_t old_since_ns        # receipt of the first of these
    int64_t old_lag_ns          # by how much the event time of that was older than the book's
    int64_t fallen_from         # where its ids were before they went down; 0: they have not, or are beyond again
    int64_t last_id             # newest diff of this line, 0 before the first
    int64_t last_ns             # when it came; before the first: when the line was opened
    int64_t newest_ts           # the latest event time of its diffs
    int64_t behind              # diffs that other lines have brought since
    int64_t diffs               # of this line, while the book was followed
    int64_t wins                # of them, those that came first
    int64_t delay_ns            # sum over diffs, receipt less event time


cdef enum:
    SLOTS = 8
    HEARD = 256                 # lines whose newest frame is kept, by their number modulo this


cdef class Slots:
    cdef Slot _slots[8]

    # This line's slot; a new line takes a free one, else the one that was silent longest. Valid until it is freed.
    cdef Slot *of(self, int32_t line) noexcept nogil
    # Frees a line's slot: 0 when it had none, else 1 and `left` how many are left.
    cdef bint free(self, int32_t line, int32_t *left) noexcept nogil
    # The book has moved on: old diffs in a row count anew, and every line is one more behind.
    cdef void moved(self) noexcept nogil
    cdef void forget_old_runs(self) noexcept nogil
    # Another line carries these diffs, has delivered within fresh_ns, and is not yet beyond the gap.
    cdef bint can_another_fill(self, int32_t line, const Update *update, int64_t now_ns,
                               int64_t fresh_ns) noexcept nogil
    # When any of these lines brought anything last; `heard` is by a line's number modulo HEARD.
    cdef int64_t heard(self, const int64_t *heard) noexcept nogil
    # Every line shows that the venue's ids have started over.
    cdef bint have_ids_restarted(self, int64_t now_ns) noexcept nogil
