"""What each of the lines that carry a symbol has brought of its diffs: ids, pace, and who was first.

Counts and compares; what follows for the book is the Track's business.
"""

from libc.string cimport memset

cdef enum:
    OLD_RUN = 3         # chained but old diffs on every line: the venue's ids may have started over
    BEHIND = 20         # diffs that other lines brought while this one was silent

cdef int64_t LAG_NS = 5_000_000_000
# How long a run of old diffs must last where their times are old too, for the venue's clock may have been set back.
# What is repeated comes in one heap. A line that lags is level with the book after as long as it lags, not for ever.
cdef int64_t HEAP_NS = 1_000_000_000
cdef int64_t LONGEST_LAG_NS = 30_000_000_000


cdef class Slots:
    """The lines of one symbol."""

    def __cinit__(self):
        cdef int32_t i
        memset(&self._slots[0], 0, SLOTS * sizeof(Slot))
        for i in range(SLOTS):
            self._slots[i].line = -1

    cdef Slot *of(self, int32_t line) noexcept nogil:
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

    cdef bint free(self, int32_t line, int32_t *left) noexcept nogil:
        cdef int32_t i
        cdef bint was_ours = False
        left[0] = 0
        for i in range(SLOTS):
            if self._slots[i].line == line:
                self._slots[i].line = -1
                was_ours = True
            elif self._slots[i].line >= 0:
                left[0] += 1
        return was_ours

    cdef void moved(self) noexcept nogil:
        cdef int32_t i
        for i in range(SLOTS):
            self._slots[i].old_run = self._slots[i].late_run = 0
            self._slots[i].behind += 1

    cdef void forget_old_runs(self) noexcept nogil:
        cdef int32_t i
        for i in range(SLOTS):
            self._slots[i].old_run = self._slots[i].late_run = 0
            self._slots[i].fallen_from = 0

    cdef bint can_another_fill(self, int32_t line, const Update *update, int64_t now_ns,
                               int64_t fresh_ns) noexcept nogil:
        cdef int32_t i
        cdef Slot *slot
        for i in range(SLOTS):
            slot = &self._slots[i]
            if slot.line >= 0 and slot.line != line and slot.last_id and slot.last_id < update.prev_id:
                if now_ns - slot.last_ns < fresh_ns:
                    return True
        return False

    cdef int64_t heard(self, const int64_t *heard) noexcept nogil:
        cdef int32_t i
        cdef int64_t newest_ns = 0
        for i in range(SLOTS):
            if self._slots[i].line >= 0:
                newest_ns = max(newest_ns, heard[self._slots[i].line & (HEARD - 1)])
        return newest_ns

    cdef bint have_ids_restarted(self, int64_t now_ns) noexcept nogil:
        cdef int32_t i
        cdef int64_t lasted_ns
        cdef bint is_sure = False
        cdef Slot *slot
        for i in range(SLOTS):
            slot = &self._slots[i]
            if slot.line < 0 or slot.last_id == 0:
                continue
            lasted_ns = now_ns - slot.old_since_ns
            if slot.late_run < OLD_RUN and (slot.old_run < OLD_RUN or lasted_ns < HEAP_NS):
                return False
            # Where one line is sure, the others need only not deny it.
            is_sure |= (slot.late_run >= OLD_RUN or slot.fallen_from != 0 or slot.old_lag_ns >= LONGEST_LAG_NS
                        or lasted_ns >= LONGEST_LAG_NS)
        return is_sure

    def race(self, int32_t line):
        """(diffs, wins, sum of delays in ns) of this line's connection: how often it brought a diff first."""
        cdef int32_t i
        for i in range(SLOTS):
            if self._slots[i].line == line:
                return (self._slots[i].diffs, self._slots[i].wins, self._slots[i].delay_ns)
        return (0, 0, 0)

    def lagging(self, int64_t now_ns):
        """Lines whose diffs have stopped while another line's go on."""
        cdef int32_t i
        return [
            self._slots[i].line for i in range(SLOTS)
            if (self._slots[i].line >= 0 and self._slots[i].behind >= BEHIND
                and now_ns - self._slots[i].last_ns > LAG_NS)
        ]
