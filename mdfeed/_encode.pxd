# Values -> payload bytes, by output. Knows outputs and counters; no RESP, no socket.
#
# The heart calls an Outbox once for each thing that happened; what an Outbox makes of it (RESP bytes, Python
# tuples) is its own. Every pointer is borrowed for the call.

from mdfeed._text cimport Buffer
from mdfeed._types cimport *

cdef enum Output:
    O_MARKET_DATA = 0
    O_ORDERBOOK = 1
    O_TRADES = 2
    O_STATE = 3
    O_BOOK = 4
    O_BBO = 5
    O_TRADES_STREAM = 6
    O_EVENTS = 7
    O_COUNT = 8
    O_WITHDRAW = 8      # no payload; follows the outputs that have a key which may go

cdef enum Drop:
    D_DISCONNECTED = 0
    D_SLOW = 1          # the far side does not read
    D_FULL = 2          # the buffer's limit, or no memory
    D_NO_LEASE = 3      # a valve in front keeps it back: another daemon may publish it
    D_COUNT = 4


cdef class Market:
    # An Instrument of one's own, for those who fill an outbox from Python.
    cdef Instrument instrument


cdef class Outbox:
    # Return OK, or NO_MEMORY (already counted here in dropped["full"]).
    # on_trade may also return IGNORED: this trade is kept back, and is to be given again once that is over.
    cdef Status on_book(self, const Quote *quote) noexcept nogil
    cdef Status on_trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                         int64_t recv_ns) noexcept nogil
    cdef Status on_bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                       int64_t recv_ns) noexcept nogil
    # `reason` is a short NUL-terminated token such as "gap"; since_ns is when the state was entered.
    cdef Status on_state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                         int64_t last_id, int64_t now_ns) noexcept nogil
    # The instrument is no longer good: its market_data key goes.
    cdef Status on_withdraw(self, const Instrument *instrument) noexcept nogil
    # A line of mdfeed:events: `text` is a JSON object, not NUL-terminated.
    cdef Status on_event(self, const char *text, Py_ssize_t size) noexcept nogil
    # Whether it takes anything at present.
    cdef bint takes(self) noexcept nogil
    # A payload of that output is not even asked for: somebody in front keeps it back.
    cdef void withhold(self, Output output) noexcept nogil


cdef class Encoder(Outbox):
    # Encodes each thing once for every output that is on, and hands the payload to emit().
    cdef readonly bint is_open
    cdef readonly int64_t epoch
    cdef Drop _closed_for
    cdef bint _wants[O_COUNT + 1]
    cdef int64_t _published[O_COUNT + 1]
    cdef int64_t _dropped[D_COUNT]
    cdef Buffer _payload

    # What becomes of one payload; `instrument` is NULL for O_EVENTS. OK or NO_MEMORY (nothing of it was taken).
    cdef Status emit(self, Output output, const Instrument *instrument, const char *data, size_t size) noexcept nogil
    cdef Status _begin(self, Output output, size_t bound) noexcept nogil
    cdef Status _finish(self, Output output, const Instrument *instrument, const char *end) noexcept nogil


cdef class Collector(Encoder):
    cdef object _items
    cdef readonly Py_ssize_t maxlen
