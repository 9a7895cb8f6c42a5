"""The newest raw frames of all lines, so that what led to a wrong book can be written down when it shows.

Answers for a fixed memory and a price of one copy a frame. Refuses to know what a frame says: a symbol's frames are
those that hold its name in quotes.
"""

from typing import NamedTuple

from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy


class Evidence(NamedTuple):
    """What led to a contradicted book: ids and tops as Trust.last_mismatch has them, frames as (recv_ns, frame)."""

    symbol: str
    at_ns: int
    mismatch: tuple
    digits: tuple
    book: tuple
    frames: list


cdef class Recall:
    """The newest raw frames, as many as fit `capacity` bytes; the oldest give way."""

    def __init__(self, int64_t capacity):
        if capacity < 4096:
            raise ValueError(f"a ring has 4096 bytes at least, not {capacity}")
        free(self._data)
        self._head = self._tail = self._end = self.count = 0
        self.capacity = capacity & ~<int64_t>7
        self._data = <char *>malloc(<size_t>capacity)
        if self._data == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._data)

    cdef void push(self, const char *frame, int64_t size, int64_t recv_ns) noexcept nogil:
        cdef int64_t stride = (<int64_t>sizeof(Kept) + size + 7) & ~<int64_t>7
        cdef Kept *kept
        if stride > self.capacity // 4:
            return
        if self._head + stride > self.capacity:
            # The tail is ahead of the head, or the ring has never wrapped: what lies behind the head goes first.
            while self.count and self._tail >= self._head:
                self._drop_oldest()
            self._end = self._head
            self._head = 0
        while self.count and self._head <= self._tail < self._head + stride:
            self._drop_oldest()
        if self.count == 0:
            self._tail = self._head
        kept = <Kept *>(self._data + self._head)
        kept.recv_ns = recv_ns
        kept.size = <int32_t>size
        kept.stride = <int32_t>stride
        memcpy(<char *>kept + sizeof(Kept), frame, <size_t>size)
        self._head += stride
        self.count += 1

    cdef void _drop_oldest(self) noexcept nogil:
        cdef Kept *oldest = <Kept *>(self._data + self._tail)
        self._tail = <char *>self._next(oldest) - self._data
        self.count -= 1

    cdef Kept *_next(self, Kept *kept) noexcept nogil:
        # What lies at the head or behind it is of the lap before, and ends where the ring wrapped.
        cdef int64_t at = <char *>kept - self._data
        cdef bint is_of_last_lap = at >= self._head
        at += kept.stride
        return <Kept *>(self._data + (0 if is_of_last_lap and at == self._end else at))

    def keep(self, bytes frame not None, int64_t recv_ns):
        """Take one frame. One larger than a quarter of the ring is not kept."""
        self.push(frame, len(frame), recv_ns)

    def frames_of(self, str symbol not None, int64_t most_bytes):
        """(recv_ns, frame) of the frames that name a symbol, oldest first: the newest ones within `most_bytes`."""
        cdef bytes name = b'"%s"' % symbol.encode()
        cdef Kept *kept = <Kept *>(self._data + self._tail)
        cdef const char *text
        cdef int64_t left
        found = []
        for left in range(self.count):
            text = <const char *>kept + sizeof(Kept)
            if holds(text, kept.size, name, len(name)):
                found.append((kept.recv_ns, text[:kept.size]))
            if left + 1 < self.count:
                kept = self._next(kept)
        newest, total = len(found), 0
        while newest and total + len(found[newest - 1][1]) <= most_bytes:
            newest -= 1
            total += len(found[newest][1])
        return found[newest:]


cdef bint holds(const char *text, int64_t size, const char *name, int64_t length) noexcept nogil:
    cdef const char *at = text
    cdef const char *last = text + size - length
    while at <= last:
        at = <const char *>memchr(at, name[0], <size_t>(last - at + 1))
        if at == NULL:
            return False
        if memcmp(at, name, <size_t>length) == 0:
            return True
        at += 1
    return False
