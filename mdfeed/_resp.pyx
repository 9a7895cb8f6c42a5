"""Payloads to RESP: the commands that a Redis-compatible server is sent (docs/PROTOCOL.md).

Answers for: which commands a payload becomes and in which order (SET before PUBLISH, one encoding for both), their
framing, how many replies are to be expected. Refuses to know: sockets, replies, field names, clocks.
"""

from collections.abc import Iterable

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset, strlen

from mdfeed._text cimport INT_BYTES, put, put_uint, release, reserve

from mdfeed._encode import OUTPUTS

# What pending_kinds says beside an index in KINDS.
FIRST, LAST, NOTHING = <int>M_FIRST, <int>M_LAST, <int>M_NOTHING

cdef enum:
    PREFIX_BYTES = 256          # the longest prefix: an XADD with a 39-byte symbol takes 150
    KEEP_BYTES = 4 * 1024 * 1024    # a buffer that a burst made larger is given back


cdef inline char *put_bulk(char *out, const char *text, size_t size) noexcept nogil:
    out[0] = 36
    out = put(put_uint(out + 1, size), b"\r\n", 2)
    return put(put(out, text, size), b"\r\n", 2)


cdef inline char *put_word(char *out, const char *text) noexcept nogil:
    return put_bulk(out, text, strlen(text))


cdef char *put_key(char *out, const char *head, const Instrument *instrument) noexcept nogil:
    cdef size_t size = strlen(head)
    out[0] = 36
    out = put(put_uint(out + 1, size + instrument.symbol_len), b"\r\n", 2)
    out = put(put(out, head, size), instrument.symbol, instrument.symbol_len)
    return put(out, b"\r\n", 2)


cdef char *put_set(char *out, const char *head, const Instrument *instrument) noexcept nogil:
    out = put_key(put_word(put(out, b"*5\r\n", 4), b"SET"), head, instrument)
    return put(out, b"$", 1)


cdef char *put_publish(char *out, const char *head, const Instrument *instrument) noexcept nogil:
    out = put_key(put_word(put(out, b"*3\r\n", 4), b"PUBLISH"), head, instrument)
    return put(out, b"$", 1)


# MAXLEN ~ n * data: what follows an XADD's key.
cdef char *put_stream_tail(char *out, int64_t maxlen) noexcept nogil:
    cdef char text[INT_BYTES + 32]
    cdef char *end = put_uint(text, <uint64_t>maxlen)
    out = put_word(put_word(out, b"MAXLEN"), b"~")
    out = put_bulk(out, text, end - text)
    return put(put_word(put_word(out, b"*"), b"data"), b"$", 1)


