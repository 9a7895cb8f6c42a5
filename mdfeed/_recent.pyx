"""What was said last of each symbol: its newest trades and its 24 h figures, kept for whoever asks over HTTP.

Answers for: an outbox that copies, in C, and forgets all but the newest. Refuses to know: who asks, JSON, clocks.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from mdfeed._text cimport int_of_wide
from mdfeed._types cimport *

from mdfeed._encode cimport Outbox

from mdfeed._text import decimal_text

cdef enum:
    KEPT = 100      # trades of a symbol


cdef struct Print:
    Trade trade
    int64_t ts_event
    int64_t recv_ns
    int8_t price_digits     # the instrument's when it was taken: they may grow
    int8_t qty_digits


cdef struct Memory:
    Print prints[KEPT]      # a ring; `count` prints were ever put into it
    int64_t count
    Day day
    int8_t price_digits
    int8_t qty_digits
    int64_t last_price
    bint has_last


cdef class Recent(Outbox):
    """Attach it to a Feed. Symbols are asked for by their index in the feed's Instruments."""

    cdef Memory **_memories     # by instrument's index; NULL until something was said of it
    cdef int32_t _capacity

    def __dealloc__(self):
        cdef int32_t i
        for i in range(self._capacity):
            free(self._memories[i])
        free(self._memories)

    cdef Memory *_memory(self, const Instrument *instrument) noexcept nogil:
        """The memory of an instrument, made when it is first heard of; NULL without memory."""
        cdef int32_t index = instrument.index
        cdef Memory **grown
        if index >= self._capacity:
            grown = <Memory **>realloc(self._memories, <size_t>(index + 64) * sizeof(Memory *))
            if grown == NULL:
                return NULL
            memset(grown + self._capacity, 0, <size_t>(index + 64 - self._capacity) * sizeof(Memory *))
            self._memories = grown
            self._capacity = index + 64
        if self._memories[index] == NULL:
            self._memories[index] = <Memory *>calloc(1, sizeof(Memory))
        return self._memories[index]

    cdef Status on_book(self, const Quote *quote) noexcept nogil:
        cdef Memory *memory = self._memory(quote.instrument)
        if memory == NULL:
            return NO_MEMORY
        memory.day = quote.day
        memory.price_digits = quote.instrument.price_digits
        memory.qty_digits = quote.instrument.qty_digits
        memory.last_price = quote.last_price
        memory.has_last = quote.has_last
        return OK

    cdef Status on_trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                         int64_t recv_ns) noexcept nogil:
        cdef Memory *memory = self._memory(instrument)
        cdef Print *entry
        if memory == NULL:
            return NO_MEMORY
        entry = &memory.prints[memory.count % KEPT]
        memory.count += 1
        entry.trade = trade[0]
        entry.ts_event = ts_event
        entry.recv_ns = recv_ns
        entry.price_digits = instrument.price_digits
        entry.qty_digits = instrument.qty_digits
        return OK

    cdef Memory *_of(self, int32_t index) noexcept nogil:
        return self._memories[index] if 0 <= index < self._capacity else NULL

    def trades(self, int32_t index, int64_t most=KEPT):
        """The newest trades of a symbol, `most` at most, newest first: `mdfeed:trades`' fields, decimals as text."""
        cdef Memory *memory = self._of(index)
        cdef Print *entry
        cdef int64_t i
        found = []
        if memory == NULL:
            return found
        for i in range(memory.count - 1, max(memory.count - min(most, KEPT), 0) - 1, -1):
            entry = &memory.prints[i % KEPT]
            found.append({
                "trade_id": entry.trade.trade_id,
                "price": decimal_text(entry.trade.price, entry.price_digits),
                "qty": decimal_text(entry.trade.qty, entry.qty_digits),
                "is_buyer_maker": bool(entry.trade.is_buyer_maker),
                "ts_event": entry.ts_event,
                "recv_ns": entry.recv_ns,
            })
        return found

    def figures(self, int32_t index):
        """Last price and 24 h figures with a symbol's newest book, as exact text; None while unknown."""
        cdef Memory *memory = self._of(index)
        cdef Day *day
        names = ("last_price", "open_24h", "high_24h", "low_24h", "volume_24h", "quote_volume_24h", "trade_count_24h")
        found = dict.fromkeys(names)
        if memory == NULL:
            return found
        if memory.has_last:
            found["last_price"] = decimal_text(memory.last_price, memory.price_digits)
        day = &memory.day
        if day.is_known:
            for name, price in (("open", day.open_price), ("high", day.high_price), ("low", day.low_price)):
                found[name + "_24h"] = decimal_text(price, memory.price_digits)
            found["volume_24h"] = decimal_text(int_of_wide(day.volume), memory.qty_digits)
            found["quote_volume_24h"] = decimal_text(
                int_of_wide(day.quote_volume), memory.price_digits + memory.qty_digits
            )
            found["trade_count_24h"] = day.trade_count
        return found
