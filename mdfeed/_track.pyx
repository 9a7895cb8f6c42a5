"""Which frames a symbol's book takes, and from which line.

The rule that decides about a diff is the Book's; what follows from its answer is decided here:

* while a snapshot is awaited raw diffs are held, and fed again once it is there;
* a gap that another line may still fill is parked for a second, any other makes the book SUSPECT;
* ids that start over would freeze a book for ever (all its diffs are old), so that is told apart.

Nothing here reads a clock, opens a socket or knows JSON.
"""

from libc.string cimport strcmp

from mdfeed._pulse cimport Pulse, is_odd_silence, pause_beat
from mdfeed._slots cimport Slot

from mdfeed._parse import KIND

cdef enum:
    FALLEN_RUN = 3                  # diffs of lower ids than the line has shown, and not one
    LINE_ATTEMPTS = 1               # what was lost on a line waits no longer than the second retry

cdef int64_t S = 1_000_000_000
cdef int64_t PARK_NS = 1 * S        # how long a gap waits for the other line to fill it
cdef int64_t FRESH_NS = 5 * S
cdef int64_t MUTE_NS = 15 * S      # no longer is a symbol's silence put down to its line
cdef int64_t STABLE_NS = 10 * S     # a book that was good so long starts its retries anew
cdef int64_t SILENT_NS = 3 * S      # bookTickers beyond the book for so long, and no diff: one is due within 0.5 s
cdef int64_t RESTART_NS = 1 * S     # an older id so much later is of ids that have started over
cdef int64_t ODD_NS = 60 * S        # a stream that is no diffs may be silent so long whatever its pace
cdef int64_t PAUSE_NS = 60 * S      # longer pauses of the diffs teach no more patience than this one


