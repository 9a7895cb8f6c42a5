"""The heart: frames in, exact books and publications out. No socket, no clock, no thread.

    receive(line, frame, recv_ns)       each text frame of each line
    opened / lost(line, now_ns)         a line was subscribed, a line is gone
    wanted(now_ns)                      which snapshots should be fetched, most urgent first
    snapshot_requested, snapshot, snapshot_failed       what became of them
    tick(now_ns)                        once a second or so

That is the whole contract between the heart and the world. Time is always an argument (UTC nanoseconds), so
a capture that holds frames, line events and ticks gives the same publications each time it is fed.
"""

from collections import deque

from libc.stdint cimport INT64_MAX
from libc.string cimport memset

from mdfeed._sync cimport PADDING, FrameBuffer, Held, held_frame
from mdfeed._trust cimport SRC_DEPTH20, SRC_REST, SRC_WS_API

from mdfeed._fuse import Fuse
from mdfeed._parse import KIND, WHY
from mdfeed._races import Alarm, Race
from mdfeed._recall import Evidence
from mdfeed.errors import DecodeError

cdef int64_t TELL_BAD_NS = 10_000_000_000      # at most one event about undecodable frames in so long
cdef int64_t TESTIMONY_BYTES = 512 << 10       # of frames in one testimony
TESTIMONIES_KEPT = 4


