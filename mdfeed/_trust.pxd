# What is published of one symbol, and how far it can be trusted. Time is an argument, frames come decoded.

from mdfeed._book cimport Book
from mdfeed._proof cimport Proof
from mdfeed._publish cimport Publisher
from mdfeed._pulse cimport Pulse
from mdfeed._tape cimport Tape
from mdfeed._types cimport *
from mdfeed._window cimport Window


cdef enum Source:
    # Where the snapshot came from that a book stands on.
    SRC_REST = 0        # or a capture
    SRC_WS_API = 1
    SRC_DEPTH20 = 2     # the partial depth stream


# A state's reason names the source when it is not the usual one. Static text.
cdef inline const char *synced_reason(Source source) noexcept nogil:
    return b"synced" if source == SRC_REST else b"synced_ws_api" if source == SRC_WS_API else b"synced_depth20"


cdef inline const char *proved_reason(Source source) noexcept nogil:
    if source == SRC_REST:
        return b"book_ticker"
    return b"book_ticker_ws_api" if source == SRC_WS_API else b"book_ticker_depth20"


cdef class Trust:
    cdef Instrument *instrument
    cdef readonly str symbol
    cdef readonly Book book
    cdef readonly Tape agg_trades
    cdef readonly Tape single_trades
    cdef readonly Window window             # 24 h figures
    cdef double _day_errors[4]              # by DAY_FIGURES: our 24 h less the newest ticker's, as a share of it
    cdef bint _has_day_errors
    cdef readonly dict resyncs              # reason -> how often the book became SUSPECT
    cdef Proof _proof
    cdef Publisher _publisher
    cdef object _fuse
    cdef int64_t _ticker_ts                 # window end of the newest ticker
    cdef bint _is_seeded
    cdef bint _has_missed_trades
    cdef int64_t _missing_told_ns           # when an event said so last
    cdef int64_t _untold                    # steps in the ids since then
    cdef int64_t _announced_ns
    cdef Source _source                     # of the snapshot that the book stands on
    cdef bint _has_testimony                # contradicted just now: what led to it should be kept
    cdef Bbo _bbo                           # newest bookTicker of any line
    cdef State _state
    cdef const char *_reason                # static text
    cdef int32_t _max_levels
    cdef int32_t _patience                  # contradictions in a row that make a book SUSPECT
    cdef int32_t _crossed_run
    cdef int32_t _quiet_run                 # checks in a row that found a silent symbol unchanged
    cdef int64_t _bad_ns                    # since when not publishable; 0: publishable, or never was asked
    cdef int64_t _published_ns
    cdef int64_t _match_ns
    cdef double _cadence_ns                 # mean time between frames
    cdef int64_t _delay_ns                  # as the clocks say, uncorrected
    cdef Pulse _pulses[13]                  # by Kind
    cdef int64_t _blind_ns                  # since when it is_blind as far as diffs have shown; 0: it is not
    cdef int64_t _ahead_ns                  # since when a bookTicker is beyond the book; 0: none is
    cdef int64_t _trade_ns                  # since when a trade is later than the book; 0: none is
    cdef readonly int64_t clock_offset_ns   # the venue's clock less ours
    cdef bint _is_withdrawn
    cdef readonly uint64_t seq
    cdef readonly uint64_t bbo_seq
    cdef readonly int64_t state_since_ns
    cdef readonly int64_t frames
    cdef readonly int64_t applied
    cdef readonly int64_t crossed
    cdef readonly int64_t last_frame_ns
    cdef readonly int64_t last_update_ns

    cdef void on_bbo(self, int32_t line, const Message *message, int64_t recv_ns) noexcept
    cdef void on_trade(self, const Message *message, int64_t recv_ns) noexcept
    # Counts and publishes a trade that has not been seen; True when it was published. Says nothing about freshness.
    cdef bint take_trade(self, const Message *message, int64_t recv_ns) noexcept
    cdef void _tell_missing(self, Tape tape, int64_t next_id, int64_t now_ns) noexcept
    # recv_ns 0: from REST, which says nothing about freshness.
    cdef void on_ticker(self, const Message *message, int64_t recv_ns) noexcept
    cdef void set_clock_offset(self, int64_t offset_ns) noexcept
    cdef Status rescale(self, int price_digits, int qty_digits) noexcept

    cdef bint is_good(self) noexcept nogil      # LIVE or PROVED: may be published
    # The market has left the prices that a snapshot has shown: better ones than the book's best may rest there.
    cdef bint is_blind(self) noexcept nogil
    cdef bint is_syncing(self) noexcept nogil   # COLD, SYNCING or SUSPECT: diffs are held, not applied
    cdef void enter(self, State state, const char *reason, int64_t now_ns) noexcept
    cdef void _begin_at(self, int64_t now_ns) noexcept
    cdef void announce(self, int64_t now_ns) noexcept
    cdef void suspect(self, const char *reason, int64_t now_ns, bint keep_buffer) noexcept
    cdef bint may_distrust(self, int64_t now_ns) noexcept
    cdef void publish(self, int64_t now_ns) noexcept
    cdef void _show_top(self, const Quote *quote) noexcept
    cdef void age(self, int64_t now_ns) noexcept
    cdef void _touch(self, const Message *message, int64_t recv_ns) noexcept
    cdef void _weigh_proof(self, int64_t now_ns, int64_t matches, int64_t mismatches) noexcept
