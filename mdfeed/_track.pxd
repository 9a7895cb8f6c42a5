# Which frames a symbol's book takes, and from which line.

from mdfeed._seat cimport Seat
from mdfeed._slots cimport Slot, Slots
from mdfeed._sync cimport FrameBuffer
from mdfeed._types cimport *


cdef enum:
    MUTE_FEW = 10               # so many symbols are checked at once, though it may be their line that is dead


cdef class Track(Seat):
    cdef readonly Slots slots               # what each line has brought
    cdef readonly int64_t stale
    cdef readonly int64_t gaps
    cdef int32_t _gap_line                  # who brought the diff that does not chain, while that is parked
    cdef int64_t _gap_id                    # and what it continues
    cdef readonly int64_t overlaps
    cdef readonly int64_t disconnects       # how often the last line that carried the diffs was lost
    cdef readonly int64_t errors            # frames of the symbol that are not what the venue documents

    # True when the held frames should be fed again now (a parked gap may have closed).
    cdef bint on_diff(self, int32_t line, const Message *message, const char *data, int32_t size,
                      int64_t recv_ns) noexcept
    # A held diff again, for the book or for the shadow: no publication. The rule's status.
    cdef Status on_held(self, const Message *message, int64_t recv_ns) noexcept
    cdef void on_partial(self, const Message *message, int64_t recv_ns) noexcept

    # No diff came for too long, though other frames of the symbol did.
    cdef bint is_depth_late(self, int64_t now_ns) noexcept nogil
    cdef void unpark(self, int64_t now_ns) noexcept

    cdef void _tell_gap(self, int32_t line, int64_t got_id, int64_t now_ns) noexcept
    cdef bint _starts_over(self, Slot *slot, bint has_fallen_late) noexcept nogil
    cdef bint _is_restart(self, Slot *slot, const Message *message, bint is_chained, int64_t recv_ns) noexcept nogil
    cdef void _hold(self, int32_t line, const char *data, int32_t size, int64_t recv_ns) noexcept
    cdef void _moved(self, const Message *message, int64_t recv_ns, bint is_held) noexcept
    # `heard`: the newest frame of each line of the feed, by its number modulo HEARD.
    cdef bint is_line_mute(self, const int64_t *heard, int64_t now_ns) noexcept nogil
    cdef int64_t patience_ns(self) noexcept nogil
