"""The JSON of each thing that is published (docs/PROTOCOL.md).

Answers for: names, types and order of every published field. Refuses to know: outputs, buffers, RESP, and when
something is to be published.
"""

from libc.string cimport strlen

from mdfeed._text cimport DECIMAL_BYTES, put, put_decimal, put_int, put_json_string, put_time, put_uint, put_wide

cdef const char *state_names[S_COUNT]
state_names[:] = [b"COLD", b"SYNCING", b"LIVE", b"PROVED", b"STALE", b"SUSPECT"]


cdef inline char *put_name(char *out, const char *text) noexcept nogil:
    # For literals: the compiler knows their length.
    return put(out, text, strlen(text))


cdef inline char *put_symbol(char *out, const Instrument *instrument) noexcept nogil:
    return put_json_string(put_name(out, b'{"symbol":'), instrument.symbol, instrument.symbol_len)


cdef size_t quote_bound(const Quote *quote) noexcept nogil:
    cdef size_t each = 2 * DECIMAL_BYTES + 8 + quote.instrument.price_digits + quote.instrument.qty_digits
    return HEAD_BYTES + each * <size_t>(quote.n_bids + quote.n_asks)


cdef char *put_market_data(char *out, const Quote *quote) noexcept nogil:
    cdef int digits = quote.instrument.price_digits
    cdef bint has_bid = quote.top.bid_qty != 0
    cdef bint has_ask = quote.top.ask_qty != 0
    out = put_name(put_symbol(out, quote.instrument), b',"last_price":')
    if quote.has_last:
        out = put_decimal(out, quote.last_price, digits, True)
    elif has_bid and has_ask:
        # The mid: a sum times five needs one digit more, and is exact.
        out = put_wide(out, (<i128>quote.top.bid_price + quote.top.ask_price) * 5, digits + 1, True)
    else:
        out = put_name(out, b"null")
    out = put_name(out, b',"bid_price":')
    out = put_decimal(out, quote.top.bid_price, digits, True) if has_bid else put_name(out, b"null")
    out = put_name(out, b',"ask_price":')
    out = put_decimal(out, quote.top.ask_price, digits, True) if has_ask else put_name(out, b"null")
    if quote.day.is_known:
        out = put_name(out, b',"volume_24h":')
        out = put_wide(out, quote.day.volume, quote.instrument.qty_digits, True)
        out = put_name(out, b',"high_24h":')
        out = put_decimal(out, quote.day.high_price, digits, True)
        out = put_name(out, b',"low_24h":')
        out = put_decimal(out, quote.day.low_price, digits, True)
    else:
        out = put_name(out, b',"volume_24h":null,"high_24h":null,"low_24h":null')
    out = put_name(put_time(put_name(out, b',"updated_at":"'), quote.recv_ns), b'","state":"')
    out = put_name(put_name(out, state_names[<int>quote.state]), b'","last_update_id":')
    out = put_name(put_int(out, quote.last_id), b',"seq":')
    return put_day(put_uint(out, quote.seq), quote)


