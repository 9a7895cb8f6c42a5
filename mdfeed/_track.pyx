"""Which frames a symbol's book takes, and from which line.

The rule that decides about a diff is the Book's; what follows from its answer is decided here:

* while a snapshot is awaited raw diffs are held, and fed again once it is there;
* a gap that another line may still fill is parked for a second, any other makes the book SUSPECT;
* ids that start over would freeze a book for ever (all its diffs are old), so that is told apart.

Nothing here reads a clock, opens a socket or knows JSON.
"""

from libc.string cimport memset

cdef enum:
    OLD_RUN = 3                     # chained but old diffs on every line: the venue's ids started over

cdef int64_t S = 1_000_000_000
cdef int64_t PARK_NS = 1 * S        # how long a gap waits for the other line to fill it
cdef int64_t FRESH_NS = 5 * S
cdef int64_t STABLE_NS = 10 * S     # a book that was good so long starts its retries anew


cdef class Track(Seat):
    """One symbol's way through the feed. Created by Feed.add."""

    def __init__(self, str symbol, publisher, FrameBuffer buffer not None, fuse, int32_t patience,
                 int32_t max_levels):
        cdef int32_t i
        Seat.__init__(self, symbol, publisher, buffer, fuse, patience, max_levels)
        for i in range(SLOTS):
            self._slots[i].line = -1

    # ---- frames

    cdef bint on_diff(self, int32_t line, const Message *message, const char *data, int32_t size,
                      int64_t recv_ns) noexcept:
        cdef const Update *update = &message.update
        cdef Slot *slot = self._slot(line)
        cdef int64_t line_id = slot.last_id
        cdef Status status
        self._touch(message, recv_ns)
        self._has_diffs = True
        self._is_lineless = False
        slot.last_id = update.last_id
        slot.last_ns = recv_ns
        if self.is_syncing():
            if self._state == S_COLD:
                self.enter(S_SYNCING, b"start", recv_ns)
            self._hold(line, data, size, recv_ns)
            return False
        if self._is_shadowing:
            self._hold(line, data, size, recv_ns)
        status = self.book.apply(update)
        if status == APPLIED:
            if line_id and update.prev_id < line_id:
                self.overlaps += 1
            self._moved(message, recv_ns, False)
            return self._parked_ns != 0
        if status == OLD:
            self.stale += 1
            # A line that lags brings old ids with old times; ids that started over come with new times.
            if line_id and update.prev_id == line_id and message.ts_event > self.book.ts_event:
                slot.old_run += 1
                if self._have_ids_restarted():
                    self.suspect(b"ids_restarted", recv_ns, False)
            else:
                slot.old_run = 0
        elif status == GAP:
            if self._parked_ns == 0:
                if self._can_another_line_fill(line, update, recv_ns):
                    self.drop_shadow(recv_ns)
                    self._parked_ns = recv_ns
                else:
                    self.gaps += 1
                    self.suspect(b"gap", recv_ns, False)
            self._hold(line, data, size, recv_ns)
        else:
            self.suspect(b"no_memory", recv_ns, False)
        return False

    cdef Status on_held(self, const Message *message, int64_t recv_ns) noexcept:
        cdef Status status
        if self._is_shadowing:
            return self.shadow.apply(&message.update)
        status = self.book.apply(&message.update)
        if status == APPLIED:
            self._moved(message, recv_ns, True)
        elif status == OLD:
            self.stale += 1
        return status

    cdef void _moved(self, const Message *message, int64_t recv_ns, bint is_held) noexcept:
        """The book has taken a diff: prove it, distrust it, publish it."""
        cdef Top top = self.book.top()
        cdef int64_t matches = self._proof.match, mismatches = self._proof.mismatch
        cdef int32_t i
        self.applied += 1
        self.last_update_ns = recv_ns
        self.book.ts_event = message.ts_event
        self.book.recv_ns = recv_ns
        for i in range(SLOTS):
            self._slots[i].old_run = 0
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
        if self._state == S_STALE:
            self.enter(S_LIVE, b"resumed", recv_ns)
        self._weigh_proof(recv_ns, matches, mismatches)
        if self.is_good():
            self.publish(recv_ns)

    cdef void on_partial(self, const Message *message, int64_t recv_ns) noexcept:
        # A symbol with diffs has no need of it: they say the same and more.
        self._touch(message, recv_ns)
        if self._has_diffs or self.book.replace_top(&message.update) != APPLIED:
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
        self._publisher.event(recv_ns, self.symbol, "buffer_full")
        self.drop_shadow(recv_ns)
        if self._parked_ns:
            self.gaps += 1
            self.suspect(b"buffer_full", recv_ns, False)

    # ---- snapshots

    cdef void suspect(self, const char *reason, int64_t now_ns, bint keep_buffer) noexcept:
        cdef int32_t i
        self._parked_ns = 0
        self.shadow = None
        self._is_shadowing = False
        if not keep_buffer:
            self.buffer.clear()
        for i in range(SLOTS):
            self._slots[i].old_run = 0
        if now_ns - self._joined_ns > STABLE_NS:
            self._attempts = 0
            self._retry_ns = now_ns
            self._is_in_flight = False
        else:
            self.back_off(now_ns)
        Seat.suspect(self, reason, now_ns, keep_buffer)

    cdef void unpark(self, int64_t now_ns) noexcept:
        """Held diffs were fed again: the gap is closed when nothing is left of them."""
        if self.buffer.count == 0:
            self._parked_ns = 0
        if self.is_good() and not self.book.is_crossed():
            self.publish(now_ns)

    # ---- lines

    cdef Slot *_slot(self, int32_t line) noexcept nogil:
        """This line's slot; a new line takes a free one, else the one that was silent longest."""
        cdef int32_t i
        cdef Slot *room = &self._slots[0]
        for i in range(SLOTS):
            if self._slots[i].line == line:
                return &self._slots[i]
            if room.line >= 0 and (self._slots[i].line < 0 or self._slots[i].last_ns < room.last_ns):
                room = &self._slots[i]
        memset(room, 0, sizeof(Slot))
        room.line = line
        return room

    cdef bint _can_another_line_fill(self, int32_t line, const Update *update, int64_t now_ns) noexcept nogil:
        """Another line carries these diffs, has delivered lately, and is not yet beyond the gap."""
        cdef int32_t i
        cdef Slot *slot
        for i in range(SLOTS):
            slot = &self._slots[i]
            if slot.line >= 0 and slot.line != line and slot.last_id and slot.last_id < update.prev_id:
                if now_ns - slot.last_ns < FRESH_NS:
                    return True
        return False

    cdef bint _have_ids_restarted(self) noexcept nogil:
        cdef int32_t i
        for i in range(SLOTS):
            if self._slots[i].line >= 0 and self._slots[i].last_id and self._slots[i].old_run < OLD_RUN:
                return False
        return True

    def opened(self, int32_t line, int64_t now_ns):
        """A line that carries this symbol's diffs has been subscribed."""
        self._slot(line)
        self._is_lineless = False
        if self._opened_ns == 0:
            self._opened_ns = now_ns

    def lost(self, int32_t line, int64_t now_ns):
        """The line is gone: its share of the evidence goes with it."""
        cdef int32_t i, left = 0
        cdef bint was_ours = False
        for i in range(SLOTS):
            if self._slots[i].line == line:
                self._slots[i].line = -1
                was_ours = True
            elif self._slots[i].line >= 0:
                left += 1
        self._proof.lost(line)
        if left or not was_ours:
            return
        self._opened_ns = 0
        self._is_lineless = True
        self.drop_shadow(now_ns)
        if self._parked_ns:
            self.gaps += 1
            self.suspect(b"gap", now_ns, False)
        elif self.is_good():
            self.enter(S_STALE, b"line_lost", now_ns)
        elif self.is_syncing():
            self.buffer.clear()     # what comes after a reconnect does not chain to it
            self.enter(S_COLD, b"line_lost", now_ns)

    # ---- time

    def tick(self, int64_t now_ns):
        """Once a second or so: what follows from time alone."""
        if self._parked_ns and now_ns - self._parked_ns > PARK_NS:
            self.gaps += 1
            self.suspect(b"gap", now_ns, True)
        if self.is_good() and now_ns - self.last_frame_ns > self.patience_ns():
            self.enter(S_STALE, b"silent", now_ns)
        self.expire_request(now_ns)
        self.age(now_ns)

    cdef int64_t patience_ns(self) noexcept nogil:
        """How long without a frame is still fresh; longer after each check that found that nothing had changed."""
        return max(FRESH_NS, <int64_t>(10 * self._cadence_ns)) << self._quiet_run
