"""Binance's wire schema, for the three products of the family.

Answers for: which event a frame is, its ids as (prev_id, last_id), its numbers. Refuses to know: URLs, routes, limits
(binance.py), and whether an update fits the book (the heart).

Read from the venue's documentation as of September 2026, and from captures of 2021 to 2024. The products differ in ids
only: Spot has no `pu`, its bookTicker no `e`, `E`, `T`, and its partial depth is shaped like the REST body.
markPriceUpdate and forceOrder say kind, symbol and time only: nothing reads their figures, whose digits are not
the instrument's.
"""

from mdfeed._types cimport *
from mdfeed._parse cimport (
    F_CODE, F_DATA, F_ERROR, F_LAST_UPDATE_ID, F_MSG, F_PU, F_RESULT, F_ST, F_STREAM, FINE, LONG_FRACTION,
    T_FALSE, T_NUMBER, T_STRING, T_TRUE, TOO_LARGE,
    Decoder, Instruments, Parser, Record, Text, decimal_of, has, integer_of, is_plain, text_is,
)
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.string cimport memchr, memcmp

PRODUCTS = ("usdm", "coinm", "spot")

cdef enum:
    USDM = 0
    COINM = 1
    SPOT = 2

# Slots of the single letters (see _record.h).
cdef enum:
    UP_A = 0
    UP_B = 1
    UP_C = 2
    UP_E = 4
    UP_O = 14
    UP_T = 19
    UP_U = 20
    UP_X = 23
    LOW_A = 32
    LOW_B = 33
    LOW_C = 34
    LOW_E = 36
    LOW_F = 37
    LOW_H = 39
    LOW_L = 43
    LOW_M = 44
    LOW_N = 45
    LOW_O = 46
    LOW_P = 47
    LOW_Q = 48
    LOW_S = 50
    LOW_T = 51
    LOW_U = 52
    LOW_V = 53

# 2262-04-11, the last ms and us that fit int64 nanoseconds.
cdef int64_t MAX_MS = 9223372036854
cdef int64_t MAX_US = 9223372036854775


cdef inline Why _why_of(int code) noexcept nogil:
    if code == FINE or code == LONG_FRACTION:
        return W_NONE
    return W_OVERFLOW if code == TOO_LARGE else W_BAD_NUMBER


cdef inline Why _number(const Record *record, int slot) noexcept nogil:
    # W_NONE when the field is there and may hold a number: the venue sends ids bare and decimals as strings, and
    # both are taken both ways.
    cdef int32_t type
    if not has(record, slot):
        return W_MISSING_FIELD
    type = record.fields[slot].type
    if type != T_STRING and type != T_NUMBER:
        return W_WRONG_TYPE
    return W_NONE if is_plain(&record.fields[slot]) else W_BAD_NUMBER


cdef Why _read_id(const Record *record, int slot, int64_t *out) noexcept nogil:
    cdef Why why = _number(record, slot)
    return why if why != W_NONE else _why_of(integer_of(record.fields[slot].text, record.fields[slot].size, out))


cdef Why _read_time(const Record *record, int slot, int64_t *out) noexcept nogil:
    # Venue ms -> ns. What is no ms before 2262 is us: Spot gives these on request (timeUnit=MICROSECOND).
    cdef Why why = _read_id(record, slot, out)
    if why != W_NONE:
        return why
    if out[0] > MAX_US:
        return W_OVERFLOW
    out[0] *= 1000000 if out[0] <= MAX_MS else 1000
    return W_NONE


cdef Why _read_event_time(const Record *record, int64_t *out) noexcept nogil:
    if has(record, UP_E):
        return _read_time(record, UP_E, out)
    if has(record, UP_T):
        return _read_time(record, UP_T, out)
    out[0] = 0
    return W_NONE


cdef Why _read_decimal(const Record *record, int slot, int digits, int64_t *out, int8_t *need) noexcept nogil:
    cdef Why why = _number(record, slot)
    if why != W_NONE:
        return why
    return _why_of(decimal_of(record.fields[slot].text, record.fields[slot].size, digits, out, need))


