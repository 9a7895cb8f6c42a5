"""Outboxes: what the heart says, encoded once for every output that is on.

Answers for: which outputs are on, whether the far side takes anything, what was published and dropped. Refuses to
know: field names (_payload), RESP (_resp), sockets, clocks, and when something is to be published.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strlen

from mdfeed._payload cimport (
    HEAD_BYTES,
    put_bbo,
    put_book,
    put_market_data,
    put_orderbook,
    put_state,
    put_trade,
    put_trade_entry,
    quote_bound,
)
from mdfeed._text cimport put, release, reserve, wide_of_int

OUTPUTS = ("market_data", "orderbook", "trades", "state", "book", "bbo", "trades_stream", "events")
KINDS = (*OUTPUTS, "withdraw")
STATES = ("COLD", "SYNCING", "LIVE", "PROVED", "STALE", "SUSPECT")
DROP_REASONS = ("disconnected", "slow", "full", "no_lease")
CHANNELS = {
    "market_data": "market_data:",
    "orderbook": "orderbook:",
    "trades": "trades:",
    "state": "mdfeed:state:",
    "book": "mdfeed:book:",
    "bbo": "mdfeed:bbo:",
    "trades_stream": "mdfeed:trades:",
    "events": "mdfeed:events",
    "withdraw": "market_data:",
}


cdef class Market:
    """A market as the heart knows it: symbol (ASCII or UTF-8, 39 bytes), index, decimal digits (0 to 18)."""

    def __init__(self, symbol: str, index: int = 0, price_digits: int = 2, qty_digits: int = 3) -> None:
        cdef bytes raw = symbol.encode()
        if not 0 < len(raw) < 40:
            raise ValueError(f"a symbol has 1 to 39 bytes: {symbol!r}")
        if index < 0 or not 0 <= price_digits <= 18 or not 0 <= qty_digits <= 18:
            raise ValueError("index is not negative, digits are 0 to 18")
        memset(&self.instrument, 0, sizeof(Instrument))
        memcpy(self.instrument.symbol, <const char *>raw, len(raw))
        self.instrument.symbol_len = <int32_t>len(raw)
        self.instrument.index = index
        self.instrument.price_digits = price_digits
        self.instrument.qty_digits = qty_digits
        self.instrument.is_active = True


cdef class Outbox:
    """Where the heart puts what happened. This one drops everything."""

    cdef Status on_book(self, const Quote *quote) noexcept nogil:
        return OK

    cdef Status on_trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                         int64_t recv_ns) noexcept nogil:
        return OK

    cdef Status on_bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                       int64_t recv_ns) noexcept nogil:
        return OK

    cdef Status on_state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                         int64_t last_id, int64_t now_ns) noexcept nogil:
        return OK

    cdef Status on_withdraw(self, const Instrument *instrument) noexcept nogil:
        return OK

    cdef Status on_event(self, const char *text, Py_ssize_t size) noexcept nogil:
        return OK

    cdef bint takes(self) noexcept nogil:
        return True

    cdef void withhold(self, Output output) noexcept nogil:
        pass

    def put_book(self, Market market, bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]], *,
                 state: str = "LIVE", seq: int = 0, first_id: int = 0, last_id: int = 0, ts_event: int = 0,
                 recv_ns: int = 0, last_price: int | None = None,
                 day: tuple[int, int, int, int, int, int] | None = None) -> None:
        """What the heart does with a book, from Python: levels best first as scaled (price, qty).

        `day` is (open, high, low, volume, quote_volume, trade_count), scaled. Raises MemoryError when it was not taken.
        """
        cdef Quote quote
        cdef Py_ssize_t n_bids = len(bids)
        cdef Py_ssize_t n = n_bids + len(asks)
        cdef Level *levels = <Level *>malloc((n + 1) * sizeof(Level))
        cdef Status status
        if levels == NULL:
            raise MemoryError
        try:
            memset(&quote, 0, sizeof(quote))
            for i, (price, qty) in enumerate((*bids, *asks)):
                levels[i].price = price
                levels[i].qty = qty
            quote.instrument = &market.instrument
            quote.bids = levels
            quote.asks = levels + n_bids
            quote.n_bids = quote.verified_bids = n_bids
            quote.n_asks = quote.verified_asks = n - n_bids
            if n_bids:
                quote.top.bid_price = levels[0].price
                quote.top.bid_qty = levels[0].qty
            if n > n_bids:
                quote.top.ask_price = levels[n_bids].price
                quote.top.ask_qty = levels[n_bids].qty
            quote.state = <State><int>STATES.index(state)
            quote.seq = seq
            quote.first_id = first_id
            quote.last_id = last_id
            quote.ts_event = ts_event
            quote.recv_ns = quote.now_ns = recv_ns
            if last_price is not None:
                quote.last_price = last_price
                quote.has_last = True
            if day is not None:
                quote.day.is_known = quote.day.is_quote_known = True
                quote.day.open_price, quote.day.high_price, quote.day.low_price = day[:3]
                quote.day.volume = wide_of_int(day[3])
                quote.day.quote_volume = wide_of_int(day[4])
                quote.day.trade_count = day[5]
            status = self.on_book(&quote)
        finally:
            free(levels)
        _check(status)

    def put_trade(self, Market market, trade_id: int, price: int, qty: int, *, is_buyer_maker: bool = False,
                  ts_event: int = 0, recv_ns: int = 0) -> None:
        """One market trade; price and quantity scaled."""
        cdef Trade trade = Trade(trade_id, price, qty, ts_event, is_buyer_maker, True, 1)
        _check(self.on_trade(&market.instrument, &trade, ts_event, recv_ns))

    def put_bbo(self, Market market, update_id: int, bid: tuple[int, int], ask: tuple[int, int], *, seq: int = 0,
                ts_event: int = 0, recv_ns: int = 0) -> None:
        """Best bid and ask as scaled (price, qty); (0, 0) is an empty side."""
        cdef Bbo bbo = Bbo(update_id, Top(bid[0], bid[1], ask[0], ask[1]))
        _check(self.on_bbo(&market.instrument, &bbo, seq, ts_event, recv_ns))

    def put_state(self, Market market, state: str, reason: str = "", *, since_ns: int = 0, last_id: int = 0,
                  now_ns: int = 0) -> None:
        """A trust state, by its name in STATES."""
        cdef bytes text = reason.encode()
        _check(self.on_state(&market.instrument, <State><int>STATES.index(state), text, since_ns, last_id, now_ns))

    def withdraw(self, Market market) -> None:
        """The market's data is no longer good."""
        _check(self.on_withdraw(&market.instrument))

    def put_event(self, text: bytes) -> None:
        """A line of mdfeed:events; `text` is a JSON object."""
        _check(self.on_event(text, len(text)))


