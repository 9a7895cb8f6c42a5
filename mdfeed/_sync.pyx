"""Buffers of raw frames for the time in which a book waits for its snapshot.

Raw, because a frame that is fed again goes through the same decoder as a live one, and one path is enough
to get right. All buffers of a feed draw on one Budget: a venue that answers no snapshot for an hour must
not cost the machine its memory.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset


cdef class Budget:
    """Bytes that all frame buffers of a feed may hold together."""

    def __cinit__(self, int64_t limit):
        self.limit = limit


cdef class FrameBuffer:
    """Frames in order of arrival, each with its line and receive time."""

    def __cinit__(self, Budget budget not None):
        self._budget = budget

    @property
    def memory_bytes(self):
        """Bytes held."""
        return object.__sizeof__(self) + self._capacity

    def __dealloc__(self):
        self._budget.used -= self._capacity
        free(self._data)

    cdef bint push(self, int32_t line, const char *frame, int32_t size, int64_t recv_ns) noexcept nogil:
        cdef Py_ssize_t stride = (<Py_ssize_t>sizeof(Held) + size + PADDING + 15) & ~<Py_ssize_t>15
        cdef Py_ssize_t capacity = self._capacity
        cdef Held *held
        cdef char *data
        if self._used + stride > capacity:
            capacity = max(2 * capacity, self._used + stride, <Py_ssize_t>4096)
            if self._budget.used + (capacity - self._capacity) > self._budget.limit:
                return False
            data = <char *>realloc(self._data, <size_t>capacity)
            if data == NULL:
                return False
            self._budget.used += capacity - self._capacity
            self._data = data
            self._capacity = capacity
        held = <Held *>(self._data + self._used)
        held.recv_ns = recv_ns
        held.line = line
        held.size = size
        held.stride = <int32_t>stride
        memcpy(<char *>held + sizeof(Held), frame, <size_t>size)
        memset(<char *>held + sizeof(Held) + size, 0, <size_t>(stride - <Py_ssize_t>sizeof(Held) - size))
        self._used += stride
        self.count += 1
        return True

    cdef Held *at(self, Py_ssize_t offset) noexcept nogil:
        return <Held *>(self._data + offset) if offset < self._used else NULL

    cdef void drop(self, Py_ssize_t offset) noexcept nogil:
        cdef Py_ssize_t at = 0
        if offset >= self._used:
            self.clear()
            return
        while at < offset:
            at += (<Held *>(self._data + at)).stride
            self.count -= 1
        memmove(self._data, self._data + offset, <size_t>(self._used - offset))
        self._used -= offset

    cdef void clear(self) noexcept nogil:
        # The room goes back: books sync seldom, and 500 of them would otherwise keep their largest wait for ever.
        self._budget.used -= self._capacity
        free(self._data)
        self._data = NULL
        self._used = self._capacity = 0
        self.count = 0
