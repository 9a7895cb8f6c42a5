# Writers of the published JSON. Each writes at `out` without a check and returns the place behind its last byte:
# the caller has reserved HEAD_BYTES, or quote_bound() where there are levels.

from mdfeed._types cimport *

cdef enum:
    # All of a payload but its levels: at most ten numbers of 300 bytes (two int8 of digits), a symbol, names.
    HEAD_BYTES = 4096

cdef size_t quote_bound(const Quote *quote) noexcept nogil
cdef char *put_market_data(char *out, const Quote *quote) noexcept nogil
cdef char *put_orderbook(char *out, const Quote *quote) noexcept nogil
cdef char *put_book(char *out, const Quote *quote, int64_t epoch) noexcept nogil
cdef char *put_trade(char *out, const Instrument *instrument, const Trade *trade, int64_t ts_event) noexcept nogil
cdef char *put_trade_entry(char *out, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                           int64_t recv_ns, int64_t epoch) noexcept nogil
cdef char *put_bbo(char *out, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                   int64_t recv_ns, int64_t epoch) noexcept nogil
# `reason_size` at most 256.
cdef char *put_state(char *out, const Instrument *instrument, State state, const char *reason, size_t reason_size,
                     int64_t since_ns, int64_t last_id, int64_t now_ns, int64_t epoch) noexcept nogil
