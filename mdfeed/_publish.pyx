"""Hands out what happened: to the outboxes in C, and as events to whoever logs and counts.

An outbox decides what bytes it makes of a thing; a Publisher only knows that it happened.
"""

import json
from collections import deque
from typing import NamedTuple

from libc.stdint cimport INT64_MAX
from libc.stdlib cimport calloc, free

from mdfeed._encode cimport Outbox

EVENTS_KEPT = 10_000

STATES = ("COLD", "SYNCING", "LIVE", "PROVED", "STALE", "SUSPECT")


class Event(NamedTuple):
    """Something worth a log line: `kind` is a token such as "gap", `detail` plain values."""

    at_ns: int
    symbol: str
    kind: str
    detail: dict


cdef class Publisher:
    """The outboxes of a feed, and its events."""

    def __cinit__(self, outboxes, int32_t depth):
        self.outboxes = list(outboxes)
        self.depth = depth
        self.events = deque(maxlen=EVENTS_KEPT)
        self.seqs = {}
        self.line_names = {}
        self._bids = <Level *>calloc(<size_t>depth + 1, sizeof(Level))
        self._asks = <Level *>calloc(<size_t>depth + 1, sizeof(Level))
        if self._bids == NULL or self._asks == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._bids)
        free(self._asks)

    cdef void book(self, Quote *quote, Book book) noexcept:
        cdef Outbox outbox
        quote.n_bids = book.depth(0, self.depth, True, self._bids)
        quote.n_asks = book.depth(1, self.depth, True, self._asks)
        quote.bids = self._bids
        quote.asks = self._asks
        quote.verified_bids = book.count_verified(0, INT64_MAX)
        quote.verified_asks = book.count_verified(1, INT64_MAX)
        for outbox in self.outboxes:
            if outbox.on_book(quote) != OK:
                self.failures += 1

    cdef bint trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event, int64_t recv_ns) noexcept:
        cdef Outbox outbox
        cdef Status status
        cdef bint is_said = True
        for outbox in self.outboxes:
            status = outbox.on_trade(instrument, trade, ts_event, recv_ns)
            if status == IGNORED:
                is_said = False
            elif status != OK:
                self.failures += 1
        return is_said

    cdef void bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                  int64_t recv_ns) noexcept:
        cdef Outbox outbox
        for outbox in self.outboxes:
            if outbox.on_bbo(instrument, bbo, seq, ts_event, recv_ns) != OK:
                self.failures += 1

    cdef void state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                    int64_t last_id, int64_t now_ns) noexcept:
        cdef Outbox outbox
        for outbox in self.outboxes:
            if outbox.on_state(instrument, state, reason, since_ns, last_id, now_ns) != OK:
                self.failures += 1

    cdef void withdraw(self, const Instrument *instrument) noexcept:
        cdef Outbox outbox
        for outbox in self.outboxes:
            if outbox.on_withdraw(instrument) != OK:
                self.failures += 1

    def opened(self, int32_t line, str name, streams, int64_t now_ns):
        """A connection of a line is subscribed to so many streams."""
        self.line_names[line] = name
        self.event(now_ns, "", "connect", line=name, streams=len(streams))

    def lost(self, int32_t line, str reason, int64_t now_ns):
        """A connection is gone. Its line's name, None when there is no such connection."""
        name = self.line_names.pop(line, None)
        if name is not None:
            self.event(now_ns, "", "disconnect", line=name, reason=reason)
        return name

    def event(self, at_ns, symbol, kind, **detail):
        """Record an event: kept for the log, and sent to the outboxes as one JSON object."""
        cdef Outbox outbox
        cdef bytes text = json.dumps(
            {"ts": at_ns, "symbol": symbol, "kind": kind, **detail}, separators=(",", ":")
        ).encode()
        self.events.append(Event(at_ns, symbol, kind, detail))
        for outbox in self.outboxes:
            if outbox.on_event(text, len(text)) != OK:
                self.failures += 1
