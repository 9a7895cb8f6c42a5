"""Which snapshot a book needs, and how one takes its seat: at once when there is no book, by a shadow when there is.

A book without any is seated by a cheap snapshot, so that all symbols are good soon; a full one follows in a shadow,
which takes over when both stand at the same id. What contradicts it then is counted and mended. Knows no line and no
frame: which diffs come here is the Track's business, fetching the world's.
"""

from typing import NamedTuple

from libc.string cimport memset, strcmp

from mdfeed._proof cimport Proof
from mdfeed._pulse cimport pause_beat
from mdfeed._trust cimport SRC_DEPTH20, proved_reason, synced_reason
from mdfeed._window cimport Window

cdef enum:
    FIRST_RETRY_MS = 500
    LAST_RETRY_MS = 30_000
    MOST_ATTEMPTS = 3               # counted for what is the host's trouble: its pauses are the fetcher's
    CHECK_LIMIT = 5                 # levels of the cheapest snapshot: its id tells silence from deafness
    LONGEST_RUN = 6                 # a silence may last so many times twice as long as usual
    LONGEST_DEAF = 5                # and the pause before a deaf book's check so many times

# Failures that are the symbol's, not the host's: waiting does not help, so the pauses grow on.
SYMBOLS_OWN = frozenset({"http", "not_found", "not a snapshot"})

cdef int64_t S = 1_000_000_000
cdef int64_t FIRST_DIFF_NS = 1 * S  # a quiet symbol's snapshot is asked for without waiting for a diff
cdef int64_t DEAF_NS = 5 * S        # a deaf book's snapshot is compared with another so much later, then twice as much
cdef int64_t REACH_NS = 3 * S       # no stream is so far behind a snapshot, or both are worth nothing
cdef int64_t PAST_NS = S // 2       # clocks of the venue's hosts differ by less
cdef int64_t IN_FLIGHT_NS = 60 * S  # a snapshot request without any answer is given up
cdef int64_t HORIZON_NS = 10 * S    # at least between two full ones: twice the depth may be more than one holds


class Wanted(NamedTuple):
    """A snapshot that should be fetched: `limit` levels a side; the smaller the sooner.

    `since_ns` is when the book was last compared, of those that wait for spare weight: else some would never have any.
    """

    priority: int
    since_ns: int
    symbol: str
    limit: int
    reason: str


