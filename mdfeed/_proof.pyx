"""Proof of a book by the venue's own bookTicker.

`bookTicker.u` lives in the id space of the depth diffs, and each change of the best price or quantity has
one. So after a diff with final id `u` the book's top must equal the newest bookTicker with `bt.u <= u`.

The two streams arrive out of order against each other, therefore verdicts are deferred: a diff is judged
once a line has delivered a bookTicker beyond it, because on one connection bookTickers come in order, and
so none at or below `u` can still be on its way. Judged on arrival, one real check in fifty is a false alarm.

This module counts; what a mismatch means for the book is the Track's business.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from mdfeed._audit cimport round_block

cdef enum:
    CONTRADICTED = 0
    CONFIRMED = 1
    PENDING = 2

cdef int64_t RESTART_NS = 1_000_000_000     # a lower id so much later than the newest is of ids that started over

cdef enum:
    WITNESSES = 8
    OLDER_RUN = 16          # bookTickers in a row, older in id and time: no stragglers any more
    RING_LIMIT = 1024       # pending tops and remembered bookTickers, each


cdef bint ring_push(Ring *ring, const Seen *seen) noexcept nogil:
    """Append; returns True when the oldest had to go (or memory ran out and `seen` itself did)."""
    cdef int32_t capacity, i
    cdef Seen *items
    cdef bint is_dropped = False
    if ring.count == ring.capacity:
        if ring.capacity < RING_LIMIT:
            capacity = 16 if ring.capacity == 0 else ring.capacity * 2
            items = <Seen *>realloc(ring.items, <size_t>capacity * sizeof(Seen))
            if items == NULL:
                return True
            # Unroll what had wrapped into the new room, so that the order holds.
            for i in range(ring.head):
                items[ring.capacity + i] = items[i]
            ring.items = items
            ring.capacity = capacity
        else:
            ring.head = (ring.head + 1) & (ring.capacity - 1)
            ring.count -= 1
            is_dropped = True
    ring.items[(ring.head + ring.count) & (ring.capacity - 1)] = seen[0]
    ring.count += 1
    return is_dropped


cdef inline Seen *ring_at(Ring *ring, int32_t i) noexcept nogil:
    return &ring.items[(ring.head + i) & (ring.capacity - 1)]


cdef inline void ring_drop(Ring *ring, int32_t n) noexcept nogil:
    if n > 0:
        ring.head = (ring.head + n) & (ring.capacity - 1)
        ring.count -= n


cdef int32_t ring_find(Ring *ring, int64_t update_id) noexcept nogil:
    """Index of the newest entry at or below update_id, or -1."""
    cdef int32_t low = 0, high = ring.count, middle
    while low < high:
        middle = (low + high) >> 1
        if ring_at(ring, middle).update_id <= update_id:
            low = middle + 1
        else:
            high = middle
    return low - 1


cdef inline void empty_sides(Top *top) noexcept nogil:
    """One spelling of an empty side: venues say price 0, quantity 0, or both."""
    if top.bid_price == 0 or top.bid_qty == 0:
        top.bid_price = top.bid_qty = 0
    if top.ask_price == 0 or top.ask_qty == 0:
        top.ask_price = top.ask_qty = 0


cdef class Proof:
    """Deferred comparison of applied diffs with bookTickers; counts `match`, `mismatch` and `unjudged`."""

    def __cinit__(self):
        cdef int32_t i
        memset(&self._pending, 0, sizeof(Ring))
        memset(&self._witnesses[0], 0, WITNESSES * sizeof(Witness))
        for i in range(WITNESSES):
            self._witnesses[i].line = -1

    def __dealloc__(self):
        cdef int32_t i
        free(self._pending.items)
        for i in range(WITNESSES):
            free(self._witnesses[i].seen.items)

    @property
    def pending(self):
        return self._pending.count

    @property
    def memory_bytes(self):
        """Bytes held, malloc's own share included."""
        cdef int64_t total = round_block(self._pending.capacity * <int64_t>sizeof(Seen))
        cdef int32_t i
        for i in range(WITNESSES):
            total += round_block(self._witnesses[i].seen.capacity * <int64_t>sizeof(Seen))
        return object.__sizeof__(self) + total

    cdef int32_t applied(self, int64_t update_id, const Top *top) noexcept nogil:
        cdef Seen seen
        cdef int32_t i, verdicts = 0
        seen.update_id = update_id
        seen.top = top[0]
        empty_sides(&seen.top)
        if ring_push(&self._pending, &seen):
            self.unjudged += 1
        for i in range(WITNESSES):
            if self._witnesses[i].line >= 0:
                verdicts += self._judge(&self._witnesses[i])
        return verdicts

    cdef int32_t witnessed(self, int32_t line, const Bbo *bbo, int64_t ts_event) noexcept nogil:
        cdef Seen seen
        cdef int32_t i
        cdef Witness *witness = NULL
        cdef Witness *room = &self._witnesses[0]
        for i in range(WITNESSES):
            if self._witnesses[i].line == line:
                witness = &self._witnesses[i]
                break
            if self._witnesses[i].line < 0:
                room = &self._witnesses[i]
        if witness == NULL:
            witness = room
            witness.line = line
            witness.seen.head = witness.seen.count = 0
        seen.update_id = bbo.update_id
        seen.top = bbo.top
        empty_sides(&seen.top)
        if witness.seen.count:
            if seen.update_id <= ring_at(&witness.seen, witness.seen.count - 1).update_id:
                # A repeat or a straggler brings its old time along; ids that started over come with new times, and
                # then what was remembered is of another past. A venue without times never repeats.
                if seen.update_id == ring_at(&witness.seen, witness.seen.count - 1).update_id:
                    return 0
                if ts_event and ts_event - witness.newest_ts < RESTART_NS and not goes_on(witness, seen.update_id):
                    return 0
                witness.seen.count = 0
        witness.older_run = 0
        witness.newest_ts = ts_event
        ring_push(&witness.seen, &seen)
        return self._judge(witness)

    cdef int32_t _judge(self, Witness *witness) noexcept nogil:
        """Judge what this witness has overtaken; pending diffs are ascending, so the first that it has not ends it."""
        cdef Ring *seen = &witness.seen
        cdef Seen *ours
        cdef Seen *their
        cdef int64_t newest
        cdef int32_t at, second, done = 0, verdicts = 0
        cdef bint is_match
        if seen.count == 0 or self._pending.count == 0:
            return 0
        newest = ring_at(seen, seen.count - 1).update_id
        while done < self._pending.count:
            ours = ring_at(&self._pending, done)
            if ours.update_id >= newest:
                break
            at = ring_find(seen, ours.update_id)
            if at < 0 and self._has_other_witness(witness, ours.update_id):
                break                   # a line that has just joined knows nothing of it; the older one will
            if at < 0:
                done += 1
                self.unjudged += 1      # older than anything that is remembered
                continue
            their = ring_at(seen, at)
            if is_crossed_top(&their.top):
                done += 1
                self.unjudged += 1
                continue
            is_match = is_same_top(&ours.top, &their.top)
            if not is_match:
                second = self._ask_others(witness, ours)
                if second == PENDING:
                    break               # a line that lags may still know better
                is_match = second == CONFIRMED
            done += 1
            verdicts += 1
            if is_match:
                self.match += 1
                self.matches_in_a_row += 1
                self.mismatches_in_a_row = self.contradictions = 0
            else:
                self.mismatch += 1
                self.matches_in_a_row = 0
                self.mismatches_in_a_row += 1
                if self.contradictions == 0 or self.last_theirs.update_id != their.update_id:
                    self.contradictions += 1
                self.last_ours = ours[0]
                self.last_theirs = their[0]
            ring_drop(seen, at)         # later diffs have larger ids: nothing older is asked for again
        ring_drop(&self._pending, done)
        return verdicts

    cdef bint _has_other_witness(self, const Witness *witness, int64_t update_id) noexcept nogil:
        cdef int32_t i
        cdef Witness *other
        for i in range(WITNESSES):
            other = &self._witnesses[i]
            if other != witness and other.line >= 0 and other.seen.count > 0:
                if ring_at(&other.seen, 0).update_id <= update_id:
                    return True
        return False

    cdef int32_t _ask_others(self, const Witness *witness, const Seen *ours) noexcept nogil:
        """A second opinion on a contradiction: a line may have lost the bookTicker that would have confirmed."""
        cdef int32_t i, at, answer = CONTRADICTED
        cdef Witness *other
        for i in range(WITNESSES):
            other = &self._witnesses[i]
            if other == witness or other.line < 0 or other.seen.count == 0:
                continue
            at = ring_find(&other.seen, ours.update_id)
            if at >= 0 and is_same_top(&ours.top, &ring_at(&other.seen, at).top):
                return CONFIRMED
            if ring_at(&other.seen, other.seen.count - 1).update_id <= ours.update_id:
                answer = PENDING
        return answer

    cdef bint is_contradicted(self, int32_t patience) noexcept nogil:
        cdef int32_t i, lines = 0
        for i in range(WITNESSES):
            if self._witnesses[i].line >= 0 and self._witnesses[i].seen.count > 0:
                lines += 1
        # One connection loses nothing, so `patience` contradicted diffs suffice. Redundant lines are there because one
        # may lose things: then as many different bookTickers must contradict, and one more.
        if lines > 1:
            return self.contradictions > patience
        return self.mismatches_in_a_row >= patience

    cdef void lost(self, int32_t line) noexcept nogil:
        cdef int32_t i, left = 0
        for i in range(WITNESSES):
            if self._witnesses[i].line == line:
                self._witnesses[i].line = -1
                self._witnesses[i].seen.head = self._witnesses[i].seen.count = 0
            elif self._witnesses[i].line >= 0:
                left += 1
        if left == 0:
            self.reset()

    cdef void forget(self) noexcept nogil:
        cdef int32_t i
        self.reset()
        for i in range(WITNESSES):
            self._witnesses[i].seen.head = self._witnesses[i].seen.count = 0

    cdef void reset(self) noexcept nogil:
        self.unjudged += self._pending.count
        self._pending.head = self._pending.count = 0
        self.mismatches_in_a_row = self.matches_in_a_row = self.contradictions = 0

    cdef void rescale(self, int64_t price_factor, int64_t qty_factor) noexcept nogil:
        cdef int32_t i
        if not ring_rescale(&self._pending, price_factor, qty_factor):
            self.reset()
        for i in range(WITNESSES):
            if self._witnesses[i].line >= 0:
                if not ring_rescale(&self._witnesses[i].seen, price_factor, qty_factor):
                    self._witnesses[i].seen.head = self._witnesses[i].seen.count = 0


cdef bint goes_on(Witness *witness, int64_t update_id) noexcept nogil:
    """Whether what is older in id and time has become a sequence: ids started over, and the clock was set back."""
    witness.older_run = witness.older_run + 1 if update_id > witness.older_id else 1
    witness.older_id = update_id
    return witness.older_run >= OLDER_RUN


cdef bint ring_rescale(Ring *ring, int64_t price_factor, int64_t qty_factor) noexcept nogil:
    """False when an entry does not fit: the ring is half done, and to be emptied."""
    cdef int32_t i
    for i in range(ring.count):
        if not scale_top(&ring_at(ring, i).top, price_factor, qty_factor):
            return False
    return True