cdef class Feed:
    """All symbols of one venue.

    venue           a mdfeed.venues.Venue; its name is kept
    outboxes        where publications go (mdfeed._encode.Outbox)
    depth           levels a side that are published
    max_levels      levels a side that a book keeps, farthest dropped first; 0: all
    buffer_bytes    raw frames that all symbols together may hold while they wait for snapshots
    snapshot_limit  levels a side that full snapshots are asked with
    first_limit     levels a side that a book without any is seated with, cheaply; a full one follows in a shadow
    audit_s         after so many seconds a good book is compared with a new snapshot, as spare weight allows
    recall_bytes    of newest raw frames that are kept for testimonies of contradicted books; 0: none
    """

    def __init__(self, venue, *, outboxes=(), int depth=20, int max_levels=0, int64_t buffer_bytes=64 << 20,
                 int snapshot_limit=1000, int first_limit=50, int audit_s=300, int64_t recall_bytes=0):
        self.venue = venue.name
        self._patience = venue.mismatch_patience
        self.instruments = Instruments()
        self._decoder = venue.decoder(self.instruments)
        self.publisher = Publisher(outboxes, depth)
        self.budget = Budget(buffer_bytes)
        self.tracks = {}
        self.fuse = Fuse(self.tracks.__len__)
        self.snapshot_limit = snapshot_limit
        self.first_limit = min(max(first_limit, depth), snapshot_limit)
        self.recall = Recall(recall_bytes) if recall_bytes else None
        self.testimonies = deque(maxlen=TESTIMONIES_KEPT)
        self.processing = Histogram()
        self.receive_to_write = Histogram()
        self._max_levels, self._audit_ns = max_levels, audit_s * <int64_t>1_000_000_000
        self._by_index = []
        self._line_names = self.publisher.line_names
        self._bad_told_ns = -TELL_BAD_NS
        self._least_delay_ns = INT64_MAX
        self._races = {}

    # ---- symbols

    def add(self, str symbol, int price_digits=0, int qty_digits=0):
        """Follow a symbol. Digits are those of tickSize and stepSize where known; longer fractions grow them."""
        cdef int32_t index = self.instruments.add(symbol, price_digits, qty_digits)
        cdef Track track = Track(symbol, self.publisher, FrameBuffer(self.budget), self.fuse,
                                 self._patience, self._max_levels)
        track.instrument = self.instruments.at(index)
        track.set_clock_offset(self._clock_offset_ns)
        track.rescale(track.instrument.price_digits, track.instrument.qty_digits)
        track.begin(price_digits, qty_digits)
        while len(self._by_index) <= index:
            self._by_index.append(None)
        self._by_index[index] = track
        self.tracks[symbol] = track
        return track

    def remove(self, str symbol, int64_t now_ns):
        """Stop following a symbol: its key is withdrawn, its frames are ignored from now on."""
        cdef Track track = self.tracks.pop(symbol)
        self.instruments.remove(symbol)
        self._by_index[track.instrument.index] = None
        track.enter(S_COLD, b"removed", now_ns)
        track.leave()
        self.publisher.event(now_ns, symbol, "removed")

    def attach(self, outbox):
        """One more place where publications go, from now on."""
        self.publisher.outboxes.append(outbox)

    # ---- lines

    def open_line(self, str name, streams=(), int64_t now_ns=0):
        """A connection is subscribed to `streams` ("btcusdt@depth@100ms"). Its number, new for each connection."""
        cdef int32_t line = self._line_count
        cdef Track track
        self._line_count += 1
        self.publisher.opened(line, name, streams, now_ns)
        for stream in streams:
            symbol, _, channel = stream.partition("@")
            track = self.tracks.get(symbol.upper())
            if track is not None and channel.partition("@")[0] == "depth":
                track.opened(line, now_ns)
        return line

    def lost(self, int32_t line, int64_t now_ns, str reason=""):
        """A connection is gone; `reason` is a token such as "silent"."""
        cdef Track track
        name = self.publisher.lost(line, reason, now_ns)
        self._races[name] = self._race(line, self._races.get(name, Race()))
        for track in self.tracks.values():
            track.lost(line, now_ns)

    cdef object _race(self, int32_t line, race):
        cdef Track track
        for track in self.tracks.values():
            race = race.plus(track.slots.race(line))
        return race

    def alarms(self, int64_t now_ns):
        """Streams that should have spoken by now, by what they and the symbol's other streams have shown."""
        cdef Track track
        return [Alarm(track.symbol, kind, self._line_names.get(line, ""))
                for track in self.tracks.values() for kind, line in track.alarms(now_ns)]

    @property
    def races(self):
        """Race by line's name, over all its connections."""
        races = dict(self._races)
        for line, name in self._line_names.items():
            races[name] = self._race(line, races.get(name, Race()))
        return races

    @property
    def clock_offset_ns(self):
        """The venue's clock less ours, by which venue delays are corrected; 0 until told."""
        return self._clock_offset_ns

    @clock_offset_ns.setter
    def clock_offset_ns(self, int64_t offset_ns):
        cdef Track track
        self._clock_offset_ns = offset_ns
        for track in self.tracks.values():
            track.set_clock_offset(offset_ns)

    def take_least_delay(self):
        """The least receipt less event time of any frame since the last call, uncorrected; None without a frame."""
        cdef int64_t least_ns = self._least_delay_ns
        self._least_delay_ns = INT64_MAX
        return None if least_ns == INT64_MAX else least_ns

    # ---- frames

    def receive(self, int32_t line, bytes frame not None, int64_t recv_ns):
        """Take one text frame; returns the status's number (`_types.pxd`). Never raises for what a frame holds."""
        return <int>self.receive_raw(line, <const char *>frame, len(frame), len(frame), recv_ns)

    cdef Status receive_raw(self, int32_t line, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                            int64_t recv_ns) noexcept:
        cdef Message message
        cdef Track track
        cdef Status status = self._decode(data, size, capacity, &message)
        self.frame_bytes += size
        self._heard[line & (HEARD - 1)] = recv_ns
        if self.recall is not None:
            self.recall.push(data, size, recv_ns)
        if status == BAD or status == NO_MEMORY:
            self._tell_bad(line, data[:min(size, 80)], &message, recv_ns)
            return status
        self._kinds[<int>message.kind] += 1
        if status != OK:
            self._whys[<int>message.why] += 1
            return status
        if message.kind == K_SHUTDOWN:
            self.publisher.event(recv_ns, "", "shutdown", line=self._line_names.get(line, ""))
            return OK
        if message.instrument < 0:
            return OK
        track = self._by_index[message.instrument]
        if message.ts_event and recv_ns - message.ts_event < self._least_delay_ns:
            self._least_delay_ns = recv_ns - message.ts_event
        if message.kind == K_DIFF:
            if track.on_diff(line, &message, data, <int32_t>size, recv_ns):
                self._feed_held(track)
                track.unpark(recv_ns)
        elif message.kind == K_BBO:
            track.on_bbo(line, &message, recv_ns)
        elif message.kind == K_AGG_TRADE or message.kind == K_TRADE:
            track.on_trade(&message, recv_ns)
        elif message.kind == K_TICKER:
            track.on_ticker(&message, recv_ns)
        elif message.kind == K_PARTIAL:
            if track.wants_partial(&message.update):
                self._seat_by_partial(track, &message, recv_ns)
            else:
                track.on_partial(&message, recv_ns)
        if track._has_testimony:
            self._testify(track, recv_ns)
        return OK

    cdef void _testify(self, Track track, int64_t recv_ns) noexcept:
        track._has_testimony = False
        if self.recall is None:
            return
        self.testimonies.append(Evidence(
            track.symbol, recv_ns, track.last_mismatch, (track.book.price_digits, track.book.qty_digits),
            (track.book.last_id, track.book.levels("bids", 50), track.book.levels("asks", 50)),
            self.recall.frames_of(track.symbol, TESTIMONY_BYTES)))

    cdef Status _decode(self, const char *data, Py_ssize_t size, Py_ssize_t capacity, Message *message) noexcept:
        cdef Status status = self._decoder.decode(data, size, capacity, message)
        while status == NEEDS_DIGITS:
            status = self._grow_digits(message)
            if status == OK:
                status = self._decoder.decode(data, size, capacity, message)
        return status

    cdef Status _grow_digits(self, const Message *message) noexcept:
        """A longer fraction has come: everything of the symbol is scaled up at once, or the frame is BAD."""
        cdef Track track = self._by_index[message.instrument]
        cdef Instrument *instrument = track.instrument
        cdef int price_digits = max(instrument.price_digits, message.price_digits)
        cdef int qty_digits = max(instrument.qty_digits, message.qty_digits)
        if price_digits == instrument.price_digits and qty_digits == instrument.qty_digits:
            return BAD
        if track.rescale(price_digits, qty_digits) != OK:
            (<Message *>message).why = W_OVERFLOW
            return BAD
        instrument.price_digits = <int8_t>price_digits
        instrument.qty_digits = <int8_t>qty_digits
        return OK

    cdef Status _feed_held(self, Track track) noexcept:
        """Feed a track's held diffs again, until they are used up or one does not chain; what did not stays held."""
        cdef Message message
        cdef Held *held = track.buffer.at(0)
        cdef Py_ssize_t at = 0
        cdef Status status = OK
        while held != NULL:
            if self._decode(held_frame(held), held.size, held.size + PADDING, &message) == OK:
                status = track.on_held(&message, held.recv_ns)
                if status == GAP or (status == NO_MEMORY and not track.is_syncing()):
                    break
            at += held.stride
            held = track.buffer.at(at)
        track.buffer.drop(at)
        return status

    cdef void _tell_bad(self, int32_t line, bytes excerpt, const Message *message, int64_t recv_ns) noexcept:
        self._whys[<int>message.why] += 1
        if message.instrument >= 0:
            (<Track>self._by_index[message.instrument]).errors += 1
        self.last_bad = (WHY[<int>message.why], excerpt, recv_ns)
        if recv_ns - self._bad_told_ns >= TELL_BAD_NS:
            self._bad_told_ns = recv_ns
            self.publisher.event(recv_ns, "", "decode_error", line=self._line_names.get(line, ""),
                                 why=self.last_bad[0], excerpt=repr(excerpt))

    # ---- snapshots

    def wanted(self, int64_t now_ns):
        """Snapshots that should be fetched now, most urgent first."""
        cdef Track track
        wants, mute = [], []
        for track in self.tracks.values():
            want = track.want(now_ns, self.snapshot_limit, self.first_limit, self._audit_ns)
            if want is not None:
                (mute if track.is_line_mute(self._heard, now_ns) else wants).append(want)
        return sorted(wants if len(mute) > MUTE_FEW else wants + mute)

    def snapshot_requested(self, str symbol, int64_t now_ns):
        """The request for a symbol's snapshot leaves now; must come before the request, or the join may have a hole."""
        cdef Track track = self.tracks.get(symbol)
        if track is not None:
            track.snapshot_requested(now_ns)

    def snapshot_failed(self, str symbol, str reason, int64_t now_ns):
        """No snapshot this time."""
        cdef Track track = self.tracks.get(symbol)
        if track is not None:
            track.snapshot_failed(reason, now_ns)

    def snapshot(self, symbol, str source, int limit, bytes body not None, int64_t recv_ns):
        """Take a snapshot of `limit` levels a side (0: as many as it has) from `source` ("rest", "ws_api", "capture").

        `symbol` may be None when the body names it. Returns what became of it: "joined", "gap" (older than what is
        held: another is wanted), "shadow" (waits for the book to reach its id), "swapped", "quiet", "resync" or
        "old". Raises DecodeError when the body is not a snapshot.
        """
        cdef Message message
        cdef Track track
        cdef int32_t index = -1 if symbol is None else self.instruments.index(symbol)
        cdef const char *data = body
        cdef Source origin = SRC_WS_API if source == "ws_api" else SRC_REST
        cdef Status status
        memset(&message, 0, sizeof(Message))
        message.instrument = index
        status = self._decoder.decode_snapshot(index, data, len(body), len(body), &message)
        while status == NEEDS_DIGITS:
            status = self._grow_digits(&message)
            if status == OK:
                status = self._decoder.decode_snapshot(index, data, len(body), len(body), &message)
        if status != OK or message.instrument < 0:
            if symbol in self.tracks:
                self.tracks[symbol].snapshot_refused(message.why == W_OVERFLOW, recv_ns)
            raise DecodeError(f"snapshot of {symbol}: {WHY[<int>message.why]}", body)
        track = self._by_index[message.instrument]
        if limit <= 0:
            limit = max(message.update.n_bids, message.update.n_asks)
        if track.is_syncing():
            return self._join(track, &message, limit, origin, recv_ns)
        if limit < track.least_limit(self.first_limit, recv_ns):
            return track.answer_check(message.update.last_id, recv_ns)
        return self._shade(track, &message, limit, origin, recv_ns)

    cdef str _join(self, Track track, Message *message, int32_t limit, Source source, int64_t recv_ns):
        if track.book.load(&message.update, limit) != OK:
            track.suspect(b"no_memory", recv_ns, False)
            return "gap"
        track.book.ts_event = message.ts_event
        track.book.recv_ns = recv_ns
        # Older than what the lines have shown last: what came between is not held any more.
        if self._feed_held(track) == GAP or track.book.last_id < track._newest_id or track.is_of_another_past(message):
            if source == SRC_DEPTH20:       # the next one is on its way
                return "gap"
            track.back_off(recv_ns)
            self.publisher.event(recv_ns, track.symbol, "snapshot_old", last_update_id=track.book.last_id)
            return "gap"
        track.join(recv_ns, limit, source)
        return "joined"

    cdef str _shade(self, Track track, Message *message, int32_t limit, Source source, int64_t recv_ns):
        """A snapshot for a book that is good (or waits for its line): it takes over where both meet."""
        if track._parked_ns or track.is_of_another_past(message) or (
                message.update.last_id < track.book.last_id and track.buffer.count == 0):
            track.drop_shadow(recv_ns)
            return "old"
        track.start_shadow(limit, source)
        if track.shadow.load(&message.update, limit) != OK:
            track.drop_shadow(recv_ns)
            return "old"
        return track.place_shadow(recv_ns, self._feed_held(track))

    cdef void _seat_by_partial(self, Track track, Message *message, int64_t recv_ns) noexcept:
        cdef int32_t limit = max(message.update.n_bids, message.update.n_asks)
        track._touch(message, recv_ns)
        if track.is_syncing():
            self._join(track, message, limit, SRC_DEPTH20, recv_ns)
        else:
            self._shade(track, message, limit, SRC_DEPTH20, recv_ns)

    # ---- time and looks

    def tick(self, int64_t now_ns):
        """Once a second or so: freshness, expiry, parked gaps, keys that go or are set again."""
        cdef Track track
        for track in self.tracks.values():
            track.tick(now_ns)
        if self.fuse.rearm(now_ns):
            self.publisher.event(now_ns, "", "fuse_rearmed")

    def refresh(self, outbox, int64_t now_ns):
        """Say all states and good books again, to one outbox: its far side has come (back)."""
        cdef Track track
        cdef list all_of_them = self.publisher.outboxes
        self.publisher.outboxes = [outbox]
        try:
            for track in self.tracks.values():
                track.refresh(now_ns)
        finally:
            self.publisher.outboxes = all_of_them

    def finish(self, int64_t now_ns):
        """End of input: verdicts that are still pending will not come."""
        cdef Track track
        for track in self.tracks.values():
            track.finish()

    @property
    def frames_by_kind(self):
        """Frames decoded or ignored, by event type."""
        return {KIND[i]: self._kinds[i] for i in range(1, K_COUNT) if self._kinds[i]}

    @property
    def decode_errors(self):
        """Frames that are not what the venue documents, by reason."""
        return {WHY[i]: self._whys[i] for i in range(<int>W_EMPTY, <int>W_COUNT) if self._whys[i]}

    @property
    def ignored(self):
        """Frames that are legal and nothing for us, by reason."""
        return {WHY[i]: self._whys[i] for i in range(1, <int>W_EMPTY) if self._whys[i]}
