# The receiving end of one WebSocket connection. Borrows every frame; owns nothing but its counters.

from picows.picows cimport WSFrame, WSListener, WSTransport

from mdfeed._feed cimport Feed
from mdfeed._types cimport *


cdef class Line(WSListener):
    cdef readonly int32_t line              # id in the heart
    cdef readonly int64_t frames            # whole messages handed over
    cdef readonly int64_t payload_bytes
    cdef readonly int64_t reads             # socket reads with anything in them
    cdef readonly int64_t pings             # of the venue, each answered
    cdef readonly int64_t failures          # of the receiver, `flush` or `on_reply`: logged, and the line went on
    cdef readonly int64_t last_frame_ns     # UTC; 0 before the first
    cdef readonly object over               # asyncio.Future, done when this connection carries nothing any more
    cdef readonly str reason                # token, None until it is over
    cdef readonly str detail
    cdef public bint expects_replies        # frames without a stream's name go to `on_reply` too

    cdef Feed _feed                         # None: `_receive` is called with bytes
    cdef object _receive
    cdef object _flush
    cdef object _on_reply
    cdef object _loop
    cdef WSTransport _transport             # picows', while it is connected
    cdef Py_ssize_t _max_bytes
    cdef set _unseen                        # streams that have not shown a frame
    cdef bytes _marker
    cdef bytearray _fragments               # None outside a fragmented message
    cdef bint _is_reading
    cdef bint _is_armed                     # the call_soon net is pending
    cdef int64_t _read_ns                   # UTC (_clock) at this read's first frame
    cdef int64_t _read_mono_ns              # CLOCK_MONOTONIC at the same moment
    cdef int64_t _flushed_mono_ns           # of this read: its start, or the newest flush on the way
    cdef int64_t _read_frames               # not flushed yet

    cdef void _begin(self) noexcept
    cdef void _end(self) noexcept
    cdef void _write(self) noexcept
    cdef int _accept(self, int opcode, bint fin, bint has_rsv, const char *data, Py_ssize_t size,
                     Py_ssize_t capacity) except -1
    cdef void _deliver(self, const char *data, Py_ssize_t size, Py_ssize_t capacity) noexcept
    cdef void _look(self, const char *data, Py_ssize_t size) noexcept
    cdef object _on_control(self, WSTransport transport, WSFrame frame)