cdef class RespOutbox(Encoder):
    """Encodes what the heart says as RESP commands, for one write to a Redis-compatible server.

    A depth update is SET market_data (EX), PUBLISH market_data, PUBLISH orderbook, SET and PUBLISH mdfeed:book, next
    to each other. A state's key expires like the others and is set again with the books of its instrument.
    A book that is no longer good takes its keys market_data and mdfeed:book with it, by one DEL.
    `max_pending_bytes` bounds what waits for take(): beyond it payloads are dropped as "full".
    """

    def __cinit__(self) -> None:
        self._expire.limit = self._events.limit = 1024
        self._kinds.limit = 1 << 30

    def __dealloc__(self) -> None:
        for i in range(self._n_slots):
            if self._slots[i] != NULL:
                release(&self._slots[i].state)
                free(self._slots[i].text)
                free(self._slots[i])
        free(self._slots)
        release(&self._pending)
        release(&self._kinds)
        release(&self._expire)
        release(&self._events)

    def __init__(self, instruments: object, *, epoch: int, outputs: Iterable[str] = OUTPUTS,
                 trades_maxlen: int = 10_000, events_maxlen: int = 10_000, expire_s: int = 300,
                 max_pending_bytes: int = 64 << 20) -> None:
        cdef char text[INT_BYTES + 32]
        cdef char *end
        super().__init__(epoch=epoch, outputs=outputs)
        if min(trades_maxlen, events_maxlen, expire_s, max_pending_bytes) < 1:
            raise ValueError("lengths of streams, expiry and buffer limit are at least 1")
        # The owner of the Instrument structs that the heart names in every call.
        self._instruments = instruments
        self.trades_maxlen = trades_maxlen
        self.events_maxlen = events_maxlen
        self.expire_s = expire_s
        self._pending.limit = max_pending_bytes
        if not reserve(&self._expire, 128) or not reserve(&self._events, PREFIX_BYTES):
            raise MemoryError
        end = put_uint(text, expire_s)
        end = put_bulk(put_word(put(self._expire.data, b"\r\n", 2), b"EX"), text, end - text)
        self._expire.size = end - self._expire.data
        end = put_word(put_word(put(self._events.data, b"*8\r\n", 4), b"XADD"), b"mdfeed:events")
        self._events.size = put_stream_tail(end, events_maxlen) - self._events.data

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for take()."""
        return self._pending.size

    def published_of(self, index: int) -> dict[str, int]:
        """What was published of the instrument of that index on orderbook:{SYM} and trades:{SYM}, since the start."""
        cdef Slot *slot = self._slots[index] if 0 <= index < self._n_slots else NULL
        if slot == NULL:
            return {"orderbook": 0, "trade": 0}
        return {"orderbook": slot.orderbooks, "trade": slot.trades}

    def take(self) -> bytes:
        """All commands encoded so far, as bytes of their own; nothing is pending then."""
        data = PyBytes_FromStringAndSize(self._pending.data, self._pending.size)
        self._pending.size = self._kinds.size = 0
        self.pending_commands = 0
        if self._pending.capacity > KEEP_BYTES:
            release(&self._pending)
        return data

    @property
    def pending_kinds(self) -> bytes:
        """A byte for each pending command: the index in KINDS of what it belongs to, and its place there (FIRST, LAST).

        NOTHING is a command that is no publication.
        """
        return PyBytes_FromStringAndSize(self._kinds.data, self.pending_commands)

    def close(self, reason: str) -> None:
        """As the base; states are forgotten, for they may change unseen from here on."""
        for i in range(self._n_slots):
            if self._slots[i] != NULL:
                self._slots[i].state.size = 0
        Encoder.close(self, reason)

    cdef Slot *_slot(self, const Instrument *instrument) noexcept nogil:
        cdef int32_t index = instrument.index
        cdef Slot *slot
        cdef void *grown
        cdef int32_t n
        if index < self._n_slots and self._slots[index] != NULL:
            return self._slots[index]
        if index >= self._n_slots:
            n = index + 64
            grown = realloc(self._slots, n * sizeof(Slot *))
            if grown == NULL:
                return NULL
            self._slots = <Slot **>grown
            memset(&self._slots[self._n_slots], 0, (n - self._n_slots) * sizeof(Slot *))
            self._n_slots = n
        slot = <Slot *>calloc(1, sizeof(Slot))
        if slot != NULL:
            slot.state.limit = 8192
            slot.text = <char *>calloc(P_COUNT, PREFIX_BYTES)
            if slot.text == NULL:
                free(slot)
                return NULL
            self._fill(slot, instrument)
            self._slots[index] = slot
        return slot

    cdef void _fill(self, Slot *slot, const Instrument *instrument) noexcept nogil:
        cdef char *out = slot.text
        cdef int i
        for i in range(<int>P_COUNT):
            slot.start[i] = <uint32_t>(out - slot.text)
            if i == P_SET_MARKET_DATA:
                out = put_set(out, b"market_data:", instrument)
            elif i == P_PUBLISH_MARKET_DATA:
                out = put_publish(out, b"market_data:", instrument)
            elif i == P_PUBLISH_ORDERBOOK:
                out = put_publish(out, b"orderbook:", instrument)
            elif i == P_PUBLISH_TRADES:
                out = put_publish(out, b"trades:", instrument)
            elif i == P_SET_STATE:
                out = put_set(out, b"mdfeed:state:", instrument)
            elif i == P_PUBLISH_STATE:
                out = put_publish(out, b"mdfeed:state:", instrument)
            elif i == P_SET_BOOK:
                out = put_set(out, b"mdfeed:book:", instrument)
            elif i == P_PUBLISH_BOOK:
                out = put_publish(out, b"mdfeed:book:", instrument)
            elif i == P_PUBLISH_BBO:
                out = put_publish(out, b"mdfeed:bbo:", instrument)
            elif i == P_XADD_TRADES:
                out = put_key(put_word(put(out, b"*8\r\n", 4), b"XADD"), b"mdfeed:trades:", instrument)
                out = put_stream_tail(out, self.trades_maxlen)
            else:
                out = self._put_del(out, instrument)
        slot.start[<int>P_COUNT] = <uint32_t>(out - slot.text)

    # The keys with a book's data, as far as they are among the outputs.
    cdef char *_put_del(self, char *out, const Instrument *instrument) noexcept nogil:
        cdef bint has_both = self._wants[<int>O_MARKET_DATA] and self._wants[<int>O_BOOK]
        out = put_word(put(out, b"*3\r\n" if has_both else b"*2\r\n", 4), b"DEL")
        if self._wants[<int>O_MARKET_DATA]:
            out = put_key(out, b"market_data:", instrument)
        if self._wants[<int>O_BOOK]:
            out = put_key(out, b"mdfeed:book:", instrument)
        return out

    cdef Status _append(self, uint8_t kind, const char *prefix, size_t prefix_size, const char *data, size_t size,
                        bint expires) noexcept nogil:
        cdef char *out
        cdef size_t bound = prefix_size + size + INT_BYTES + 4 + self._expire.size
        if not reserve(&self._kinds, 1) or not reserve(&self._pending, bound):
            return NO_MEMORY
        out = put(self._pending.data + self._pending.size, prefix, prefix_size)
        if data != NULL:
            out = put(put(put_uint(out, size), b"\r\n", 2), data, size)
            out = put(out, self._expire.data, self._expire.size) if expires else put(out, b"\r\n", 2)
        self._pending.size = out - self._pending.data
        self._kinds.data[self.pending_commands] = <char>kind
        self.pending_commands += 1
        self._kinds.size = self.pending_commands
        return OK

    cdef Status _command(self, Slot *slot, uint8_t kind, Prefix prefix, const char *data, size_t size,
                         bint expires) noexcept nogil:
        cdef uint32_t start = slot.start[<int>prefix]
        return self._append(kind, slot.text + start, slot.start[<int>prefix + 1] - start, data, size, expires)

    cdef Status _set_and_publish(self, Slot *slot, Output output, Prefix setting, Prefix publishing,
                                 const char *data, size_t size) noexcept nogil:
        cdef size_t mark = self._pending.size
        cdef int64_t commands = self.pending_commands
        if self._command(slot, <uint8_t>(<int>output | <int>M_FIRST), setting, data, size, True) == OK:
            if self._command(slot, <uint8_t>(<int>output | <int>M_LAST), publishing, data, size, False) == OK:
                return OK
            self._pending.size = mark
            self.pending_commands = commands
            self._kinds.size = commands
        return NO_MEMORY

    cdef Status emit(self, Output output, const Instrument *instrument, const char *data, size_t size) noexcept nogil:
        cdef Slot *slot
        cdef Status status
        cdef uint8_t alone = <uint8_t>output
        if output == O_EVENTS:
            return self._append(alone, self._events.data, self._events.size, data, size, False)
        slot = self._slot(instrument)
        if slot == NULL:
            return NO_MEMORY
        if output == O_MARKET_DATA:
            return self._set_and_publish(slot, output, P_SET_MARKET_DATA, P_PUBLISH_MARKET_DATA, data, size)
        if output == O_ORDERBOOK:
            status = self._command(slot, alone, P_PUBLISH_ORDERBOOK, data, size, False)
            slot.orderbooks += status == OK
            return status
        if output == O_TRADES:
            status = self._command(slot, alone, P_PUBLISH_TRADES, data, size, False)
            slot.trades += status == OK
            return status
        if output == O_BOOK:
            return self._set_and_publish(slot, output, P_SET_BOOK, P_PUBLISH_BOOK, data, size)
        if output == O_BBO:
            return self._command(slot, alone, P_PUBLISH_BBO, data, size, False)
        if output == O_TRADES_STREAM:
            return self._command(slot, alone, P_XADD_TRADES, data, size, False)
        if output == O_STATE:
            slot.state.size = 0
            if not reserve(&slot.state, size):
                return NO_MEMORY
            slot.state.size = put(slot.state.data, data, size) - slot.state.data
            slot.state_set_ns = 0
            return self._set_and_publish(slot, output, P_SET_STATE, P_PUBLISH_STATE, data, size)
        return self._command(slot, alone, P_DEL, NULL, 0, False)

    cdef Status on_book(self, const Quote *quote) noexcept nogil:
        cdef Status status = Encoder.on_book(self, quote)
        cdef Slot *slot = self._slot(quote.instrument)
        # An unchanged state is said once, so that its key would expire under a healthy book. A fifth of the time to
        # live leaves room for books that come once a minute; a clock that stepped back sets it at once.
        if slot == NULL or slot.state.size == 0 or not self.is_open:
            return status
        if slot.state_set_ns == 0:
            slot.state_set_ns = quote.now_ns
        elif not 0 <= quote.now_ns - slot.state_set_ns < self.expire_s * 200000000:
            if self._command(slot, M_NOTHING, P_SET_STATE, slot.state.data, slot.state.size, True) == OK:
                slot.state_set_ns = quote.now_ns
        return status