cdef class Seat(Trust):
    """A symbol's book and the snapshots it stands on."""

    def __init__(self, str symbol, publisher, FrameBuffer buffer not None, fuse, int32_t patience,
                 int32_t max_levels):
        Trust.__init__(self, symbol, publisher, fuse, patience, max_levels)
        self.buffer = buffer

    def begin(self, int price_digits, int qty_digits):
        """The digits that are known from elsewhere."""
        self._given_price_digits, self._given_qty_digits = <int8_t>price_digits, <int8_t>qty_digits

    # ---- taking the seat

    cdef void join(self, int64_t now_ns, int32_t limit, Source source) noexcept:
        """The book stands at a snapshot and has taken the held diffs: it is exact."""
        self._joined_ns = self._seated_ns = self._sure_ns = now_ns
        self._ahead_ns = self._blind_ns = self._trade_ns = 0
        self._limit = limit
        self._source = source
        self._is_in_flight = False
        self.last_frame_ns = max(self.last_frame_ns, now_ns)
        if self.book.is_crossed():
            self.crossed += 1
            self.suspect(b"crossed", now_ns, False)
        elif self._is_lineless:
            self.enter(S_STALE, b"line_lost", now_ns)
        elif self._proof.is_contradicted(self._patience) and self.may_distrust(now_ns):
            # The diffs that were held have been judged while they were fed again.
            self.suspect(b"proof_mismatch", now_ns, False)
        elif self._is_deaf:
            # It would be as old as the last one soon: only a diff, or a check that finds nothing new, makes it good.
            self.stay_deaf(now_ns)
        else:
            if self._fuse.is_blown:
                self.enter(S_LIVE, b"proof_unreliable", now_ns)
            else:
                self.enter(S_LIVE, synced_reason(source), now_ns)
            self.publish(now_ns)

    cdef void start_shadow(self, int32_t limit, Source source):
        self._is_in_flight = False
        self.shadow = Book(self.book.price_digits, self.book.qty_digits, self._max_levels)
        self._shadow_limit = limit
        self._shadow_source = source
        self._is_shadowing = True       # held diffs go to the shadow from here on

    cdef str place_shadow(self, int64_t now_ns, Status status):
        """The shadow is loaded and has taken the held diffs; what comes now goes to both until they meet."""
        cdef bint was_blind = self.is_blind()
        cdef int64_t ghosts = self.ghosts
        cdef str outcome
        self._is_shadowing = False
        self._placed_ns = now_ns
        self.buffer.clear()
        outcome = self.settle_shadow(now_ns, status)
        if outcome == "swapped" and (was_blind or self.ghosts > ghosts):
            self.see_again(now_ns)
        return outcome

    cdef void see_again(self, int64_t now_ns) noexcept:
        """A snapshot has shown what the book did not: what was held back, or is mended, is published."""
        self._blind_ns = 0
        if self._state == S_STALE:
            self.enter(S_LIVE, b"resumed", now_ns)
        if self.is_good() and not self.book.is_crossed():
            self.publish(now_ns)

    cdef bint is_seated(self) noexcept nogil:
        return self.is_good() or (self._state == S_STALE and self._blind_ns != 0)

    cdef str settle_shadow(self, int64_t now_ns, Status status):
        """Swap when both stand at the same id; give the shadow up when it cannot get there."""
        cdef int64_t ghosts
        if status == GAP or self.shadow.last_id < self.book.last_id:
            self.drop_shadow(now_ns)
            return "old"
        if self.shadow.last_id > self.book.last_id:
            return "shadow"
        ghosts = self.book.differences(self.shadow)
        self.ghosts += ghosts
        self.shadow.ts_event = self.book.ts_event
        self.shadow.recv_ns = self.book.recv_ns
        self.book.swap(self.shadow)
        self.shadow = None
        self._attempts = 0
        self._limit = self._shadow_limit
        self._source = self._shadow_source
        self._seated_ns = self._sure_ns = now_ns
        self._trade_ns = 0
        if self._state == S_PROVED:
            self.enter(S_PROVED, proved_reason(self._source), now_ns)
        if ghosts or self._source != SRC_DEPTH20:     # these come many a second
            self._publisher.event(now_ns, self.symbol, "reseated", ghosts=ghosts, last_update_id=self.book.last_id)
        return "swapped"

    cdef bint is_of_another_past(self, const Message *snapshot) noexcept nogil:
        return (snapshot.ts_event != 0 and snapshot.update.last_id > self._newest_id
                and snapshot.ts_event < self._newest_ts - PAST_NS)

    cdef void watch_shadow(self, int64_t now_ns) noexcept:
        """A snapshot is beyond the book, and it takes long to get there."""
        cdef int64_t since_ns = max(self._placed_ns, self._pulses[<int>K_DIFF].last_ns)
        if self.shadow is None or self._is_shadowing or not self.is_good():
            return
        if now_ns - since_ns > REACH_NS:        # nothing comes that would bring it there
            self.find_deaf(b"silent" if self.last_frame_ns <= since_ns else b"depth_silent", now_ns)
        elif now_ns - self._placed_ns > REACH_NS:
            # It is of ids before they started over, perhaps: once the book reached them it would take a wrong turn.
            self.drop_shadow(now_ns)
            self.back_off(now_ns)

    cdef void drop_shadow(self, int64_t now_ns) noexcept:
        self._is_in_flight = False
        if self.shadow is None and not self._is_shadowing:
            return
        self.shadow = None
        self._is_shadowing = False
        self.buffer.clear()
        self.back_off(now_ns)

    cdef void back_off(self, int64_t now_ns) noexcept:
        """The last attempt at a snapshot failed: wait longer before the next."""
        cdef int64_t wait_ms = min(<int64_t>LAST_RETRY_MS, <int64_t>FIRST_RETRY_MS << min(self._attempts, 6))
        self._attempts += 1
        self._is_in_flight = False
        self._retry_ns = now_ns + wait_ms * 1_000_000

    # ---- asking for one

    def want(self, int64_t now_ns, int32_t limit, int32_t first_limit, int64_t audit_ns):
        """The snapshot that is wanted now (Wanted), None when none is.

        A book without any is seated by a cheap one of `first_limit` levels a side; one of `limit` follows in a shadow,
        and another each `audit_ns`.
        """
        cdef bint is_thin
        if self._is_in_flight or now_ns < self._retry_ns:
            return None
        if self._state == S_SUSPECT:
            return Wanted(0, 0, self.symbol, first_limit, self.reason)
        if self._state == S_SYNCING:
            return Wanted(1, 0, self.symbol, first_limit, self.reason)
        if self._state == S_COLD and self._opened_ns and now_ns - self._opened_ns >= FIRST_DIFF_NS:
            return Wanted(2, 0, self.symbol, first_limit, "start")
        if self.is_to_be_checked(now_ns):
            # Deaf books take no weight away from those that a snapshot makes good.
            return Wanted(6 if self._is_deaf else 3, 0, self.symbol, CHECK_LIMIT, self.reason)
        if not self.is_seated() or self.shadow is not None or not self._has_diffs or self._parked_ns:
            return None
        if self.is_blind():
            return Wanted(0, 0, self.symbol, first_limit, "horizon")
        is_thin = self._is_horizon_thin(2 * self._publisher.depth)
        if self._limit < limit and not (self.book.is_whole(0) and self.book.is_whole(1)):
            return Wanted(4 if is_thin else 5, 0, self.symbol, limit, "full")
        if is_thin and now_ns - self._seated_ns > HORIZON_NS:
            return Wanted(6, self._seated_ns, self.symbol, limit, "horizon")
        if now_ns - self._seated_ns > audit_ns:
            return Wanted(7, self._seated_ns, self.symbol, limit, "audit")
        return None

    cdef bint is_to_be_checked(self, int64_t now_ns) noexcept:
        """A silent book, or one whose line is back and has brought nothing yet: has it missed anything?"""
        if self._state != S_STALE or self._blind_ns:
            return False
        if strcmp(self._reason, b"line_lost") == 0:
            return self._opened_ns and now_ns - self._opened_ns >= FIRST_DIFF_NS
        return self.is_silent()

    cdef bint is_silent(self) noexcept nogil:
        return self._state == S_STALE and (strcmp(self._reason, b"silent") == 0
                                           or strcmp(self._reason, b"depth_silent") == 0)

    cdef void find_deaf(self, const char *reason, int64_t now_ns) noexcept:
        self._is_depth_silent = self._is_deaf = True
        pause_beat(&self._pulses[<int>K_DIFF])
        self.suspect(reason, now_ns, False)

    cdef void stay_deaf(self, int64_t now_ns) noexcept:
        self._retry_ns = now_ns + (DEAF_NS << self._deaf_run)
        self._deaf_run = min(self._deaf_run + 1, <int32_t>LONGEST_DEAF)
        self.enter(S_STALE, b"depth_silent", now_ns)

    cdef void find_heard(self, int64_t now_ns) noexcept:
        self._is_deaf = False
        self._deaf_run = 0
        self._retry_ns = min(self._retry_ns, now_ns)

    cdef bint wants_partial(self, const Update *update) noexcept:
        if max(update.n_bids, update.n_asks) < min(self._publisher.depth, 20) or not self._has_diffs:
            return False
        if self.is_syncing():
            return True
        return (self.is_seated() and self.shadow is None and not self._is_shadowing and not self._parked_ns
                and self._is_horizon_thin(self._publisher.depth))

    cdef bint _is_horizon_thin(self, int64_t least) noexcept:
        """Fewer verified levels than `least`, on a side that a snapshot has cut off."""
        cdef int side
        for side in range(2):
            if not self.book.is_whole(side) and self.book.count_verified(side, least) < least:
                return True
        return False

    def snapshot_requested(self, int64_t now_ns):
        """The request leaves now: from here on diffs are kept for what it will bring."""
        self._is_in_flight = True
        self._requested_ns = now_ns
        if self._state == S_COLD:
            self.enter(S_SYNCING, b"start", now_ns)
        elif self.is_seated() and not self._parked_ns:
            self.buffer.clear()
            self._is_shadowing = True

    def snapshot_failed(self, str reason, int64_t now_ns):
        """No snapshot this time; asked again with growing pauses."""
        if reason not in SYMBOLS_OWN:
            self._attempts = min(self._attempts, MOST_ATTEMPTS)
        if self._is_shadowing:
            self.drop_shadow(now_ns)
        else:
            self.back_off(now_ns)
        self._publisher.event(now_ns, self.symbol, "snapshot_failed", reason=reason)

    def snapshot_refused(self, bint is_too_large, int64_t now_ns):
        """What came is no snapshot, or one that does not fit the digits."""
        if is_too_large:
            self.forget_digits()
        self.snapshot_failed("not a snapshot", now_ns)

    cdef void expire_request(self, int64_t now_ns) noexcept:
        """A request that has found no end is over."""
        if self._is_in_flight and now_ns - self._requested_ns > IN_FLIGHT_NS:
            self.snapshot_failed("no answer", now_ns)

    cdef int32_t least_limit(self, int32_t first_limit, int64_t now_ns) noexcept:
        """A snapshot of fewer levels does not seat this book: it answers a check, or comes too late for one."""
        return max(first_limit, CHECK_LIMIT + 1) if self.is_to_be_checked(now_ns) else min(first_limit, self._limit)

    cdef str answer_check(self, int64_t last_id, int64_t now_ns):
        """The cheap snapshot's answer to silence: a book that has missed nothing is good again."""
        cdef bint is_asked = self.is_to_be_checked(now_ns)
        self.drop_shadow(now_ns)
        if not is_asked:
            return "old"        # answered by a frame meanwhile; and it is nothing to replace a deeper book by
        if last_id != self.book.last_id and self._is_deaf:
            if last_id == self._deaf_id:        # two in a row: the venue rests, and its next snapshot is the book
                self.find_heard(now_ns)
                self.suspect(self._reason, now_ns, False)
                return "resync"
            self._deaf_id = last_id
            self._is_depth_silent = not self._is_lineless
            self.stay_deaf(now_ns)
            return "old"
        if last_id != self.book.last_id:
            if self.is_silent() and not self._is_lineless:
                self.find_deaf(self._reason, now_ns)
            else:
                self.suspect(self._reason, now_ns, False)
            return "resync"
        self.last_frame_ns = self._sure_ns = now_ns
        self._quiet_run = min(self._quiet_run + 1, <int32_t>LONGEST_RUN)
        self._still_run = min(self._still_run + 1, <int32_t>LONGEST_RUN)
        if self._trade_ns:
            self._vain_run = min(self._vain_run + 1, <int32_t>LONGEST_RUN)
            self._trade_ns = 0
        self.find_heard(now_ns)
        self.enter(S_LIVE, b"quiet", now_ns)
        return "quiet"

    cdef Status rescale(self, int price_digits, int qty_digits) noexcept:
        # The book first: a shadow with digits of its own would be swapped in under wrong prices.
        cdef Status status = Trust.rescale(self, price_digits, qty_digits)
        if status == OK and self.shadow is not None and self.shadow.rescale(price_digits, qty_digits) != OK:
            self.shadow.clear()         # it never meets the book, and is given up with the next diff
        return status

    cdef void forget_digits(self) noexcept:
        """A snapshot does not fit the learned digits: one odd fraction must not keep a book from ever being seated."""
        if not self.is_syncing() or (self.instrument.price_digits == self._given_price_digits
                                     and self.instrument.qty_digits == self._given_qty_digits):
            return
        self.book = Book(self._given_price_digits, self._given_qty_digits, self._max_levels)
        self.window = Window(self._given_price_digits, self._given_qty_digits)
        self._proof = Proof()
        self._is_seeded = False
        self.buffer.clear()
        self.agg_trades.forget_figures()
        self.single_trades.forget_figures()
        memset(&self._bbo, 0, sizeof(Bbo))
        self.instrument.price_digits = self._given_price_digits
        self.instrument.qty_digits = self._given_qty_digits
