"""An outbox in front of another: what concerns a symbol passes as long as its lease lasts, and not a moment longer.

Answers for: never letting a publication through that was received after the lease's end, even when the whole process
slept meanwhile (the times are the heart's own). Refuses to know: how leases are had (lease.py), clocks.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from mdfeed._types cimport *

from mdfeed._encode cimport Outbox


cdef class Valve(Outbox):
    """In front of `outbox`. Everything is shut until `open` says otherwise, events too until something is open."""

    cdef readonly Outbox outbox
    cdef readonly int64_t held_back     # things that were not let through
    cdef int64_t *_until_ns             # by instrument's index; 0: shut
    cdef int32_t _capacity
    cdef int32_t _open                  # how many are open
    cdef int64_t _now_ns                # the latest time that was heard of

    def __init__(self, Outbox outbox not None):
        self.outbox = outbox

    def __dealloc__(self):
        free(self._until_ns)

    def open(self, int32_t index, int64_t until_ns):
        """Let a symbol through until then (UTC ns). MemoryError when there is no room to remember it."""
        cdef int64_t *grown
        if index < 0 or until_ns <= 0:
            raise ValueError("an index and a time are positive")
        if index >= self._capacity:
            grown = <int64_t *>realloc(self._until_ns, <size_t>(index + 64) * sizeof(int64_t))
            if grown == NULL:
                raise MemoryError
            memset(grown + self._capacity, 0, <size_t>(index + 64 - self._capacity) * sizeof(int64_t))
            self._until_ns = grown
            self._capacity = index + 64
        if self._until_ns[index] == 0:
            self._open += 1
        self._until_ns[index] = until_ns

    def shut(self, int32_t index):
        """Nothing of a symbol passes any more."""
        if 0 <= index < self._capacity and self._until_ns[index]:
            self._until_ns[index] = 0
            self._open -= 1

    def shut_all(self):
        """Nothing passes any more."""
        cdef int32_t i
        for i in range(self._capacity):
            self._until_ns[i] = 0
        self._open = 0

    def is_open(self, int32_t index):
        return 0 <= index < self._capacity and self._until_ns[index] != 0

    cdef bint _lets(self, const Instrument *instrument, int64_t at_ns) noexcept nogil:
        self._now_ns = max(self._now_ns, at_ns)
        if instrument.index < self._capacity and at_ns < self._until_ns[instrument.index]:
            return True
        self.held_back += 1
        return False

    cdef Status on_book(self, const Quote *quote) noexcept nogil:
        return self.outbox.on_book(quote) if self._lets(quote.instrument, quote.now_ns) else OK

    cdef Status on_trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                         int64_t recv_ns) noexcept nogil:
        return self.outbox.on_trade(instrument, trade, ts_event, recv_ns) if self._lets(instrument, recv_ns) else OK

    cdef Status on_bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                       int64_t recv_ns) noexcept nogil:
        # What is said again may be older than the lease.
        if not self._lets(instrument, max(recv_ns, self._now_ns)):
            return OK
        return self.outbox.on_bbo(instrument, bbo, seq, ts_event, recv_ns)

    cdef Status on_state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                         int64_t last_id, int64_t now_ns) noexcept nogil:
        if not self._lets(instrument, now_ns):
            return OK
        return self.outbox.on_state(instrument, state, reason, since_ns, last_id, now_ns)

    cdef Status on_withdraw(self, const Instrument *instrument) noexcept nogil:
        return self.outbox.on_withdraw(instrument) if self._lets(instrument, self._now_ns) else OK

    cdef Status on_event(self, const char *text, Py_ssize_t size) noexcept nogil:
        if self._open:
            return self.outbox.on_event(text, size)
        self.held_back += 1
        return OK
