# Which frames a symbol's book takes, from which line, and when it needs a snapshot.

from mdfeed._book cimport Book
from mdfeed._slots cimport Slots
from mdfeed._sync cimport FrameBuffer
from mdfeed._trust cimport Trust
from mdfeed._types cimport *


cdef class Track(Trust):
    cdef readonly Book shadow               # a newer snapshot on its way to the book's id, or None
    cdef readonly FrameBuffer buffer        # raw diffs: for the join, for a parked gap, for a shadow
    cdef readonly Slots slots               # what each line has brought
    cdef bint _has_diffs
    cdef bint _is_lineless                  # the last line that carried the diffs is gone
    cdef bint _is_shadowing                 # diffs are also held, for a shadow that was asked for
    cdef bint _is_in_flight
    cdef bint _is_depth_silent              # not told yet: no diffs, though bookTicker shows that there are some
    cdef int64_t _parked_ns                 # since when a gap waits for another line; 0: none
    cdef int64_t _opened_ns                 # since when a line carries the diffs; 0: none
    cdef int64_t _requested_ns
    cdef int64_t _retry_ns                  # no snapshot is wanted before
    cdef int64_t _joined_ns
    cdef int32_t _attempts
    cdef readonly int64_t stale
    cdef readonly int64_t gaps
    cdef readonly int64_t overlaps
    cdef readonly int64_t ghosts            # levels in which shadow snapshots contradicted the book

    # True when the held frames should be fed again now (a parked gap may have closed).
    cdef bint on_diff(self, int32_t line, const Message *message, const char *data, int32_t size,
                      int64_t recv_ns) noexcept
    # A held diff again, for the book or for the shadow: no publication. The rule's status.
    cdef Status on_held(self, const Message *message, int64_t recv_ns) noexcept
    cdef void on_partial(self, const Message *message, int64_t recv_ns) noexcept

    cdef void join(self, int64_t now_ns) noexcept
    cdef void unpark(self, int64_t now_ns) noexcept
    cdef void start_shadow(self)
    cdef str place_shadow(self, int64_t now_ns, Status status)
    cdef str settle_shadow(self, int64_t now_ns, Status status)
    cdef void drop_shadow(self, int64_t now_ns) noexcept
    cdef void back_off(self, int64_t now_ns) noexcept

    cdef void _hold(self, int32_t line, const char *data, int32_t size, int64_t recv_ns) noexcept
    cdef void _moved(self, const Message *message, int64_t recv_ns, bint is_held) noexcept
    cdef int64_t patience_ns(self) noexcept nogil
    cdef bint _is_horizon_thin(self) noexcept
