"""What is published of one symbol, and how far it can be trusted.

    COLD -> SYNCING -> LIVE -> PROVED       STALE: line lost or silent       SUSPECT: gap, crossed, contradicted

Only LIVE and PROVED books are published as data. This half of a symbol knows its book, its proof, its
trades and its 24 h figures; which frames the book takes, and from which line, is the Track's business.
"""

from libc.string cimport memset, strcmp

from mdfeed._proof cimport is_crossed_top, is_same_top, scale_top
from mdfeed._pulse cimport beat

from mdfeed._publish import STATES

DAY_FIGURES = ("volume", "count", "high", "low")
SOURCES = ("rest", "ws_api", "depth20")

cdef int64_t S = 1_000_000_000
cdef int64_t AHEAD_NS = 60 * S      # a trade this far ahead of the venue's clock is no 24 h figure's
cdef int64_t PROVED_NS = 60 * S     # PROVED lasts so long without a verdict while diffs flow
cdef int64_t WITHDRAW_NS = 5 * S    # so long may the last value of a book that is not good stay in sight
cdef int64_t BLIND_NS = 1 * S       # a book whose top is not known may find a snapshot for so long
cdef int64_t REPUBLISH_NS = 60 * S
cdef int64_t TELL_NS = 1 * S        # at most one event about missing trades in so long
cdef int32_t RELIABLE_RUN = 3


