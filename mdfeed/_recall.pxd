# The newest raw frames of all lines, in a ring of fixed size.

from mdfeed._types cimport *


cdef struct Kept:
    # One frame; its bytes follow.
    int64_t recv_ns
    int32_t size
    int32_t stride          # bytes to the next Kept


cdef class Recall:
    cdef readonly int64_t capacity      # bytes
    cdef readonly int64_t count         # frames kept now
    cdef char *_data
    cdef int64_t _head                  # where the next one goes
    cdef int64_t _tail                  # the oldest
    cdef int64_t _end                   # behind the last one before the ring wrapped
    cdef void push(self, const char *frame, int64_t size, int64_t recv_ns) noexcept nogil
    cdef void _drop_oldest(self) noexcept nogil
    cdef Kept *_next(self, Kept *kept) noexcept nogil
