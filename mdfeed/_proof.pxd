# The book's own witness: the venue's bookTicker. Knows ids and tops; no clock, no policy.

from libc.stdint cimport INT64_MAX

from mdfeed._types cimport *

cdef struct Seen:
    int64_t update_id
    Top top


cdef struct Ring:
    # Ascending by update_id. Grows by doubling up to RING_LIMIT, then forgets the oldest.
    Seen *items
    int32_t capacity
    int32_t head
    int32_t count


cdef struct Witness:
    int32_t line            # -1: free
    int64_t newest_ts       # event time of the newest in `seen`; 0: the venue says none
    int64_t older_id        # of the last one that was older than `seen` in id and time
    int32_t older_run       # so many of these came in a row, ascending
    Ring seen


cdef class Proof:
    cdef readonly int64_t match
    cdef readonly int64_t mismatch
    cdef readonly int64_t unjudged
    cdef readonly int32_t mismatches_in_a_row
    cdef readonly int32_t matches_in_a_row
    cdef readonly int32_t contradictions        # different bookTickers in a row that contradicted
    cdef Ring _pending                  # tops of applied diffs that wait for a verdict
    cdef Witness _witnesses[8]
    cdef Seen last_ours                 # the newest mismatch: what the book said
    cdef Seen last_theirs               # and what the venue said

    # Both return how many verdicts fell (matches and mismatches). `applied` takes the book's top after the diff.
    cdef int32_t applied(self, int64_t update_id, const Top *top) noexcept nogil
    cdef int32_t witnessed(self, int32_t line, const Bbo *bbo, int64_t ts_event) noexcept nogil
    # The line's bookTickers end here: what only it could have judged stays pending for the others.
    cdef void lost(self, int32_t line) noexcept nogil
    # The book starts anew: nothing pending can be judged any more.
    cdef void reset(self) noexcept nogil
    # The ids start anew: what was remembered is of another past.
    cdef void forget(self) noexcept nogil
    cdef void rescale(self, int64_t price_factor, int64_t qty_factor) noexcept nogil

    # Whether the newest verdicts suffice to distrust the book; `patience` is the venue's.
    cdef bint is_contradicted(self, int32_t patience) noexcept nogil

    cdef int32_t _judge(self, Witness *witness) noexcept nogil
    cdef int32_t _ask_others(self, const Witness *witness, const Seen *ours) noexcept nogil
    cdef bint _has_other_witness(self, const Witness *witness, int64_t update_id) noexcept nogil


cdef inline bint is_same_top(const Top *a, const Top *b) noexcept nogil:
    return (a.bid_price == b.bid_price and a.bid_qty == b.bid_qty
            and a.ask_price == b.ask_price and a.ask_qty == b.ask_qty)


# A venue never means such a top: it says nothing about a book.
cdef inline bint is_crossed_top(const Top *top) noexcept nogil:
    return (top.bid_qty != 0 and top.ask_qty != 0 and top.bid_price != 0 and top.ask_price != 0
            and top.bid_price >= top.ask_price)


# More digits. False, and the top untouched, when it does not fit.
cdef inline bint scale_top(Top *top, int64_t price_factor, int64_t qty_factor) noexcept nogil:
    if (max(top.bid_price, top.ask_price) > INT64_MAX // price_factor
            or max(top.bid_qty, top.ask_qty) > INT64_MAX // qty_factor):
        return False
    top.bid_price *= price_factor
    top.ask_price *= price_factor
    top.bid_qty *= qty_factor
    top.ask_qty *= qty_factor
    return True