cdef class Track(Seat):
    """One symbol's way through the feed. Created by Feed.add."""

    def __init__(self, str symbol, publisher, FrameBuffer buffer not None, fuse, int32_t patience,
                 int32_t max_levels):
        Seat.__init__(self, symbol, publisher, buffer, fuse, patience, max_levels)
        self.slots = Slots()

    # ---- frames

    cdef void _touch(self, const Message *message, int64_t recv_ns) noexcept:
        Seat._touch(self, message, recv_ns)
        # Silence ends with any frame, that of the diffs with a diff; what a lost line has cost, only one can tell.
        if self._state == S_STALE and strcmp(self._reason, b"silent") == 0:
            if message.kind != K_DIFF and (self._is_deaf or self.is_depth_late(recv_ns)):
                self.enter(S_STALE, b"depth_silent", recv_ns)
            else:
                self.enter(S_LIVE, b"resumed", recv_ns)

    cdef bint on_diff(self, int32_t line, const Message *message, const char *data, int32_t size,
                      int64_t recv_ns) noexcept:
        cdef const Update *update = &message.update
        cdef Slot *slot = self.slots.of(line)
        cdef int64_t line_id = slot.last_id, fallen_from = slot.fallen_from
        cdef bint is_newer = message.ts_event > slot.newest_ts
        cdef bint is_chained = line_id != 0 and update.prev_id == line_id
        cdef Status status
        if self.is_silent():
            pause_beat(&self._pulses[<int>K_DIFF])      # nobody knows yet whether it was one of the book's
        self._touch(message, recv_ns)
        self._has_diffs = True
        self._is_lineless = False
        self._trade_ns = 0
        self._still_run = self._vain_run = 0
        if self._is_deaf:
            self.find_heard(recv_ns)
        slot.last_id = self._newest_id = update.last_id
        self._newest_ts = message.ts_event
        slot.last_ns = recv_ns
        if is_newer:
            slot.newest_ts = message.ts_event
        if update.last_id < line_id and fallen_from == 0:
            slot.fallen_from = line_id
            slot.old_run = 0
        elif update.last_id > fallen_from:
            slot.fallen_from = 0
        if self.is_syncing():
            # What is held of ids before they started over would never chain to a snapshot.
            if self._starts_over(slot, is_newer and update.last_id < line_id):
                self.buffer.clear()
            if self._state == S_COLD:
                self.enter(S_SYNCING, b"start", recv_ns)
            self._hold(line, data, size, recv_ns)
            return False
        if self._is_shadowing:
            self._hold(line, data, size, recv_ns)
        if (fallen_from or slot.late_run and is_chained) and update.prev_id < self.book.last_id < update.last_id:
            # This line's ids have started over and are about to reach the book's: the next would apply by chance.
            self.suspect(b"ids_restarted", recv_ns, False)
            self._hold(line, data, size, recv_ns)
            return False
        status = self.book.apply(update)
        slot.diffs += 1
        if message.ts_event:
            slot.delay_ns += recv_ns - message.ts_event
        if status == APPLIED:
            slot.wins += 1
            if line_id and update.prev_id < line_id:
                self.overlaps += 1
            self._moved(message, recv_ns, False)
            slot.behind = 0
            return self._parked_ns != 0
        if status == OLD:
            self.stale += 1
            slot.behind = 0
            if self._is_restart(slot, message, is_chained, recv_ns):
                self.suspect(b"ids_restarted", recv_ns, False)
        elif status == GAP:
            if self._parked_ns == 0:
                if self.slots.can_another_fill(line, update, recv_ns, FRESH_NS):
                    self.drop_shadow(recv_ns)
                    self._parked_ns = recv_ns
                    self._gap_line = line
                    self._gap_id = update.prev_id
                else:
                    self._tell_gap(line, update.prev_id, recv_ns)
                    self.suspect(b"gap", recv_ns, False)
            self._hold(line, data, size, recv_ns)
        else:
            self.suspect(b"no_memory", recv_ns, False)
        return False

    cdef bint _starts_over(self, Slot *slot, bint has_fallen_late) noexcept nogil:
        """Of a line's diffs while a snapshot is awaited: whether the ids before this one are of another past."""
        # A straggler is older in id and time, and alone.
        slot.old_run = slot.old_run + 1 if slot.fallen_from else 0
        if not has_fallen_late and slot.old_run < FALLEN_RUN:
            return False
        slot.fallen_from = slot.old_run = 0
        return True

    cdef bint _is_restart(self, Slot *slot, const Message *message, bint is_chained, int64_t recv_ns) noexcept nogil:
        """Of a diff that is old to the book: whether the ids have started over."""
        if message.update.last_id == self.book.last_id:     # level with the book, by another line
            slot.old_run = slot.late_run = 0
            return False
        if slot.old_run == 0:
            slot.old_since_ns = recv_ns
            slot.old_lag_ns = self.book.ts_event - message.ts_event
        slot.old_run += 1
        # A line that lags brings old ids with old times; ids that started over come with new times, mostly.
        slot.late_run = slot.late_run + 1 if is_chained and message.ts_event > self.book.ts_event else 0
        return self.slots.have_ids_restarted(recv_ns)

    cdef Status on_held(self, const Message *message, int64_t recv_ns) noexcept:
        cdef Status status
        if self._is_shadowing:
            return self.shadow.apply(&message.update)
        status = self.book.apply(&message.update)
        if status == APPLIED:
            self._moved(message, recv_ns, True)
        elif status == OLD:
            self.stale += 1
        elif status == GAP:
            self._gap_id = message.update.prev_id
        return status

    cdef void _moved(self, const Message *message, int64_t recv_ns, bint is_held) noexcept:
        """The book has taken a diff: prove it, distrust it, publish it."""
        cdef Top top = self.book.top()
        cdef int64_t matches = self._proof.match, mismatches = self._proof.mismatch
        self.applied += 1
        self.last_update_ns = recv_ns
        self.book.ts_event = message.ts_event
        self.book.recv_ns = recv_ns
        self._ahead_ns = recv_ns if self._bbo.update_id > self.book.last_id else 0
        self.slots.moved()
        if self.shadow is not None:
            self.settle_shadow(recv_ns, self.shadow.apply(&message.update))
        self._proof.applied(message.update.last_id, &top)
        if self.book.is_crossed():
            self.crossed += 1
            self._crossed_run += 1
            if self._crossed_run >= self._patience and not is_held:
                self.suspect(b"crossed", recv_ns, False)
            return
        self._crossed_run = 0
        if is_held:
            return
        if self.is_blind():
            if self._blind_ns == 0:
                self._blind_ns = recv_ns
            return
        self._blind_ns = 0
        if self._state == S_STALE:
            self.enter(S_LIVE, b"resumed", recv_ns)
        self._weigh_proof(recv_ns, matches, mismatches)
        if self.is_good():
            self.publish(recv_ns)

    cdef void on_partial(self, const Message *message, int64_t recv_ns) noexcept:
        # A symbol with diffs has no need of it: they say the same and more.
        cdef Status status
        self._touch(message, recv_ns)
        if self._has_diffs:
            return
        status = self.book.replace_top(&message.update)
        if status == OLD and message.ts_event - self.book.ts_event > RESTART_NS:
            self.book.clear()           # not a straggler: its ids have started over
            status = self.book.replace_top(&message.update)
        if status != APPLIED:
            return
        self.applied += 1
        self.last_update_ns = self.book.recv_ns = recv_ns
        self.book.ts_event = message.ts_event
        if self.book.is_crossed():
            self.crossed += 1
            return
        if not self.is_good():
            self.enter(S_LIVE, b"partial_depth", recv_ns)
        self.publish(recv_ns)

    cdef void _hold(self, int32_t line, const char *data, int32_t size, int64_t recv_ns) noexcept:
        if self.buffer.push(line, data, size, recv_ns):
            return
        # What is held no longer chains once a frame is missing: all of it goes, and it starts over.
        self.buffer.clear()
        self.drop_shadow(recv_ns)
        if self._parked_ns:
            self._tell_gap(self._gap_line, self._gap_id, recv_ns)
            self.suspect(b"buffer_full", recv_ns, False)
        self._publisher.event(recv_ns, self.symbol, "buffer_full")

    cdef void _tell_gap(self, int32_t line, int64_t got_id, int64_t now_ns) noexcept:
        """A diff continues `got_id`, the book stands elsewhere, and nothing fills what is between."""
        self.gaps += 1
        self._publisher.event(now_ns, self.symbol, "gap", line=self._publisher.line_names.get(line, ""),
                              expected_id=self.book.last_id, got_id=got_id)

    # ---- snapshots

    cdef void suspect(self, const char *reason, int64_t now_ns, bint keep_buffer) noexcept:
        self._parked_ns = 0
        self.shadow = None
        self._is_shadowing = False
        if not keep_buffer:
            self.buffer.clear()
        self.slots.forget_old_runs()
        if now_ns - self._joined_ns > STABLE_NS:
            self._attempts = 0
            self._retry_ns = now_ns
            self._is_in_flight = False
        else:
            # What a line does to a book says nothing against the next snapshot: only a venue that contradicts itself
            # is asked ever more seldom.
            if strcmp(reason, b"proof_mismatch") != 0 and strcmp(reason, b"crossed") != 0:
                self._attempts = min(self._attempts, LINE_ATTEMPTS)
            self.back_off(now_ns)
        Seat.suspect(self, reason, now_ns, keep_buffer)

    cdef void unpark(self, int64_t now_ns) noexcept:
        """Held diffs were fed again: the gap is closed when nothing is left of them."""
        if self.book.last_id == 0:
            self.suspect(b"no_memory", now_ns, False)
        if self.buffer.count == 0:
            self._parked_ns = 0
        if self.is_good() and not self.book.is_crossed():
            self.publish(now_ns)

    # ---- lines

    def opened(self, int32_t line, int64_t now_ns):
        """A line that carries this symbol's diffs has been subscribed."""
        self.slots.of(line).last_ns = now_ns
        self._is_lineless = False
        if self._opened_ns == 0:
            self._opened_ns = now_ns

    def lost(self, int32_t line, int64_t now_ns):
        """The line is gone: its share of the evidence goes with it."""
        cdef int32_t left = 0
        cdef bint was_ours = self.slots.free(line, &left)
        self._proof.lost(line)
        if left or not was_ours:
            return
        self.disconnects += 1
        self._opened_ns = 0
        self._is_lineless = True
        self._newest_id = 0
        pause_beat(&self._pulses[<int>K_DIFF])
        self.drop_shadow(now_ns)
        if self._parked_ns:
            self._tell_gap(self._gap_line, self._gap_id, now_ns)
            self.suspect(b"gap", now_ns, False)
        elif self.is_good() or self._state == S_STALE:
            self.enter(S_STALE, b"line_lost", now_ns)
        elif self.is_syncing():
            self.buffer.clear()     # what comes after a reconnect does not chain to it
            self.enter(S_COLD, b"line_lost", now_ns)

    def alarms(self, int64_t now_ns):
        """(kind, line) of streams that should have spoken by now; line -1: whichever carries them."""
        cdef int32_t kind
        found = [(KIND[<int>K_DIFF], line) for line in self.slots.lagging(now_ns)]
        if self._is_depth_silent:
            self._is_depth_silent = False
            found.append((KIND[<int>K_DIFF], -1))
        if now_ns - self._pulses[<int>K_DIFF].last_ns < FRESH_NS:
            for kind in range(<int>K_BBO, <int>K_MARK_PRICE):
                if is_odd_silence(&self._pulses[kind], now_ns, ODD_NS):
                    found.append((KIND[kind], -1))
        return found

    # ---- time

    def tick(self, int64_t now_ns):
        """Once a second or so: what follows from time alone."""
        cdef int64_t since_ns = max(self._ahead_ns, self._pulses[<int>K_DIFF].last_ns)
        if self._parked_ns and now_ns - self._parked_ns > PARK_NS:
            self._tell_gap(self._gap_line, self._gap_id, now_ns)
            self.suspect(b"gap", now_ns, True)
        if self._ahead_ns and self._pulses[<int>K_BBO].last_ns - since_ns > SILENT_NS:
            if self.is_good() and self._has_diffs and not self._parked_ns and not self._fuse.is_blown:
                self.find_deaf(b"depth_silent", now_ns)
        self.watch_shadow(now_ns)
        if self.is_good():
            if now_ns - self.last_frame_ns > self.patience_ns():
                self.enter(S_STALE, b"silent", now_ns)
            elif self.is_depth_late(now_ns):
                self.enter(S_STALE, b"depth_silent", now_ns)
        self.expire_request(now_ns)
        self.age(now_ns)

    cdef bint is_line_mute(self, const int64_t *heard, int64_t now_ns) noexcept nogil:
        """A silent symbol whose lines have brought nothing of any other either: not yet this symbol's own trouble.

        A dead connection is found out within ten seconds; until then a check of each of its symbols, and what follows
        from it, would use up the weight that they need once it is back.
        """
        cdef int64_t since_ns = self.last_frame_ns
        if not self.is_silent():
            return False
        if strcmp(self._reason, b"silent") != 0:
            since_ns = max(self._pulses[<int>K_DIFF].last_ns, self._sure_ns)
        return now_ns - since_ns < MUTE_NS and self.slots.heard(heard) <= since_ns + S

    cdef bint is_depth_late(self, int64_t now_ns) noexcept nogil:
        """The symbol's other streams go on, and its diffs are silent for longer than their pace, or a trade, explains.

        A trade changes the book, so that a diff follows it; what does not, may go on beside a book that rests.
        """
        cdef const Pulse *pulse = &self._pulses[<int>K_DIFF]
        cdef int64_t since_ns = max(pulse.last_ns, self._sure_ns)
        if self._opened_ns == 0 and not self._has_diffs:
            return False
        if self._parked_ns or self.last_frame_ns - since_ns < S:
            return False
        if self._trade_ns and now_ns - self._trade_ns > FRESH_NS << self._vain_run:
            return True
        return now_ns - since_ns > max(
            FRESH_NS, <int64_t>(10 * pulse.mean_ns), 2 * min(<int64_t>pulse.peak_ns, PAUSE_NS)) << self._still_run

    cdef int64_t patience_ns(self) noexcept nogil:
        """How long without a frame is still fresh; longer after each check that found that nothing had changed."""
        return max(FRESH_NS, <int64_t>(10 * self._cadence_ns)) << self._quiet_run

    # ---- for those who look

    @property
    def is_carried(self):
        """Whether a line that carries the diffs is open."""
        return self._opened_ns != 0 and not self._is_lineless

    @property
    def frames_by_kind(self):
        """Frames of the symbol, by event type."""
        cdef int i
        return {KIND[i]: self._pulses[i].frames for i in range(1, K_COUNT) if self._pulses[i].frames}

    @property
    def silence_limit_ns(self):
        """A symbol that is good and silent for so long becomes STALE."""
        return self.patience_ns()

    @property
    def memory_bytes(self):
        """Bytes held of this symbol, by what they are for."""
        return {
            "books": self.book.memory_bytes + (0 if self.shadow is None else self.shadow.memory_bytes),
            "windows": self.window.memory_bytes,
            "proofs": self._proof.memory_bytes,
            "buffers": self.buffer.memory_bytes,
        }