cdef class Trust:
    """State, proof, trades, 24 h figures and publication of one symbol."""

    def __init__(self, str symbol, Publisher publisher not None, fuse, int32_t patience, int32_t max_levels):
        self.symbol = symbol
        self.book = Book(0, 0, max_levels)
        self._max_levels = max_levels
        self.agg_trades = Tape()
        self.single_trades = Tape()
        self.window = Window(0, 0)
        self.resyncs = {}
        self._proof = Proof()
        self._publisher = publisher
        self._fuse = fuse
        self._patience = patience
        self._reason = b"start"
        memset(&self._bbo, 0, sizeof(Bbo))
        # Within one epoch: a symbol that comes back goes on counting, or its consumers would take it for old.
        self.seq, self.bbo_seq = publisher.seqs.pop(symbol, (0, 0))

    # ---- what comes beside the book

    cdef void _touch(self, const Message *message, int64_t recv_ns) noexcept:
        """Any frame of the symbol: it is fresh."""
        cdef double step
        self.frames += 1
        if self.last_frame_ns:
            step = <double>(recv_ns - self.last_frame_ns)
            if step > 0:
                self._cadence_ns += (step - self._cadence_ns) * 0.05
        self.last_frame_ns = recv_ns
        beat(&self._pulses[<int>message.kind], recv_ns)
        self._quiet_run = 0
        if message.ts_event:
            self._delay_ns = recv_ns - message.ts_event

    cdef void on_bbo(self, int32_t line, const Message *message, int64_t recv_ns) noexcept:
        cdef int64_t matches = self._proof.match, mismatches = self._proof.mismatch
        self._touch(message, recv_ns)
        if self._proof.witnessed(line, &message.bbo, message.ts_event):
            self._weigh_proof(recv_ns, matches, mismatches)
        if is_crossed_top(&message.bbo.top):
            self.crossed += 1
            return
        if message.bbo.update_id > self._bbo.update_id:
            self._bbo = message.bbo
            if self._ahead_ns == 0 and self._bbo.update_id > self.book.last_id:
                self._ahead_ns = recv_ns
            if self.is_good():
                self.bbo_seq += 1
                self._publisher.bbo(self.instrument, &self._bbo, self.bbo_seq, message.ts_event, recv_ns)

    cdef void on_trade(self, const Message *message, int64_t recv_ns) noexcept:
        self._touch(message, recv_ns)
        if self._trade_ns == 0 and message.trade.ts_trade > self.book.ts_event:
            self._trade_ns = recv_ns
        self.take_trade(message, recv_ns)

    cdef bint take_trade(self, const Message *message, int64_t recv_ns) noexcept:
        cdef Tape tape = self.agg_trades if message.kind == K_AGG_TRADE else self.single_trades
        cdef int64_t gaps = tape.gaps
        cdef bint is_new = tape.add(&message.trade, message.ts_event, recv_ns)
        if tape.gaps > gaps:
            # What was missed before our first trade is in the venue's figures that we began with.
            self._has_missed_trades |= tape.count > 1
            self._tell_missing(tape, tape.last_id, recv_ns)
        # One kind counts and is published: aggregate trades where there are any, else single ones.
        if not is_new or (message.kind != K_AGG_TRADE and self.agg_trades.last_id):
            return False
        # A time far ahead would push a whole day out of the window.
        if not tape.is_again and message.trade.ts_trade <= recv_ns + self.clock_offset_ns + AHEAD_NS:
            self.window.add(message.trade.ts_trade, message.trade.price, message.trade.qty, message.trade.fills,
                            recv_ns + self.clock_offset_ns)
        if self._publisher.trade(self.instrument, &message.trade, message.trade.ts_trade, recv_ns):
            tape.said(message.trade.trade_id)
            return True
        tape.withhold(message.trade.trade_id)
        return False

    cdef void _tell_missing(self, Tape tape, int64_t next_id, int64_t now_ns) noexcept:
        """Trades are missing up to `next_id`. A stream that loses one trade in two is not to flood the events."""
        cdef int32_t i
        if self._missing_told_ns and 0 <= now_ns - self._missing_told_ns < TELL_NS:
            self._untold += 1
            return
        for i in range(tape._hole_count):
            if tape._holes[i].last_id == next_id - 1:
                self._publisher.event(now_ns, self.symbol, "trade_gap", first_id=tape._holes[i].first_id,
                                      last_id=tape._holes[i].last_id, untold=self._untold)
                self._missing_told_ns = now_ns
                self._untold = 0

    def resume_trades(self, int64_t past_id, int64_t now_ns, int64_t own_id=0, bint is_doubted=False):
        """Trades are published from now on, and were up to those ids: what is between is missing (Tape.resume)."""
        span = self.agg_trades.resume(past_id, own_id, is_doubted)
        if span is not None:
            self._publisher.event(now_ns, self.symbol, "trade_gap", first_id=span[0], last_id=span[1],
                                  untold=self._untold)
            self._missing_told_ns, self._untold = now_ns, 0

    cdef void on_ticker(self, const Message *message, int64_t recv_ns) noexcept:
        cdef Day ours
        cdef const Ticker *theirs = &message.ticker
        if recv_ns:
            self._touch(message, recv_ns)
        if theirs.close_ts < self._ticker_ts:
            return
        self._ticker_ts = theirs.close_ts
        # Our own sum is the finer one, unless trades went missing since the venue's was last taken.
        if recv_ns == 0 or not self._is_seeded or self._has_missed_trades:
            self.window.seed_ticker(theirs)
            self._is_seeded = True
            self._has_missed_trades = False
            return
        self.window.day(theirs.close_ts, &ours)
        self._has_day_errors = ours.is_known and theirs.volume > 0 and theirs.trade_count > 0 and theirs.low_price > 0
        if self._has_day_errors:
            self._day_errors[0] = (<double>ours.volume - <double>theirs.volume) / <double>theirs.volume
            self._day_errors[1] = <double>(ours.trade_count - theirs.trade_count) / <double>theirs.trade_count
            self._day_errors[2] = <double>(ours.high_price - theirs.high_price) / <double>theirs.high_price
            self._day_errors[3] = <double>(ours.low_price - theirs.low_price) / <double>theirs.low_price

    cdef void set_clock_offset(self, int64_t offset_ns) noexcept:
        # Figures that were kept by a clock which was not the venue's start over, unknown.
        if not -AHEAD_NS <= offset_ns - self.clock_offset_ns <= AHEAD_NS:
            self.window = Window(self.book.price_digits, self.book.qty_digits)
            self._is_seeded = False
            self._ticker_ts = 0
        self.clock_offset_ns = offset_ns

    cdef Status rescale(self, int price_digits, int qty_digits) noexcept:
        """More digits for all of this symbol, without loss; BAD, and nothing changed, when the book does not fit.

        What is only remembered, and does not fit, is forgotten: it may have been what one odd frame said.
        """
        cdef int64_t price_factor = power_of_ten(price_digits - self.book.price_digits)
        cdef int64_t qty_factor = power_of_ten(qty_digits - self.book.qty_digits)
        cdef Status status
        status = self.book.rescale(price_digits, qty_digits)
        if status != OK:
            return status
        if self.window.rescale(price_digits, qty_digits) != OK:
            self.window = Window(price_digits, qty_digits)      # figures that no longer fit start over, unknown
            self._is_seeded = False
        self._proof.rescale(price_factor, qty_factor)
        self.agg_trades.rescale(price_factor, qty_factor)
        self.single_trades.rescale(price_factor, qty_factor)
        if not scale_top(&self._bbo.top, price_factor, qty_factor):
            memset(&self._bbo.top, 0, sizeof(Top))
        return OK

    # ---- trust

    cdef bint is_good(self) noexcept nogil:
        return self._state == S_LIVE or self._state == S_PROVED

    cdef bint is_blind(self) noexcept nogil:
        cdef int side
        for side in range(2):
            if not self.book.is_whole(side) and self.book.count_verified(side, 1) == 0:
                return True
        return False

    cdef bint is_syncing(self) noexcept nogil:
        return self._state == S_COLD or self._state == S_SYNCING or self._state == S_SUSPECT

    cdef void enter(self, State state, const char *reason, int64_t now_ns) noexcept:
        cdef bint was_good = self.is_good()
        if state == self._state and strcmp(reason, self._reason) == 0:
            return
        self._state = state
        self._reason = reason
        self.state_since_ns = now_ns
        if self.is_good():
            self._bad_ns = 0
            self._is_withdrawn = False
        elif was_good or self._bad_ns == 0:
            self._bad_ns = now_ns
        self.announce(now_ns)
        self._publisher.event(now_ns, self.symbol, "state", state=STATES[<int>state], reason=reason.decode(),
                              last_update_id=self.book.last_id)

    cdef void _begin_at(self, int64_t now_ns) noexcept:
        """The first time that is heard of is when the symbol was added, and its book has not been good since."""
        if self.state_since_ns == 0:
            self.state_since_ns = self._bad_ns = now_ns

    cdef void announce(self, int64_t now_ns) noexcept:
        self._begin_at(now_ns)
        self._announced_ns = now_ns
        self._publisher.state(self.instrument, self._state, self._reason, self.state_since_ns, self.book.last_id,
                              now_ns)

    cdef void suspect(self, const char *reason, int64_t now_ns, bint keep_buffer) noexcept:
        """The book is not to be trusted: stop publishing it."""
        cdef str token
        self._crossed_run = 0
        self._proof.reset()
        self._bbo.update_id = 0     # ids may have started over
        if strcmp(reason, b"ids_restarted") == 0:
            self._proof.forget()
            self.agg_trades.doubt()
            self.single_trades.doubt()
        self._ahead_ns = self._blind_ns = 0
        self.enter(S_SUSPECT, reason, now_ns)
        # Counting comes last: whatever fails for want of memory, the book is not published any more.
        token = reason.decode()
        self.resyncs[token] = self.resyncs.get(token, 0) + 1
        self._publisher.event(now_ns, self.symbol, "resync", reason=token, last_update_id=self.book.last_id)

    cdef void _weigh_proof(self, int64_t now_ns, int64_t matches, int64_t mismatches) noexcept:
        """Draw the consequence of verdicts that fell since the counters stood at `matches` and `mismatches`."""
        if self._proof.mismatch > mismatches and self._proof.is_contradicted(self._patience):
            if self.is_good():
                if self.may_distrust(now_ns):
                    self._has_testimony = True
                    self.suspect(b"proof_mismatch", now_ns, False)
                else:
                    self.enter(S_LIVE, b"proof_unreliable", now_ns)
        elif self._proof.match > matches:
            self._match_ns = now_ns
            # Once the proof was found unreliable, one match may be chance.
            if self._state == S_LIVE and (not self._fuse.is_blown or self._proof.matches_in_a_row >= RELIABLE_RUN):
                self.enter(S_PROVED, proved_reason(self._source), now_ns)

    cdef bint may_distrust(self, int64_t now_ns) noexcept:
        """Whether a contradiction still counts against the book; it does when that cannot be found out."""
        try:
            return self._fuse.allows(self.symbol, now_ns)
        except Exception:
            return True

    cdef void publish(self, int64_t now_ns) noexcept:
        cdef Quote quote
        cdef Tape tape = self.agg_trades if self.agg_trades.count else self.single_trades
        if self.is_blind():
            return
        memset(&quote, 0, sizeof(Quote))
        self.seq += 1
        self._published_ns = now_ns
        quote.instrument = self.instrument
        quote.top = self.book.top()
        quote.first_id = self.book.first_id
        quote.last_id = self.book.last_id
        quote.ts_event = self.book.ts_event
        quote.recv_ns = self.book.recv_ns
        quote.now_ns = now_ns
        quote.state = self._state
        quote.seq = self.seq
        quote.has_last = tape.count > 0
        quote.last_price = tape.last_price
        self.window.day(now_ns + self.clock_offset_ns, &quote.day)      # trades have the venue's times
        self._publisher.book(&quote, self.book)
        if quote.last_id > self._bbo.update_id:
            self._show_top(&quote)

    cdef void _show_top(self, const Quote *quote) noexcept:
        """The book is beyond the newest bookTicker: its top is said too, unless it is what was said last."""
        cdef bint is_new = self.bbo_seq == 0 or not is_same_top(&quote.top, &self._bbo.top)
        self._bbo.update_id = quote.last_id
        self._bbo.top = quote.top
        if is_new:
            self.bbo_seq += 1
            self._publisher.bbo(self.instrument, &self._bbo, self.bbo_seq, quote.ts_event, quote.recv_ns)

    cdef void age(self, int64_t now_ns) noexcept:
        """What follows from time alone, once a second or so."""
        self._begin_at(now_ns)
        if self._blind_ns and self.is_good() and now_ns - self._blind_ns > BLIND_NS:
            self.enter(S_STALE, b"horizon", now_ns)
        if self._state == S_PROVED and self.last_update_ns - self._match_ns > PROVED_NS:
            self.enter(S_LIVE, b"unproved", now_ns)
        if self.is_good():
            if now_ns - self._published_ns >= REPUBLISH_NS and not self.book.is_crossed():
                self.publish(now_ns)
            return
        if self._bad_ns and not self._is_withdrawn and now_ns - self._bad_ns >= WITHDRAW_NS:
            self._is_withdrawn = True
            self._published_ns = 0          # its key is missing: set again as soon as the book is good
            self._publisher.withdraw(self.instrument)
        if self._announced_ns and now_ns - self._announced_ns >= REPUBLISH_NS:
            self.announce(now_ns)

    def refresh(self, int64_t now_ns):
        """Say everything again: for a sink that has come (back)."""
        self.announce(now_ns)
        if self.is_good():
            if not self.book.is_crossed():
                self.publish(now_ns)
        elif self._is_withdrawn:
            self._publisher.withdraw(self.instrument)

    def leave(self):
        """The symbol is not followed any more: its key goes, its counts stay for when it comes back."""
        self._is_withdrawn = True
        self._publisher.withdraw(self.instrument)
        self._publisher.seqs[self.symbol] = (self.seq, self.bbo_seq)

    def finish(self):
        """End of input: what waits for a verdict gets none."""
        self._proof.reset()

    # ---- for those who look

    @property
    def index(self):
        return self.instrument.index

    @property
    def state(self):
        return STATES[<int>self._state]

    @property
    def reason(self):
        return self._reason.decode()

    @property
    def source(self):
        """Where the snapshot came from that the book stands on."""
        return SOURCES[<int>self._source]

    @property
    def proof(self):
        return {"match": self._proof.match, "mismatch": self._proof.mismatch, "unjudged": self._proof.unjudged}

    @property
    def last_mismatch(self):
        """(update id, ours, theirs) of the newest mismatch, or None; tops: scaled (bid price, qty, ask price, qty)."""
        cdef Top a = self._proof.last_ours.top
        cdef Top b = self._proof.last_theirs.top
        if self._proof.mismatch == 0:
            return None
        return (self._proof.last_ours.update_id, (a.bid_price, a.bid_qty, a.ask_price, a.ask_qty),
                (b.bid_price, b.bid_qty, b.ask_price, b.ask_qty))

    @property
    def tape(self):
        return self.agg_trades if self.agg_trades.last_id else self.single_trades

    @property
    def trades(self):
        return self.tape.count

    @property
    def trade_gaps(self):
        return self.tape.gaps

    @property
    def day_errors(self):
        """Our 24 h figures less those of the newest ticker, as shares of them, by name; empty until both are known."""
        if not self._has_day_errors:
            return {}
        return {name: self._day_errors[i] for i, name in enumerate(DAY_FIGURES)}

    @property
    def cadence_ns(self):
        """Mean time between two frames, learned; 0 before the second."""
        return <int64_t>self._cadence_ns

    @property
    def venue_delay_ns(self):
        return self._delay_ns + self.clock_offset_ns if self.last_frame_ns else None

    def trade_summary(self):
        """Count and exact sums of the market trades seen (see Tape.summary), or None."""
        return self.tape.summary(self.book.price_digits, self.book.qty_digits)
