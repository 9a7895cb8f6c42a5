"""Which frames a symbol's book takes, from which line, and when it needs a snapshot.

The rule that decides about a diff is the Book's; what follows from its answer is decided here:

* while a snapshot is awaited raw diffs are held, and fed again once it is there;
* a gap that another line may still fill is parked for a second, any other makes the book SUSPECT;
* ids that start over would freeze a book for ever (all its diffs are old), so that is told apart;
* a snapshot for a good book goes to a shadow, which takes over when both stand at the same id.

Nothing here reads a clock, opens a socket or knows JSON.
"""

from libc.string cimport strcmp

from mdfeed._pulse cimport is_odd_silence
from mdfeed._slots cimport Slot

from mdfeed._parse import KIND

cdef enum:
    FIRST_RETRY_MS = 500
    LAST_RETRY_MS = 30_000
    CHECK_LIMIT = 5                 # levels of the cheapest snapshot: its id tells silence from deafness

cdef int64_t S = 1_000_000_000
cdef int64_t PARK_NS = 1 * S        # how long a gap waits for the other line to fill it
cdef int64_t FRESH_NS = 5 * S
cdef int64_t STABLE_NS = 10 * S     # a book that was good so long starts its retries anew
cdef int64_t FIRST_DIFF_NS = 1 * S  # a quiet symbol's snapshot is asked for without waiting for a diff
cdef int64_t SILENT_NS = 3 * S      # bookTickers beyond the book for so long, and no diff: one is due within 0.5 s
cdef int64_t ODD_NS = 60 * S        # a stream that is no diffs may be silent so long whatever its pace
cdef int64_t IN_FLIGHT_NS = 60 * S  # a snapshot request without any answer is given up


cdef class Track(Trust):
    """One symbol's way through the feed. Created by Feed.add."""

    def __init__(self, str symbol, publisher, FrameBuffer buffer not None, fuse, int32_t patience,
                 int32_t max_levels):
        Trust.__init__(self, symbol, publisher, fuse, patience, max_levels)
        self.buffer = buffer
        self.slots = Slots()

    # ---- frames

    cdef bint on_diff(self, int32_t line, const Message *message, const char *data, int32_t size,
                      int64_t recv_ns) noexcept:
        cdef const Update *update = &message.update
        cdef Slot *slot = self.slots.of(line)
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
        slot.diffs += 1
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
            # A line that lags brings old ids with old times; ids that started over come with new times.
            if line_id and update.prev_id == line_id and message.ts_event > self.book.ts_event:
                slot.old_run += 1
                if self.slots.have_ids_restarted():
                    self.suspect(b"ids_restarted", recv_ns, False)
            else:
                slot.old_run = 0
        elif status == GAP:
            if self._parked_ns == 0:
                if self.slots.can_another_fill(line, update, recv_ns, FRESH_NS):
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

    cdef Status rescale(self, int price_digits, int qty_digits) noexcept:
        if self.shadow is not None and self.shadow.rescale(price_digits, qty_digits) != OK:
            self.shadow = None
        return Trust.rescale(self, price_digits, qty_digits)

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
            self.back_off(now_ns)
        Trust.suspect(self, reason, now_ns, keep_buffer)

    cdef void join(self, int64_t now_ns) noexcept:
        """The book stands at a snapshot and has taken the held diffs: it is exact."""
        self._joined_ns = now_ns
        self._ahead_ns = 0
        self._is_in_flight = False
        self.last_frame_ns = max(self.last_frame_ns, now_ns)
        if self.book.is_crossed():
            self.crossed += 1
            self.suspect(b"crossed", now_ns, False)
        elif self._is_lineless:
            self.enter(S_STALE, b"line_lost", now_ns)
        else:
            self.enter(S_LIVE, b"proof_unreliable" if self._fuse.is_blown else b"synced", now_ns)
            self.publish(now_ns)

    cdef void unpark(self, int64_t now_ns) noexcept:
        """Held diffs were fed again: the gap is closed when nothing is left of them."""
        if self.buffer.count == 0:
            self._parked_ns = 0
        if self.is_good() and not self.book.is_crossed():
            self.publish(now_ns)

    cdef void start_shadow(self):
        self._is_in_flight = False
        self._is_shadowing = True       # held diffs go to the shadow from here on
        self.shadow = Book(self.book.price_digits, self.book.qty_digits, self._max_levels)

    cdef str place_shadow(self, int64_t now_ns, Status status):
        """The shadow is loaded and has taken the held diffs; what comes now goes to both until they meet."""
        self._is_shadowing = False
        self.buffer.clear()
        return self.settle_shadow(now_ns, status)

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
        self._publisher.event(now_ns, self.symbol, "reseated", ghosts=ghosts, last_update_id=self.book.last_id)
        return "swapped"

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

    def want(self, int64_t now_ns, int32_t limit):
        """(reason, limit, priority) of the snapshot that is wanted now, smaller priority first; None when none is."""
        if self._is_in_flight or now_ns < self._retry_ns:
            return None
        if self._state == S_SUSPECT:
            return (self.reason, limit, 0)
        if self._state == S_SYNCING:
            return (self.reason, limit, 1)
        if self._state == S_COLD and self._opened_ns and now_ns - self._opened_ns >= FIRST_DIFF_NS:
            return ("start", limit, 2)
        if self._state == S_STALE and strcmp(self._reason, b"silent") == 0:
            return ("silent", CHECK_LIMIT, 3)
        if self.is_good() and self.shadow is None and self._has_diffs and self._is_horizon_thin():
            return ("horizon", limit, 4)
        return None

    cdef bint _is_horizon_thin(self) noexcept:
        """Fewer verified levels than twice what is published, on a side that a snapshot has cut off."""
        cdef int64_t least = 2 * self._publisher.depth
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
        elif self.is_good():
            self.buffer.clear()
            self._is_shadowing = True

    def snapshot_failed(self, str reason, int64_t now_ns):
        """No snapshot this time; asked again with growing pauses."""
        if self._is_shadowing:
            self.drop_shadow(now_ns)
        else:
            self.back_off(now_ns)
        self._publisher.event(now_ns, self.symbol, "snapshot_failed", reason=reason)

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
            self.gaps += 1
            self.suspect(b"gap", now_ns, True)
        if self._ahead_ns and self._pulses[<int>K_BBO].last_ns - since_ns > SILENT_NS:
            if self.is_good() and self._has_diffs and not self._parked_ns and not self._fuse.is_blown:
                self._is_depth_silent = True
                self.suspect(b"depth_silent", now_ns, False)
        if self.is_good() and now_ns - self.last_frame_ns > self.patience_ns():
            self.enter(S_STALE, b"silent", now_ns)
        if self._is_in_flight and now_ns - self._requested_ns > IN_FLIGHT_NS:
            self.snapshot_failed("no answer", now_ns)
        self.age(now_ns)

    def is_quiet_at(self, int64_t last_id, int64_t now_ns):
        """The cheap snapshot's answer to silence: True when the book has missed nothing, and then it is good again."""
        self._is_in_flight = False
        if last_id != self.book.last_id or self._is_lineless:
            self.suspect(b"silent", now_ns, False)
            return False
        self.last_frame_ns = now_ns
        self._quiet_run = min(self._quiet_run + 1, 6)
        self.enter(S_LIVE, b"quiet", now_ns)
        return True

    cdef int64_t patience_ns(self) noexcept nogil:
        """How long without a frame is still fresh; longer after each check that found that nothing had changed."""
        return max(FRESH_NS, <int64_t>(10 * self._cadence_ns)) << self._quiet_run