cdef bint _is_event(const Record *record, const char *name) noexcept nogil:
    return text_is(&record.fields[LOW_E], name)


cdef Kind _depth_kind(const Record *record) noexcept nogil:
    # Only the stream's name tells a partial depth from a diff; a depthUpdate of another channel (rpiDepth) has
    # levels that the book doesn't.
    cdef const Text *stream
    cdef const char *at
    cdef const char *end
    if not has(record, F_STREAM):
        return K_DIFF
    stream = &record.fields[F_STREAM]
    at = <const char *>memchr(stream.text, c'@', stream.size)
    end = stream.text + stream.size
    if at == NULL or end - at < 6 or memcmp(at, b"@depth", 6) != 0:
        return K_OTHER
    at += 6
    if at == end or at[0] == c'@':
        return K_DIFF
    while at < end and c'0' <= at[0] <= c'9':
        at += 1
    return K_PARTIAL if at == end or at[0] == c'@' else K_OTHER


cdef Kind _kind_of(const Record *record) noexcept nogil:
    if has(record, LOW_E):
        if _is_event(record, b"depthUpdate"):
            return _depth_kind(record)
        if _is_event(record, b"bookTicker"):
            return K_BBO
        if _is_event(record, b"aggTrade"):
            return K_AGG_TRADE
        if _is_event(record, b"trade"):
            return K_TRADE
        if _is_event(record, b"24hrTicker"):
            return K_TICKER
        if _is_event(record, b"markPriceUpdate"):
            return K_MARK_PRICE
        if _is_event(record, b"forceOrder"):
            return K_LIQUIDATION
        if _is_event(record, b"serverShutdown"):
            return K_SHUTDOWN
        return K_OTHER
    if not has(record, F_STREAM) and not has(record, F_DATA) and (
            has(record, F_RESULT) or has(record, F_ERROR) or (has(record, F_CODE) and has(record, F_MSG))):
        return K_REPLY
    if has(record, F_LAST_UPDATE_ID) and record.has_side[0] and record.has_side[1]:
        return K_PARTIAL
    if has(record, LOW_U) and has(record, UP_B) and has(record, UP_A):
        return K_BBO
    return K_OTHER


