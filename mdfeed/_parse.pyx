# distutils: language = c++
"""JSON bytes to C values.

Answers for: which of the listed things a frame is at the level of JSON, its short keys, its [price, quantity] rows as
integers scaled by the instrument's digits, and the table of instruments. Refuses to know: any venue's schema (that
is venues/), sockets, clocks, files.

Every input decodes, is ignored for a reason in `WHY`, or is bad for a reason in `WHY`; nothing else.
"""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from mdfeed.errors import DecodeError

cdef extern from "_ondemand.hpp" nogil:
    void *scanner_new "mdfeed_scanner_new" (
        void *table,
        int32_t (*resolve)(void *, const char *, Py_ssize_t) noexcept nogil,
        int32_t (*digits_of)(void *, int32_t, int8_t *, int8_t *) noexcept nogil)
    void scanner_free "mdfeed_scanner_free" (void *scanner)
    void scanner_scan "mdfeed_scan" (void *scanner, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                                     int32_t instrument, Record *record)
    int SCANNER_NO_MEMORY "mdfeed::NO_MEMORY"

# Index = enum Kind.
KIND = ("", "depthUpdate", "partialDepth", "snapshot", "bookTicker", "aggTrade", "trade", "24hrTicker",
        "markPriceUpdate", "forceOrder", "reply", "serverShutdown", "other")
# Index = enum Why; the unused numbers are "".
WHY = ("", "reply", "unknown_event", "unknown_symbol", "other_product", "", "", "",
       "empty", "not_json", "cut", "missing_field", "wrong_type", "bad_number", "overflow", "too_long")

# Longest symbol in bytes: Instrument.symbol keeps a NUL behind it.
cdef enum:
    SYMBOL_BYTES = 39
MAX_SYMBOL_BYTES = SYMBOL_BYTES


cdef inline char _upper(char c) noexcept nogil:
    return c - 32 if c'a' <= c <= c'z' else c


cdef uint32_t _hash(const char *symbol, Py_ssize_t size) noexcept nogil:
    # Eight bytes at a time, blind to case; at most MAX_SYMBOL_BYTES.
    cdef uint64_t words[5]
    cdef uint64_t h = <uint64_t>size
    cdef Py_ssize_t i
    memset(words, 0, sizeof(words))
    memcpy(words, symbol, size)
    for i in range((size + 7) >> 3):
        h = (h ^ (words[i] & 0xdfdfdfdfdfdfdfdfu)) * 0x9e3779b97f4a7c15u
        h ^= h >> 32
    return <uint32_t>h


cdef bint _is_name(const Instrument *item, const char *symbol, Py_ssize_t size, bint fold_case) noexcept nogil:
    cdef Py_ssize_t i
    if item.symbol_len != size:
        return False
    if memcmp(item.symbol, symbol, size) == 0:
        return True
    if not fold_case:
        return False
    for i in range(size):
        if _upper(item.symbol[i]) != _upper(symbol[i]):
            return False
    return True


cdef int32_t _entry(const Table *table, const char *symbol, Py_ssize_t size) noexcept nogil:
    # Index of the entry of that name, active or not, or -1.
    cdef uint32_t slot
    cdef int32_t index
    if size <= 0 or size > SYMBOL_BYTES or table.count == 0:
        return -1
    slot = _hash(symbol, size) & table.mask
    while True:
        index = table.slots[slot]
        if index < 0 or _is_name(table.items[index], symbol, size, table.fold_case):
            return index
        slot = (slot + 1) & table.mask


cdef int32_t _resolve(void *table, const char *symbol, Py_ssize_t size) noexcept nogil:
    cdef int32_t index = _entry(<Table *>table, symbol, size)
    return index if index >= 0 and (<Table *>table).items[index].is_active else -1


cdef int32_t _digits_of(void *table, int32_t index, int8_t *price_digits, int8_t *qty_digits) noexcept nogil:
    if not 0 <= index < (<Table *>table).count:
        return -1
    price_digits[0] = (<Table *>table).items[index].price_digits
    qty_digits[0] = (<Table *>table).items[index].qty_digits
    return index