cdef char *put_day(char *out, const Quote *quote) noexcept nogil:
    # The 24 h figures that the earlier service did not have, and the object's end.
    cdef const Day *day = &quote.day
    cdef int digits = quote.instrument.price_digits
    cdef int more = 2 if day.quote_volume < <i128>1 << 119 else 0
    if not day.is_known:
        out = put_name(out, b',"quote_volume_24h":null,"open_24h":null,"change_24h":null')
        return put_name(out, b',"vwap_24h":null,"trades_24h":null}')
    out = put_name(out, b',"quote_volume_24h":')
    if day.is_quote_known:
        out = put_wide(out, day.quote_volume, digits + quote.instrument.qty_digits, True)
    else:
        out = put_name(out, b"null")
    out = put_decimal(put_name(out, b',"open_24h":'), day.open_price, digits, True)
    out = put_name(out, b',"change_24h":')
    if quote.has_last:
        out = put_decimal(out, quote.last_price - day.open_price, digits, True)
    else:
        out = put_name(out, b"null")
    out = put_name(out, b',"vwap_24h":')
    if day.is_quote_known and day.volume > 0:
        # Quote volume has both digits, so the quotient has the price's; two more, the rest is cut.
        out = put_wide(out, day.quote_volume * (100 if more else 1) // day.volume, digits + more, True)
    else:
        out = put_name(out, b"null")
    return put_name(put_int(put_name(out, b',"trades_24h":'), day.trade_count), b"}")


cdef char *put_price_map(char *out, const Quote *quote, const Level *first, int32_t n, int step) noexcept nogil:
    cdef int price_digits = quote.instrument.price_digits
    cdef int qty_digits = quote.instrument.qty_digits
    cdef int32_t _i
    out[0] = 123
    out += 1
    for _i in range(n):
        out[0] = 34
        out = put_name(put_decimal(out + 1, first.price, price_digits, True), b'":')
        out = put_decimal(out, first.qty, qty_digits, True)
        out[0] = 44
        out += 1
        first += step
    if n:
        out -= 1
    out[0] = 125
    return out + 1


cdef char *put_orderbook(char *out, const Quote *quote) noexcept nogil:
    out = put_name(put_symbol(out, quote.instrument), b',"bids":')
    # Both sides ascend by price, and ours are best first.
    out = put_price_map(out, quote, quote.bids + quote.n_bids - 1, quote.n_bids, -1)
    out = put_price_map(put_name(out, b',"asks":'), quote, quote.asks, quote.n_asks, 1)
    out = put_int(put_name(out, b',"last_update_id":'), quote.last_id)
    out = put_int(put_name(out, b',"timestamp":'), quote.recv_ns // 1000)
    return put_name(out, b',"initialized":true}')


cdef char *put_pair(char *out, int64_t price, int64_t qty, const Instrument *instrument) noexcept nogil:
    out = put_decimal(put_name(out, b'["'), price, instrument.price_digits, False)
    out = put_decimal(put_name(out, b'","'), qty, instrument.qty_digits, False)
    return put_name(out, b'"]')


cdef char *put_pairs(char *out, const Quote *quote, const Level *levels, int32_t n) noexcept nogil:
    cdef int32_t i
    out[0] = 91
    out += 1
    for i in range(n):
        out = put_pair(out, levels[i].price, levels[i].qty, quote.instrument)
        out[0] = 44
        out += 1
    if n:
        out -= 1
    out[0] = 93
    return out + 1


cdef char *put_book(char *out, const Quote *quote, int64_t epoch) noexcept nogil:
    out = put_int(put_name(put_symbol(out, quote.instrument), b',"epoch":'), epoch)
    out = put_uint(put_name(out, b',"seq":'), quote.seq)
    out = put_name(put_name(put_name(out, b',"state":"'), state_names[<int>quote.state]), b'","first_update_id":')
    out = put_name(put_int(out, quote.first_id), b',"last_update_id":')
    out = put_name(put_int(out, quote.last_id), b',"ts_event":')
    out = put_name(put_int(out, quote.ts_event), b',"recv_ns":')
    out = put_name(put_int(out, quote.recv_ns), b',"verified_levels":{"bids":')
    out = put_name(put_int(out, quote.verified_bids), b',"asks":')
    out = put_name(put_int(out, quote.verified_asks), b'},"bids":')
    out = put_name(put_pairs(out, quote, quote.bids, quote.n_bids), b',"asks":')
    return put_name(put_pairs(out, quote, quote.asks, quote.n_asks), b"}")


cdef char *put_trade(char *out, const Instrument *instrument, const Trade *trade, int64_t ts_event) noexcept nogil:
    out = put_int(put_name(put_symbol(out, instrument), b',"trade_id":'), trade.trade_id)
    out = put_decimal(put_name(out, b',"price":'), trade.price, instrument.price_digits, True)
    out = put_decimal(put_name(out, b',"quantity":'), trade.qty, instrument.qty_digits, True)
    out = put_int(put_name(out, b',"timestamp":'), ts_event // 1000000)
    return put_name(out, b',"is_buyer_maker":true}' if trade.is_buyer_maker else b',"is_buyer_maker":false}')


cdef char *put_trade_entry(char *out, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                           int64_t recv_ns, int64_t epoch) noexcept nogil:
    out = put_int(put_name(put_symbol(out, instrument), b',"epoch":'), epoch)
    out = put_int(put_name(out, b',"trade_id":'), trade.trade_id)
    out = put_decimal(put_name(out, b',"price":"'), trade.price, instrument.price_digits, False)
    out = put_decimal(put_name(out, b'","qty":"'), trade.qty, instrument.qty_digits, False)
    out = put_name(out, b'","is_buyer_maker":true,"ts_event":' if trade.is_buyer_maker
                   else b'","is_buyer_maker":false,"ts_event":')
    return put_name(put_int(put_name(put_int(out, ts_event), b',"recv_ns":'), recv_ns), b"}")


cdef char *put_bbo(char *out, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                   int64_t recv_ns, int64_t epoch) noexcept nogil:
    out = put_int(put_name(put_symbol(out, instrument), b',"epoch":'), epoch)
    out = put_uint(put_name(out, b',"seq":'), seq)
    out = put_name(put_int(put_name(out, b',"update_id":'), bbo.update_id), b',"bid":')
    if bbo.top.bid_qty:
        out = put_pair(out, bbo.top.bid_price, bbo.top.bid_qty, instrument)
    else:
        out = put_name(out, b"null")
    out = put_name(out, b',"ask":')
    if bbo.top.ask_qty:
        out = put_pair(out, bbo.top.ask_price, bbo.top.ask_qty, instrument)
    else:
        out = put_name(out, b"null")
    out = put_int(put_name(out, b',"ts_event":'), ts_event)
    return put_name(put_int(put_name(out, b',"recv_ns":'), recv_ns), b"}")


cdef char *put_state(char *out, const Instrument *instrument, State state, const char *reason, size_t reason_size,
                     int64_t since_ns, int64_t last_id, int64_t now_ns, int64_t epoch) noexcept nogil:
    out = put_int(put_name(put_symbol(out, instrument), b',"epoch":'), epoch)
    out = put_name(put_name(put_name(out, b',"state":"'), state_names[<int>state]), b'","reason":')
    out = put_name(put_json_string(out, reason, reason_size), b',"since":"')
    out = put_int(put_name(put_time(out, since_ns), b'","since_ns":'), since_ns)
    out = put_int(put_name(out, b',"last_update_id":'), last_id)
    return put_name(put_int(put_name(out, b',"recv_ns":'), now_ns), b"}")
