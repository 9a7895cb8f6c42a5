# What leaves the heart: each thing that happened goes to every outbox. No state of its own but counters.

from mdfeed._book cimport Book
from mdfeed._types cimport *


cdef class Publisher:
    cdef readonly list outboxes
    cdef readonly int32_t depth
    cdef readonly dict seqs                 # symbol -> (seq, bbo_seq) of those that are not followed any more
    cdef readonly object events             # deque of Event, oldest first; the world takes them
    cdef readonly dict line_names           # number -> name of the connections there are
    cdef readonly int64_t failures          # publications that an outbox had no memory for
    cdef Level *_bids
    cdef Level *_asks

    # Fills the quote's levels from the book, then hands it out. The caller has filled the rest.
    cdef void book(self, Quote *quote, Book book) noexcept
    # False: an outbox keeps it back, and wants it again later.
    cdef bint trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event, int64_t recv_ns) noexcept
    cdef void bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                  int64_t recv_ns) noexcept
    cdef void state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                    int64_t last_id, int64_t now_ns) noexcept
    cdef void withdraw(self, const Instrument *instrument) noexcept
