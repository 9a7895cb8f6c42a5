"""Loops over mdfeed's C functions, a clock around each call: what a Python loop would blur (see bench/native.py)."""

from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from mdfeed._book cimport Book
from mdfeed._encode cimport Market, Outbox
from mdfeed._feed cimport Feed
from mdfeed._parse cimport Decoder
from mdfeed._types cimport *

PADDING_BYTES = 256     # what picows keeps readable behind a frame
cdef Py_ssize_t ROOM = 256


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


def clock_cost_ns():
    """What one reading of the clock adds to each figure."""
    cdef int64_t start = now_ns()
    cdef int _i
    for _i in range(100000):
        now_ns()
    return (now_ns() - start) / 100001


def run_decode_apply(Decoder decoder, Book book, list frames, bint does_decode, bint does_apply):
    """Decode and apply each padded frame; ns of the half (or both halves) that is asked for, a frame each."""
    cdef Message message
    cdef bytes frame
    cdef int64_t start, end
    cdef Status status
    raw = []
    for frame in frames:
        start = now_ns()
        status = decoder.decode(frame, len(frame) - ROOM, len(frame), &message)
        if not does_decode:
            start = now_ns()
        if status != OK or message.kind != K_DIFF:
            raise ValueError(f"status {status}: {frame[:80]!r}")
        if does_apply:
            if book.apply(&message.update) != APPLIED:
                raise ValueError(f"not applied: {frame[:80]!r}")
        end = now_ns()
        raw.append(end - start)
    return raw


def run_feed(Feed feed, int32_t line, list frames, Outbox outbox, int64_t recv_ns):
    """Feed.receive_raw for each padded frame; ns of each. `outbox.take()` between them, outside the clock."""
    cdef bytes frame
    cdef int64_t start
    cdef int n = 0
    raw = []
    for frame in frames:
        start = now_ns()
        feed.receive_raw(line, frame, len(frame) - ROOM, len(frame), recv_ns)
        raw.append(now_ns() - start)
        n += 1
        if n & 15 == 0:
            outbox.take()
    outbox.take()
    return raw


def run_encode(Market market, Book book, Outbox outbox, int n, int32_t depth):
    """Reads `depth` levels a side and encodes them for every output of the outbox, n times; ns of each."""
    cdef Level[100] bids
    cdef Level[100] asks
    cdef Quote quote
    cdef int64_t start
    cdef int i
    raw = []
    if depth > 100:
        raise ValueError("depth is 100 at most")
    memset(&quote, 0, sizeof(Quote))
    quote.instrument = &market.instrument
    quote.last_id = book.last_id
    quote.state = S_LIVE
    quote.recv_ns = 1700000000123456789
    for i in range(n):
        start = now_ns()
        quote.top = book.top()
        quote.n_bids = book.depth(0, depth, True, bids)
        quote.n_asks = book.depth(1, depth, True, asks)
        quote.bids = bids
        quote.asks = asks
        if outbox.on_book(&quote) != OK:
            raise MemoryError
        raw.append(now_ns() - start)
        if i & 15 == 15:
            outbox.take()
    return raw