cdef class Instruments:
    """The markets that a decoder knows: symbol <-> index, and each one's decimal digits.

    Indices count from 0 in the order of `add` and never change; `len` is the number of entries ever added. A removed
    symbol keeps its index, and frames of it are ignored as unknown. With `fold_case` (the default) "btcusdt" finds
    "BTCUSDT".
    """

    def __cinit__(self, bint fold_case=True):
        cdef int32_t i
        self.count = 0
        self._table = <Table *>calloc(1, sizeof(Table))
        if self._table == NULL:
            raise MemoryError
        self._table.fold_case = fold_case
        self._table.slots = <int32_t *>malloc(64 * sizeof(int32_t))
        if self._table.slots == NULL:
            raise MemoryError
        self._table.mask = 63
        for i in range(64):
            self._table.slots[i] = -1

    def __dealloc__(self):
        cdef int32_t i
        if self._table != NULL:
            for i in range(self._table.count):
                free(self._table.items[i])
            free(self._table.items)
            free(self._table.slots)
            free(self._table)

    def __len__(self):
        return self.count

    cdef int32_t find(self, const char *symbol, Py_ssize_t size) noexcept nogil:
        return _resolve(self._table, symbol, size)

    cdef Instrument *at(self, int32_t index) noexcept nogil:
        return self._table.items[index] if 0 <= index < self._table.count else NULL

    cdef _grow(self):
        # Twice the slots when half of them are taken, and room for one more item.
        cdef Table *table = self._table
        cdef uint32_t size = table.mask + 1, slot
        cdef int32_t i, wanted
        cdef void *moved
        if table.count == table.capacity:
            wanted = table.capacity * 2 if table.capacity else 16
            moved = realloc(table.items, wanted * sizeof(Instrument *))
            if moved == NULL:
                raise MemoryError
            table.items = <Instrument **>moved
            table.capacity = wanted
        if <uint32_t>table.count * 2 < size:
            return
        moved = malloc(size * 2 * sizeof(int32_t))
        if moved == NULL:
            raise MemoryError
        free(table.slots)
        table.slots = <int32_t *>moved
        table.mask = size * 2 - 1
        for i in range(<int32_t>(size * 2)):
            table.slots[i] = -1
        for i in range(table.count):
            slot = _hash(table.items[i].symbol, table.items[i].symbol_len) & table.mask
            while table.slots[slot] >= 0:
                slot = (slot + 1) & table.mask
            table.slots[slot] = i

    def add(self, str symbol, int price_digits=0, int qty_digits=0):
        """Index of the symbol, which is active from now on. Digits (0 to 18) of a known one only grow."""
        cdef bytes name = symbol.encode()
        cdef int32_t index
        cdef uint32_t slot
        cdef Instrument *item
        if not 0 < len(name) <= MAX_SYMBOL_BYTES:
            raise ValueError(f"a symbol has 1 to {MAX_SYMBOL_BYTES} bytes: {symbol!r}")
        _check_digits(price_digits, qty_digits)
        index = _entry(self._table, name, len(name))
        if index < 0:
            self._grow()
            item = <Instrument *>calloc(1, sizeof(Instrument))
            if item == NULL:
                raise MemoryError
            index = self._table.count
            memcpy(item.symbol, <const char *>name, len(name))
            item.symbol_len = <int32_t>len(name)
            item.index = index
            self._table.items[index] = item
            slot = _hash(name, len(name)) & self._table.mask
            while self._table.slots[slot] >= 0:
                slot = (slot + 1) & self._table.mask
            self._table.slots[slot] = index
            self._table.count += 1
            self.count = self._table.count
        self._table.items[index].is_active = True
        self.set_digits(index, price_digits, qty_digits)
        return index

    def remove(self, str symbol):
        """Deactivates: frames of it are ignored as unknown from now on. KeyError when it isn't active."""
        cdef int32_t index = self.index(symbol)
        if index < 0:
            raise KeyError(symbol)
        self._table.items[index].is_active = False

    def index(self, str symbol):
        """Index of the active instrument of that name, or -1."""
        cdef bytes name = symbol.encode(errors="replace")
        return self.find(name, len(name))

    cdef Instrument *_checked(self, int32_t index) except NULL:
        if not 0 <= index < self._table.count:
            raise IndexError(index)
        return self._table.items[index]

    def symbol(self, int32_t index):
        cdef Instrument *item = self._checked(index)
        return item.symbol[:item.symbol_len].decode()

    def digits(self, int32_t index):
        """(price_digits, qty_digits)."""
        cdef Instrument *item = self._checked(index)
        return item.price_digits, item.qty_digits

    def set_digits(self, int32_t index, int price_digits, int qty_digits):
        """Raises the digits; smaller ones are not taken. Books of the instrument must be re-scaled with it."""
        cdef Instrument *item = self._checked(index)
        _check_digits(price_digits, qty_digits)
        item.price_digits = max(item.price_digits, price_digits)
        item.qty_digits = max(item.qty_digits, qty_digits)


cdef _check_digits(int price_digits, int qty_digits):
    if not (0 <= price_digits <= MAX_DIGITS and 0 <= qty_digits <= MAX_DIGITS):
        raise ValueError(f"digits are 0 to {MAX_DIGITS}: {price_digits}, {qty_digits}")


cdef class Parser:
    """One pass of simdjson On-Demand over a frame; made and read by the venues' decoders only."""

    def __cinit__(self, Instruments instruments not None):
        self._instruments = instruments
        memset(&self.record, 0, sizeof(Record))
        self._scanner = scanner_new(instruments._table, _resolve, _digits_of)
        if self._scanner == NULL:
            raise MemoryError

    def __dealloc__(self):
        scanner_free(self._scanner)

    cdef Status scan(self, int32_t instrument, const char *data, Py_ssize_t size, Py_ssize_t capacity) noexcept nogil:
        scanner_scan(self._scanner, data, size, capacity, instrument, &self.record)
        if self.record.why == W_NONE:
            return OK
        return NO_MEMORY if self.record.why == SCANNER_NO_MEMORY else BAD


