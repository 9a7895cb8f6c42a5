# The C vocabulary of the house. No module stands behind it: structs, enums and one inline function, so every
# compiled file may cimport it without importing anything at run time.
#
# Prices and quantities are int64 scaled by the instrument's decimal digits (61800.2 with
# price_digits 1 is 618002). Times are UTC nanoseconds. Id fields carry the venue's own ids,
# normalised to (prev_id, last_id) by the decoder.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef MDFEED_I128
    #define MDFEED_I128
    typedef __int128 mdfeed_i128;
    #endif
    """
    # Sums of price times quantity. Cast both operands to it before multiplying.
    ctypedef long long i128 "mdfeed_i128"


cdef enum Status:
    OK = 0              # decoded, or done
    APPLIED = 1         # the book moved to last_id
    OLD = 2             # last_id is not newer than the book's: dropped
    GAP = 3             # something between the book and this diff is missing
    IGNORED = 4         # legal, but nothing for us: Message.why says which of the listed reasons
    BAD = 5             # not what the venue documents: Message.why says what
    NEEDS_DIGITS = 6    # a longer fraction than the instrument's: rescale, then decode again
    NO_MEMORY = 7


cdef enum Kind:
    K_NONE = 0
    K_DIFF = 1          # depthUpdate, @depth and @depth@...
    K_PARTIAL = 2       # depthUpdate, @depth5/10/20: the top, self-contained
    K_SNAPSHOT = 3      # REST depth body
    K_BBO = 4           # bookTicker
    K_AGG_TRADE = 5
    K_TRADE = 6
    K_TICKER = 7        # 24hrTicker
    K_MARK_PRICE = 8
    K_LIQUIDATION = 9   # forceOrder
    K_REPLY = 10        # answer to SUBSCRIBE and the like
    K_SHUTDOWN = 11     # serverShutdown: roll over at once
    K_OTHER = 12        # an event or stream that nothing here reads
    K_COUNT = 13


cdef enum Why:
    W_NONE = 0
    # IGNORED
    W_REPLY = 1             # answer to a request of ours
    W_UNKNOWN_EVENT = 2     # an event type that nothing here reads
    W_UNKNOWN_SYMBOL = 3    # a symbol that was not asked for
    W_OTHER_PRODUCT = 4     # all-market stream: another product's row (`st`)
    # BAD
    W_EMPTY = 8
    W_NOT_JSON = 9
    W_CUT = 10              # ends before its last brace, or goes on after it
    W_MISSING_FIELD = 11
    W_WRONG_TYPE = 12
    W_BAD_NUMBER = 13       # not a plain decimal, or negative where that can't be
    W_OVERFLOW = 14         # does not fit int64 at the instrument's digits
    W_TOO_LONG = 15         # frame above the size limit
    W_COUNT = 16


cdef enum State:
    S_COLD = 0          # nothing known
    S_SYNCING = 1       # diffs are buffered, a snapshot is wanted
    S_LIVE = 2          # chained to a snapshot; publishable
    S_PROVED = 3        # LIVE, and the venue's own bookTicker agreed within the last 60 s
    S_STALE = 4         # line lost or silent
    S_SUSPECT = 5       # gap, crossed or contradicted: resync under way
    S_COUNT = 6


cdef struct Level:
    int64_t price
    int64_t qty         # absolute; 0 deletes


cdef struct Instrument:
    # A market's name and its decimal digits. Lives in Instruments; the address never changes.
    char symbol[40]
    int32_t symbol_len
    int32_t index
    int8_t price_digits     # significant fraction digits, learned or given; only grows
    int8_t qty_digits
    bint is_active          # False after removal at run time: frames of it are W_UNKNOWN_SYMBOL


cdef struct Top:
    # Best of both sides. An empty side has price 0 and quantity 0.
    int64_t bid_price
    int64_t bid_qty
    int64_t ask_price
    int64_t ask_qty


cdef struct Update:
    # A diff, a partial depth or a snapshot. `bids` and `asks` are borrowed: valid until the same
    # decoder decodes again. Order of levels is the venue's (any).
    int64_t first_id        # U (snapshots: last_id)
    int64_t prev_id         # pu, or U - 1 where the venue has no pu (snapshots: last_id)
    int64_t last_id         # u, or lastUpdateId
    const Level *bids
    const Level *asks
    int32_t n_bids
    int32_t n_asks


cdef struct Bbo:
    int64_t update_id       # u: same id space as the diffs
    Top top


cdef struct Trade:
    int64_t trade_id        # a (aggTrade) or t (trade)
    int64_t price
    int64_t qty
    int64_t ts_trade        # T: when it was traded; ns
    bint is_buyer_maker
    bint is_market          # False for INSURANCE_FUND and other non-market fills
    int64_t fills           # matches in it: 1, or what an aggregate trade sums up


cdef struct Ticker:
    # The venue's own rolling 24 h window. `quote_volume` is scaled by its own digits.
    int64_t open_ts         # window start, ns
    int64_t close_ts        # window end, ns
    int64_t last_price
    int64_t open_price
    int64_t high_price
    int64_t low_price
    int64_t volume          # base asset, qty_digits
    int64_t quote_volume
    int32_t quote_digits    # -1: it did not fit, unknown
    int64_t trade_count


cdef struct Message:
    # One decoded frame. Which member is filled says `kind`; the rest is undefined.
    Kind kind
    Why why
    int32_t instrument      # index, -1 when none
    int64_t ts_event        # E where the venue has it, else T, else 0; ns
    int8_t price_digits     # with NEEDS_DIGITS: what this frame needs (at least)
    int8_t qty_digits
    Update update
    Bbo bbo
    Trade trade
    Ticker ticker


cdef struct Day:
    # 24 h figures of one instrument as far as known; each flag guards its figures.
    bint is_known           # False: publish null, never 0.0
    bint is_quote_known     # guards quote_volume
    int64_t open_price
    int64_t high_price
    int64_t low_price
    i128 volume             # qty_digits
    i128 quote_volume       # price_digits + qty_digits
    int64_t trade_count


cdef struct Quote:
    # All that one book publication says. Levels are best first, verified only, borrowed for the call.
    const Instrument *instrument
    const Level *bids
    const Level *asks
    int32_t n_bids
    int32_t n_asks
    Top top
    int64_t first_id
    int64_t last_id
    int64_t ts_event        # ns
    int64_t recv_ns         # of the newest update in it
    int64_t now_ns          # of the publication
    State state
    uint64_t seq            # +1 a publication of this instrument
    int64_t verified_bids   # levels inside the verified horizon, whole book
    int64_t verified_asks
    int64_t last_price      # last trade; valid if has_last
    bint has_last
    Day day


cdef inline int64_t power_of_ten(int exponent) noexcept nogil:
    # 10^exponent for 0 to 18; 1 below 0.
    cdef int64_t power = 1
    while exponent > 0:
        power *= 10
        exponent -= 1
    return power