cdef class BinanceDecoder(Decoder):
    """Decodes frames and REST depth bodies of one product: "usdm", "coinm" or "spot"."""

    cdef Parser _parser
    cdef int _product

    def __init__(self, Instruments instruments not None, str product not None):
        super().__init__(instruments)
        self._parser = Parser(instruments)
        self._product = PRODUCTS.index(product)

    cdef Status decode(self, const char *data, Py_ssize_t size, Py_ssize_t capacity, Message *out) noexcept nogil:
        cdef Record *record = &self._parser.record
        cdef Status status = self._start(-1, data, size, capacity, out)
        if status != OK:
            return status
        if record.is_list:
            return self._ignore(out, K_OTHER, W_UNKNOWN_EVENT)
        if has(record, LOW_E) and record.fields[LOW_E].type != T_STRING:
            return self._blame(out, W_WRONG_TYPE)
        out.kind = _kind_of(record)
        if out.kind == K_OTHER:
            return self._ignore(out, K_OTHER, W_UNKNOWN_EVENT)
        if out.kind == K_REPLY:
            return self._ignore(out, K_REPLY, W_REPLY)
        out.why = _read_event_time(record, &out.ts_event)
        if out.why != W_NONE:
            return BAD
        if out.kind == K_SHUTDOWN:
            out.instrument = -1
            return OK
        if self._is_other_product():
            return self._ignore(out, out.kind, W_OTHER_PRODUCT)
        if out.instrument < 0:
            # A bare partial depth of Spot names no symbol; every other event does.
            if record.names_symbol or out.kind == K_PARTIAL:
                return self._ignore(out, out.kind, W_UNKNOWN_SYMBOL)
            return self._blame(out, W_MISSING_FIELD)
        if out.kind == K_DIFF or out.kind == K_PARTIAL:
            out.why = self._read_update(out)
        elif out.kind == K_BBO:
            out.why = self._read_bbo(out)
        elif out.kind == K_AGG_TRADE or out.kind == K_TRADE:
            out.why = self._read_trade(out)
        elif out.kind == K_TICKER:
            out.why = self._read_ticker(out)
        return self._finish(out)

    cdef Status decode_snapshot(self, int32_t instrument, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                                Message *out) noexcept nogil:
        cdef Record *record = &self._parser.record
        cdef Status status = self._start(instrument, data, size, capacity, out)
        if status != OK:
            return status
        out.kind = K_SNAPSHOT
        if record.is_list or not has(record, F_LAST_UPDATE_ID):
            return self._blame(out, W_MISSING_FIELD)
        out.why = _read_event_time(record, &out.ts_event)
        if out.why != W_NONE:
            return BAD
        if out.instrument < 0:
            return self._ignore(out, K_SNAPSHOT, W_UNKNOWN_SYMBOL)
        out.why = self._read_update(out)
        return self._finish(out)

    cdef Status _start(self, int32_t instrument, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                       Message *out) noexcept nogil:
        # Scans, and fills what every message has.
        cdef Instrument *item
        cdef Status status
        out.kind = K_NONE
        out.why = W_NONE
        out.instrument = -1
        out.ts_event = 0
        out.price_digits = 0
        out.qty_digits = 0
        status = self._parser.scan(instrument, data, size, capacity)
        if status != OK:
            out.why = <Why>self._parser.record.why if status == BAD else W_NONE
            return status
        out.instrument = self._parser.record.instrument
        item = self.instruments.at(out.instrument)
        if item == NULL:
            out.instrument = -1
            return OK
        out.price_digits = item.price_digits
        out.qty_digits = item.qty_digits
        return OK

    cdef Status _ignore(self, Message *out, Kind kind, Why why) noexcept nogil:
        out.kind = kind
        out.why = why
        return IGNORED

    cdef Status _blame(self, Message *out, Why why) noexcept nogil:
        out.why = why
        return BAD

    cdef Status _finish(self, Message *out) noexcept nogil:
        cdef Instrument *item = self.instruments.at(out.instrument)
        if out.why != W_NONE:
            return BAD
        return NEEDS_DIGITS if out.price_digits > item.price_digits or out.qty_digits > item.qty_digits else OK

    cdef bint _is_other_product(self) noexcept nogil:
        # Since 2026 the all-market streams mix products: `st` 1 is USD-M. Rows without `st` are older frames.
        cdef Record *record = &self._parser.record
        cdef const Text *st = &record.fields[F_ST]
        if self._product == SPOT or not has(record, F_ST) or not has(record, F_STREAM):
            return False
        if record.fields[F_STREAM].size == 0 or record.fields[F_STREAM].text[0] != c'!':
            return False
        return text_is(st, b"1") != (self._product == USDM)

    cdef Why _read_update(self, Message *out) noexcept nogil:
        cdef Record *record = &self._parser.record
        cdef Update *update = &out.update
        cdef Why why
        if not (record.has_side[0] and record.has_side[1]):
            return W_MISSING_FIELD
        if record.levels_why != W_NONE:
            return <Why>record.levels_why
        if has(record, F_LAST_UPDATE_ID):
            why = _read_id(record, F_LAST_UPDATE_ID, &update.last_id)
            update.first_id = update.last_id
            update.prev_id = update.last_id
        else:
            why = _read_id(record, UP_U, &update.first_id)
            if why == W_NONE:
                why = _read_id(record, LOW_U, &update.last_id)
            if why == W_NONE and self._product == SPOT:
                update.prev_id = update.first_id - 1
            elif why == W_NONE:
                why = _read_id(record, F_PU, &update.prev_id)
        out.price_digits = max(out.price_digits, record.price_digits)
        out.qty_digits = max(out.qty_digits, record.qty_digits)
        update.bids = <const Level *>record.sides[0]
        update.asks = <const Level *>record.sides[1]
        update.n_bids = record.counts[0]
        update.n_asks = record.counts[1]
        return why

    cdef Why _read_price(self, int slot, int64_t *value, Message *out) noexcept nogil:
        return _read_decimal(&self._parser.record, slot, self.instruments.at(out.instrument).price_digits, value,
                             &out.price_digits)

    cdef Why _read_qty(self, int slot, int64_t *value, Message *out) noexcept nogil:
        return _read_decimal(&self._parser.record, slot, self.instruments.at(out.instrument).qty_digits, value,
                             &out.qty_digits)

    cdef Why _read_bbo(self, Message *out) noexcept nogil:
        cdef Why why = _read_id(&self._parser.record, LOW_U, &out.bbo.update_id)
        if why == W_NONE:
            why = self._read_price(LOW_B, &out.bbo.top.bid_price, out)
        if why == W_NONE:
            why = self._read_qty(UP_B, &out.bbo.top.bid_qty, out)
        if why == W_NONE:
            why = self._read_price(LOW_A, &out.bbo.top.ask_price, out)
        if why == W_NONE:
            why = self._read_qty(UP_A, &out.bbo.top.ask_qty, out)
        return why

    cdef Why _read_trade(self, Message *out) noexcept nogil:
        cdef Record *record = &self._parser.record
        cdef Trade *trade = &out.trade
        cdef int64_t first_fill, last_fill
        cdef Why why = _read_id(record, LOW_A if out.kind == K_AGG_TRADE else LOW_T, &trade.trade_id)
        if why == W_NONE:
            why = self._read_price(LOW_P, &trade.price, out)
        if why == W_NONE:
            why = self._read_qty(LOW_Q, &trade.qty, out)
        if why != W_NONE:
            return why
        why = _read_time(record, UP_T, &trade.ts_trade)
        if why != W_NONE:
            return why
        if not has(record, LOW_M):
            return W_MISSING_FIELD
        if record.fields[LOW_M].type != T_TRUE and record.fields[LOW_M].type != T_FALSE:
            return W_WRONG_TYPE
        trade.is_buyer_maker = record.fields[LOW_M].type == T_TRUE
        # Futures `trade` names the order's kind: INSURANCE_FUND, ADL, NA are no market trades.
        # An aggregate trade's ids of its first and last match.
        trade.fills = 1
        if out.kind == K_AGG_TRADE and has(record, LOW_F) and has(record, LOW_L):
            why = _read_id(record, LOW_F, &first_fill)
            if why == W_NONE:
                why = _read_id(record, LOW_L, &last_fill)
            if why != W_NONE:
                return why
            if last_fill > first_fill:
                trade.fills = last_fill - first_fill + 1
        trade.is_market = not has(record, UP_X) or text_is(&record.fields[UP_X], b"MARKET")
        return W_NONE

    cdef Why _read_ticker(self, Message *out) noexcept nogil:
        cdef Record *record = &self._parser.record
        cdef Ticker *ticker = &out.ticker
        cdef int8_t digits = 0
        cdef Why why = _read_time(record, UP_O, &ticker.open_ts)
        if why == W_NONE:
            why = _read_time(record, UP_C, &ticker.close_ts)
        if why == W_NONE:
            why = self._read_price(LOW_C, &ticker.last_price, out)
        if why == W_NONE:
            why = self._read_price(LOW_O, &ticker.open_price, out)
        if why == W_NONE:
            why = self._read_price(LOW_H, &ticker.high_price, out)
        if why == W_NONE:
            why = self._read_price(LOW_L, &ticker.low_price, out)
        if why == W_NONE:
            why = self._read_qty(LOW_V, &ticker.volume, out)
        if why == W_NONE:
            why = _read_id(record, LOW_N, &ticker.trade_count)
        if why != W_NONE:
            return why
        # quote_volume has digits of its own; the ones of a huge one may not fit, and then quote_digits -1 says so.
        why = _read_decimal(record, LOW_Q, 0, &ticker.quote_volume, &digits)
        if why == W_NONE and digits:
            why = _read_decimal(record, LOW_Q, digits, &ticker.quote_volume, &digits)
        ticker.quote_digits = digits
        if why == W_OVERFLOW:
            ticker.quote_volume = 0
            ticker.quote_digits = -1
            why = W_NONE
        return why