def decimal_text(value: int, digits: int) -> str:
    """Plain decimal without trailing zeros and without exponent: (6180020, 2) -> "61800.2"."""
    whole, fraction = divmod(abs(value), 10**digits)
    text = f"{whole}.{fraction:0{digits}d}".rstrip("0").rstrip(".") if fraction else str(whole)
    return f"-{text}" if value < 0 else text


cdef list _rows(const Level *levels, int32_t count, int price_digits, int qty_digits):
    return [(decimal_text(levels[i].price, price_digits), decimal_text(levels[i].qty, qty_digits))
            for i in range(count)]


cdef class Decoder:
    """Base of the venues' decoders: one frame at a time, C to C. What Python sees is for tests and inspect."""

    def __init__(self, Instruments instruments not None):
        self.instruments = instruments

    cdef Status decode(self, const char *data, Py_ssize_t size, Py_ssize_t capacity, Message *out) noexcept nogil:
        memset(out, 0, sizeof(Message))
        out.kind = K_OTHER
        out.why = W_UNKNOWN_EVENT
        out.instrument = -1
        return IGNORED

    cdef Status decode_snapshot(self, int32_t instrument, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                                Message *out) noexcept nogil:
        return self.decode(data, size, capacity, out)

    def decode_frame(self, bytes frame not None, size=None):
        """A plain description of one WebSocket frame: decimals as str, times in ns.

        {"kind": "ignored", "why": ..., "event": ...} for what is legal but not for us; DecodeError for what is not
        what the venue documents. Digits of the instrument grow by themselves. With `size` the frame is the first so
        many bytes; what follows may be anything (a frame inside a socket's buffer, read where it is).
        """
        if size is not None and not 0 <= size <= len(frame):
            raise ValueError(f"size is 0 to {len(frame)}: {size}")
        return self._describe(frame, len(frame) if size is None else size, False, -1)

    def decode_body(self, bytes body not None, str symbol=None):
        """The same for a REST depth body, of the symbol that it names, else of `symbol`."""
        return self._describe(body, len(body), True, -1 if symbol is None else self.instruments.index(symbol))

    cdef dict _describe(self, bytes frame, Py_ssize_t size, bint is_snapshot, int32_t instrument):
        cdef Message message
        cdef Status status = NEEDS_DIGITS
        cdef int tries = 0
        # Two digits can grow one after the other, and a frame never asks for the same ones twice.
        while status == NEEDS_DIGITS and tries < 4:
            if is_snapshot:
                status = self.decode_snapshot(instrument, frame, size, len(frame), &message)
            else:
                status = self.decode(frame, size, len(frame), &message)
            if status == NEEDS_DIGITS:
                self.instruments.set_digits(message.instrument, message.price_digits, message.qty_digits)
            tries += 1
        if status == NO_MEMORY:
            raise MemoryError
        if status == IGNORED:
            return {"kind": "ignored", "why": WHY[message.why], "event": KIND[message.kind]}
        if status != OK:
            raise DecodeError(WHY[message.why], frame[:min(size, 80)])
        found = {"kind": KIND[message.kind], "symbol": None, "ts_event": message.ts_event}
        if message.instrument >= 0:
            found["symbol"] = self.instruments.symbol(message.instrument)
            _add_figures(found, &message, self.instruments.at(message.instrument))
        return found


cdef _add_figures(dict found, const Message *message, const Instrument *instrument):
    cdef int p = instrument.price_digits, q = instrument.qty_digits
    cdef const Update *update = &message.update
    cdef const Ticker *ticker = &message.ticker
    cdef const Top *top = &message.bbo.top
    if message.kind in (K_DIFF, K_PARTIAL, K_SNAPSHOT):
        found.update(first_id=update.first_id, prev_id=update.prev_id, last_id=update.last_id,
                     bids=_rows(update.bids, update.n_bids, p, q), asks=_rows(update.asks, update.n_asks, p, q))
    elif message.kind == K_BBO:
        found.update(update_id=message.bbo.update_id,
                     bid=(decimal_text(top.bid_price, p), decimal_text(top.bid_qty, q)),
                     ask=(decimal_text(top.ask_price, p), decimal_text(top.ask_qty, q)))
    elif message.kind in (K_AGG_TRADE, K_TRADE):
        found.update(trade_id=message.trade.trade_id, price=decimal_text(message.trade.price, p),
                     qty=decimal_text(message.trade.qty, q), is_buyer_maker=bool(message.trade.is_buyer_maker),
                     is_market=bool(message.trade.is_market))
    elif message.kind == K_TICKER:
        found.update(open_ts=ticker.open_ts, close_ts=ticker.close_ts, trade_count=ticker.trade_count,
                     last_price=decimal_text(ticker.last_price, p), open_price=decimal_text(ticker.open_price, p),
                     high_price=decimal_text(ticker.high_price, p), low_price=decimal_text(ticker.low_price, p),
                     volume=decimal_text(ticker.volume, q),
                     quote_volume=None if ticker.quote_digits < 0
                     else decimal_text(ticker.quote_volume, ticker.quote_digits))
