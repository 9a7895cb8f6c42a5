# Raw frames kept while a snapshot is on its way. Knows bytes and a budget; nothing of their meaning.

from mdfeed._types cimport *

cdef class Budget:
    # Bytes that all buffers of a feed may hold together.
    cdef readonly int64_t limit
    cdef readonly int64_t used


cdef struct Held:
    # One buffered frame; the frame's bytes follow, padded.
    int64_t recv_ns
    int32_t line
    int32_t size
    int32_t stride          # bytes to the next Held


cdef class FrameBuffer:
    cdef Budget _budget
    cdef char *_data
    cdef Py_ssize_t _used
    cdef Py_ssize_t _capacity
    cdef readonly int32_t count

    # False when the budget or the memory is used up: nothing was kept of this frame.
    cdef bint push(self, int32_t line, const char *frame, int32_t size, int64_t recv_ns) noexcept nogil
    # The frame at a byte offset (0 first, then offset + stride), or NULL at the end. Valid until push or drop.
    cdef Held *at(self, Py_ssize_t offset) noexcept nogil
    # Forget everything before a byte offset.
    cdef void drop(self, Py_ssize_t offset) noexcept nogil
    cdef void clear(self) noexcept nogil


cdef inline const char *held_frame(const Held *held) noexcept nogil:
    return <const char *>held + sizeof(Held)


cdef enum:
    PADDING = 64            # readable bytes behind each frame: at least SIMDJSON_PADDING
