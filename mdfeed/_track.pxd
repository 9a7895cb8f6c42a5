# Which frames a symbol's book takes, and from which line.

from mdfeed._seat cimport Seat
from mdfeed._sync cimport FrameBuffer
from mdfeed._types cimport *


cdef struct Slot:
    # What one line has brought of this symbol's diffs.
    int32_t line                # -1: free
    int32_t old_run             # diffs in a row that chain to each other but are old to the book
    int64_t last_id             # newest diff of this line, 0 before the first
    int64_t last_ns             # when it came


cdef enum:
    SLOTS = 8


cdef class Track(Seat):
    cdef Slot _slots[8]
    cdef readonly int64_t stale
    cdef readonly int64_t gaps
    cdef readonly int64_t overlaps

    # True when the held frames should be fed again now (a parked gap may have closed).
    cdef bint on_diff(self, int32_t line, const Message *message, const char *data, int32_t size,
                      int64_t recv_ns) noexcept
    # A held diff again, for the book or for the shadow: no publication. The rule's status.
    cdef Status on_held(self, const Message *message, int64_t recv_ns) noexcept
    cdef void on_partial(self, const Message *message, int64_t recv_ns) noexcept

    cdef void unpark(self, int64_t now_ns) noexcept

    cdef Slot *_slot(self, int32_t line) noexcept nogil
    cdef void _hold(self, int32_t line, const char *data, int32_t size, int64_t recv_ns) noexcept
    cdef bint _can_another_line_fill(self, int32_t line, const Update *update, int64_t now_ns) noexcept nogil
    cdef bint _have_ids_restarted(self) noexcept nogil
    cdef void _moved(self, const Message *message, int64_t recv_ns, bint is_held) noexcept
    cdef int64_t patience_ns(self) noexcept nogil
