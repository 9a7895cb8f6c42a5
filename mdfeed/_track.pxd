# Which frames a symbol's book takes, and from which line.

from mdfeed._seat cimport Seat
from mdfeed._slots cimport Slots
from mdfeed._sync cimport FrameBuffer
from mdfeed._types cimport *


cdef class Track(Seat):
    cdef readonly Slots slots               # what each line has brought
    cdef int64_t _newest_id                 # of the diff that came last, whatever became of it; 0: no line has any
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

    cdef void _hold(self, int32_t line, const char *data, int32_t size, int64_t recv_ns) noexcept
    cdef void _moved(self, const Message *message, int64_t recv_ns, bint is_held) noexcept
    cdef int64_t patience_ns(self) noexcept nogil
