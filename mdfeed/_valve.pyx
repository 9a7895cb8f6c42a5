"""An outbox in front of another: what concerns a symbol passes as long as its lease lasts, and not a moment longer.

Answers for: never letting a publication through that was received after the lease's end, even when the whole process
slept meanwhile (the times are the heart's own). Refuses to know: how leases are had (lease.py), clocks.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from mdfeed._types cimport *

from mdfeed._encode cimport (
    O_BBO,
    O_BOOK,
    O_EVENTS,
    O_MARKET_DATA,
    O_ORDERBOOK,
    O_STATE,
    O_TRADES,
    O_TRADES_STREAM,
    O_WITHDRAW,
    Outbox,
)


cdef struct Gate:
    int64_t until_ns        # 0: shut
    bint was_open           # since the symbol was added
    bint has_lapsed         # something came after its time and before it was opened anew
    bint lets_trades        # what was published last is known, and nothing was kept back since
    uint64_t books          # that nobody ever heard of, for it had not been open yet: not counted in seq
    uint64_t bbos


cdef class Valve(Outbox):
    """In front of `outbox`. Everything is shut until `open` says otherwise, events too until something is open.

    What is said of a symbol before its first lease takes no number of its sequence: its consumers have lost nothing.

    `owes_trades`: trades that were kept back, or that the outbox did not take, are given again by the heart. So none
    passes from then on until `let_trades`, which comes once it is known where the publications have ended.
    """

    cdef readonly Outbox outbox
    cdef readonly int64_t held_back     # things that were not let through
    cdef Gate *_gates                   # by instrument's index
    cdef int32_t _capacity
    cdef int32_t _open                  # how many are open
    cdef int64_t _now_ns                # the latest time that was heard of
    cdef readonly bint owes_trades

    def __init__(self, Outbox outbox not None, *, bint owes_trades=False):
        self.outbox = outbox
        self.owes_trades = owes_trades

    def __dealloc__(self):
        free(self._gates)

    def open(self, int32_t index, int64_t until_ns):
        """Let a symbol through until then (UTC ns). False when it was open all the time, and nothing was kept back.

        MemoryError when there is no room to remember it.
        """
        cdef bint is_news
        if index < 0 or until_ns <= 0:
            raise ValueError("an index and a time are positive")
        if not self._reaches(index):
            raise MemoryError
        is_news = self._gates[index].until_ns == 0
        self._open += is_news
        is_news |= self._gates[index].has_lapsed
        self._gates[index].until_ns = until_ns
        self._gates[index].was_open = True
        self._gates[index].has_lapsed = False
        return is_news

    def let_trades(self, int32_t index):
        """Let its trades through too. False when the symbol is shut."""
        if not self.is_open(index):
            return False
        self._gates[index].lets_trades = True
        return True

    cdef bint _reaches(self, int32_t index) noexcept nogil:
        cdef Gate *grown
        if index < self._capacity:
            return True
        grown = <Gate *>realloc(self._gates, <size_t>(index + 64) * sizeof(Gate))
        if grown == NULL:
            return False
        memset(grown + self._capacity, 0, <size_t>(index + 64 - self._capacity) * sizeof(Gate))
        self._gates = grown
        self._capacity = index + 64
        return True

    def begin(self, int32_t index):
        """A symbol was added (again): it is shut, and has not been open yet."""
        self.shut(index)
        if 0 <= index < self._capacity:
            self._gates[index].was_open = False

    def shut(self, int32_t index):
        """Nothing of a symbol passes any more."""
        if 0 <= index < self._capacity and self._gates[index].until_ns:
            self._gates[index].until_ns = 0
            self._gates[index].lets_trades = False
            self._open -= 1

    def shut_all(self):
        """Nothing passes any more."""
        cdef int32_t i
        for i in range(self._capacity):
            self._gates[i].until_ns = 0
            self._gates[i].lets_trades = False
        self._open = 0

    def is_open(self, int32_t index):
        return 0 <= index < self._capacity and self._gates[index].until_ns != 0

    cdef bint _lets(self, const Instrument *instrument, int64_t at_ns) noexcept nogil:
        self._now_ns = max(self._now_ns, at_ns)
        if instrument.index < self._capacity and at_ns < self._gates[instrument.index].until_ns:
            return True
        if instrument.index < self._capacity and self._gates[instrument.index].until_ns:
            self._gates[instrument.index].has_lapsed = True
        self.held_back += 1
        return False

    cdef Status on_book(self, const Quote *quote) noexcept nogil:
        cdef int32_t index = quote.instrument.index
        cdef Quote said
        if self._lets(quote.instrument, quote.now_ns):
            if self._gates[index].books == 0:
                return self.outbox.on_book(quote)
            said = quote[0]
            said.seq -= self._gates[index].books
            return self.outbox.on_book(&said)
        if self._reaches(index) and not self._gates[index].was_open:
            self._gates[index].books += 1
        self.outbox.withhold(O_MARKET_DATA)
        self.outbox.withhold(O_ORDERBOOK)
        self.outbox.withhold(O_BOOK)
        return OK

    cdef Status on_trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                         int64_t recv_ns) noexcept nogil:
        cdef bint lets = self._lets(instrument, recv_ns)
        if not self.owes_trades:
            if lets:
                return self.outbox.on_trade(instrument, trade, ts_event, recv_ns)
        elif instrument.index < self._capacity:
            if lets and self._gates[instrument.index].lets_trades and self.outbox.takes():
                return self.outbox.on_trade(instrument, trade, ts_event, recv_ns)
            self._gates[instrument.index].lets_trades = False
        if self.outbox.takes():
            self.outbox.withhold(O_TRADES)
            self.outbox.withhold(O_TRADES_STREAM)
        else:
            self.outbox.on_trade(instrument, trade, ts_event, recv_ns)      # dropped, under its own reason
        return IGNORED if self.owes_trades else OK

    cdef Status on_bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                       int64_t recv_ns) noexcept nogil:
        cdef int32_t index = instrument.index
        # What is said again may be older than the lease.
        if self._lets(instrument, max(recv_ns, self._now_ns)):
            return self.outbox.on_bbo(instrument, bbo, seq - self._gates[index].bbos, ts_event, recv_ns)
        if self._reaches(index) and not self._gates[index].was_open:
            self._gates[index].bbos += 1
        self.outbox.withhold(O_BBO)
        return OK

    cdef Status on_state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                         int64_t last_id, int64_t now_ns) noexcept nogil:
        if self._lets(instrument, now_ns):
            return self.outbox.on_state(instrument, state, reason, since_ns, last_id, now_ns)
        self.outbox.withhold(O_STATE)
        return OK

    cdef Status on_withdraw(self, const Instrument *instrument) noexcept nogil:
        if self._lets(instrument, self._now_ns):
            return self.outbox.on_withdraw(instrument)
        self.outbox.withhold(O_WITHDRAW)
        return OK

    cdef Status on_event(self, const char *text, Py_ssize_t size) noexcept nogil:
        if self._open:
            return self.outbox.on_event(text, size)
        self.held_back += 1
        self.outbox.withhold(O_EVENTS)
        return OK
