# Payloads -> RESP commands. Knows the commands and their framing; no socket, no replies.

from mdfeed._encode cimport *
from mdfeed._encode cimport Encoder, Output
from mdfeed._text cimport Buffer
from mdfeed._types cimport *

cdef enum Prefix:
    # A command up to the length of its payload.
    P_SET_MARKET_DATA = 0
    P_PUBLISH_MARKET_DATA = 1
    P_PUBLISH_ORDERBOOK = 2
    P_PUBLISH_TRADES = 3
    P_SET_STATE = 4
    P_PUBLISH_STATE = 5
    P_SET_BOOK = 6
    P_PUBLISH_BOOK = 7
    P_PUBLISH_BBO = 8
    P_XADD_TRADES = 9
    P_DEL = 10                  # whole: it has no payload
    P_COUNT = 11


cdef enum Mark:
    # A command's place in what it belongs to, beside its Output: one byte a command, for those who read replies.
    M_ALONE = 0
    M_FIRST = 0x40              # the SET of a payload that is published next
    M_LAST = 0x80               # its PUBLISH
    M_NOTHING = 0xFF            # no publication: a key that is kept alive


cdef struct Slot:
    # What is kept for one instrument. Made on first use.
    char *text                  # all prefixes, one behind the other
    uint32_t start[P_COUNT + 1]
    Buffer state                # the last state payload, to set its key again
    int64_t state_set_ns        # 0: set at the next book
    int64_t orderbooks          # published on orderbook:{SYM}
    int64_t trades              # published on trades:{SYM}


cdef class RespOutbox(Encoder):
    cdef object _instruments
    cdef Slot **_slots
    cdef int32_t _n_slots
    cdef Buffer _pending
    cdef Buffer _kinds              # a byte for each pending command: its Output and Mark
    cdef readonly int64_t pending_commands
    cdef Buffer _expire             # what ends a SET: "\r\n$2\r\nEX\r\n$3\r\n300\r\n"
    cdef Buffer _events             # the prefix of an event's XADD
    cdef readonly int64_t trades_maxlen
    cdef readonly int64_t events_maxlen
    cdef readonly int64_t expire_s

    cdef Slot *_slot(self, const Instrument *instrument) noexcept nogil
    cdef Status _append(self, uint8_t kind, const char *prefix, size_t prefix_size, const char *data, size_t size,
                        bint expires) noexcept nogil
    cdef char *_put_del(self, char *out, const Instrument *instrument) noexcept nogil
    cdef void _fill(self, Slot *slot, const Instrument *instrument) noexcept nogil
    cdef Status _command(self, Slot *slot, uint8_t kind, Prefix prefix, const char *data, size_t size,
                         bint expires) noexcept nogil
    cdef Status _set_and_publish(self, Slot *slot, Output output, Prefix setting, Prefix publishing,
                                 const char *data, size_t size) noexcept nogil