cdef int _check(Status status) except -1:
    if status == NO_MEMORY:
        raise MemoryError("the outbox is full")
    return 0


cdef class Encoder(Outbox):
    """Encodes each thing once for every output that is on; what becomes of the payload is the subclass's."""

    def __cinit__(self) -> None:
        self.is_open = True
        self._payload.limit = 1 << 30

    def __dealloc__(self) -> None:
        release(&self._payload)

    def __init__(self, *, epoch: int, outputs: Iterable[str] = OUTPUTS) -> None:
        wanted = frozenset(outputs)
        if unknown := wanted.difference(OUTPUTS):
            raise ValueError(f"no such output: {', '.join(sorted(unknown))}; there are {', '.join(OUTPUTS)}")
        self.epoch = epoch
        for i, name in enumerate(OUTPUTS):
            self._wants[i] = name in wanted
        self._wants[<int>O_WITHDRAW] = self._wants[<int>O_MARKET_DATA] or self._wants[<int>O_BOOK]

    @property
    def outputs(self) -> frozenset[str]:
        """The outputs that are on."""
        return frozenset(name for i, name in enumerate(OUTPUTS) if self._wants[i])

    @property
    def published(self) -> dict[str, int]:
        """Payloads taken, by kind."""
        return {name: self._published[i] for i, name in enumerate(KINDS)}

    @property
    def dropped(self) -> dict[str, int]:
        """Payloads not taken, by reason."""
        return {name: self._dropped[i] for i, name in enumerate(DROP_REASONS)}

    def open(self) -> None:
        """From now on payloads are taken."""
        self.is_open = True

    def close(self, reason: str) -> None:
        """From now on every payload is dropped and counted under `reason` ("disconnected" or "slow")."""
        self._closed_for = <Drop><int>DROP_REASONS.index(reason)
        self.is_open = False

    # OK: there is room for the payload, write it at _payload.data. IGNORED: not wanted, or nobody takes it.
    cdef Status _begin(self, Output output, size_t bound) noexcept nogil:
        if not self._wants[<int>output]:
            return IGNORED
        if not self.is_open:
            self._dropped[<int>self._closed_for] += 1
            return IGNORED
        if not reserve(&self._payload, bound):
            self._dropped[<int>D_FULL] += 1
            return NO_MEMORY
        return OK

    cdef Status _finish(self, Output output, const Instrument *instrument, const char *end) noexcept nogil:
        cdef Status status = self.emit(output, instrument, self._payload.data, end - self._payload.data)
        if status == OK:
            self._published[<int>output] += 1
        else:
            self._dropped[<int>D_FULL] += 1
        return status

    cdef Status emit(self, Output output, const Instrument *instrument, const char *data, size_t size) noexcept nogil:
        return OK

    cdef bint takes(self) noexcept nogil:
        return self.is_open

    cdef void withhold(self, Output output) noexcept nogil:
        if self._wants[<int>output]:
            self._dropped[<int>D_NO_LEASE] += 1

    cdef Status on_book(self, const Quote *quote) noexcept nogil:
        cdef size_t bound = quote_bound(quote)
        cdef Status first = self._begin(O_MARKET_DATA, bound)
        cdef Status second, third
        if first == OK:
            first = self._finish(O_MARKET_DATA, quote.instrument, put_market_data(self._payload.data, quote))
        second = self._begin(O_ORDERBOOK, bound)
        if second == OK:
            second = self._finish(O_ORDERBOOK, quote.instrument, put_orderbook(self._payload.data, quote))
        third = self._begin(O_BOOK, bound)
        if third == OK:
            third = self._finish(O_BOOK, quote.instrument, put_book(self._payload.data, quote, self.epoch))
        return NO_MEMORY if first == NO_MEMORY or second == NO_MEMORY or third == NO_MEMORY else OK

    cdef Status on_trade(self, const Instrument *instrument, const Trade *trade, int64_t ts_event,
                         int64_t recv_ns) noexcept nogil:
        cdef Status first = self._begin(O_TRADES, HEAD_BYTES)
        cdef Status second
        cdef char *end
        if first == OK:
            first = self._finish(O_TRADES, instrument, put_trade(self._payload.data, instrument, trade, ts_event))
        second = self._begin(O_TRADES_STREAM, HEAD_BYTES)
        if second == OK:
            end = put_trade_entry(self._payload.data, instrument, trade, ts_event, recv_ns, self.epoch)
            second = self._finish(O_TRADES_STREAM, instrument, end)
        return NO_MEMORY if first == NO_MEMORY or second == NO_MEMORY else OK

    cdef Status on_bbo(self, const Instrument *instrument, const Bbo *bbo, uint64_t seq, int64_t ts_event,
                       int64_t recv_ns) noexcept nogil:
        cdef Status status = self._begin(O_BBO, HEAD_BYTES)
        cdef char *end
        if status == OK:
            end = put_bbo(self._payload.data, instrument, bbo, seq, ts_event, recv_ns, self.epoch)
            status = self._finish(O_BBO, instrument, end)
        return NO_MEMORY if status == NO_MEMORY else OK

    cdef Status on_state(self, const Instrument *instrument, State state, const char *reason, int64_t since_ns,
                         int64_t last_id, int64_t now_ns) noexcept nogil:
        cdef Status status = self._begin(O_STATE, HEAD_BYTES)
        cdef size_t size = strlen(reason)
        cdef char *end
        if status == OK:
            end = put_state(self._payload.data, instrument, state, reason, size if size < 256 else 256, since_ns,
                            last_id, now_ns, self.epoch)
            status = self._finish(O_STATE, instrument, end)
        return NO_MEMORY if status == NO_MEMORY else OK

    cdef Status on_withdraw(self, const Instrument *instrument) noexcept nogil:
        cdef Status status = self._begin(O_WITHDRAW, 0)
        if status == OK:
            status = self._finish(O_WITHDRAW, instrument, self._payload.data)
        return NO_MEMORY if status == NO_MEMORY else OK

    cdef Status on_event(self, const char *text, Py_ssize_t size) noexcept nogil:
        cdef Status status = self._begin(O_EVENTS, size)
        if status == OK:
            status = self._finish(O_EVENTS, NULL, put(self._payload.data, text, size))
        return NO_MEMORY if status == NO_MEMORY else OK


