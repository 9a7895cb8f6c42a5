# Values -> payload bytes. Knows the published JSON and RESP framing; no socket.
#
# The heart calls an Outbox once for each thing that happened; what an Outbox makes of it (RESP bytes, Python
# tuples) is its own. Every pointer is borrowed for the call.

from mdfeed._types cimport *

cdef class Outbox:
    # Return OK, or NO_MEMORY (counted by the caller as a drop).
    cdef Status on_book(self, const Quote *quote) noexcept nogil
    cdef Status on_trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event, int64_t recv_ns) noexcept nogil
    cdef Status on_bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event, int64_t recv_ns) noexcept nogil
    # `reason` is a short NUL-terminated token such as "gap"; since_ns is when the state was entered.
    cdef Status on_state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                         int64_t last_id, int64_t now_ns) noexcept nogil
    # The instrument is no longer good: its market_data key goes.
    cdef Status on_withdraw(self, const Instrument *instrument) noexcept nogil
    # A line of mdfeed:events: `text` is a JSON object, not NUL-terminated.
    cdef Status on_event(self, const char *text, Py_ssize_t size) noexcept nogil