cdef class Collector(Encoder):
    """Keeps (kind, symbol, payload) tuples, newest `maxlen` at most: what is pushed out counts as dropped["full"].

    kind is one of KINDS ("withdraw" has an empty payload), symbol is "" for events.
    """

    def __init__(self, *, epoch: int = 0, outputs: Iterable[str] = OUTPUTS, maxlen: int = 1_000_000) -> None:
        super().__init__(epoch=epoch, outputs=outputs)
        if maxlen < 1:
            raise ValueError("maxlen is at least 1")
        self.maxlen = maxlen
        self._items = deque()

    def __len__(self) -> int:
        return len(self._items)

    def take(self) -> list[tuple[str, str, bytes]]:
        """Everything collected so far, oldest first; it is empty then."""
        items = list(self._items)
        self._items.clear()
        return items

    cdef Status emit(self, Output output, const Instrument *instrument, const char *data, size_t size) noexcept nogil:
        with gil:
            try:
                symbol = "" if instrument == NULL else instrument.symbol[: instrument.symbol_len].decode()
                if len(self._items) >= self.maxlen:
                    self._items.popleft()
                    self._dropped[<int>D_FULL] += 1
                self._items.append((KINDS[<int>output], symbol, data[:size]))
            except Exception:
                return NO_MEMORY
        return OK
