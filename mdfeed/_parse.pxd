# JSON bytes -> C values. Knows JSON, decimals and symbols; no venue's schema, no I/O, no clock.
#
# A venue's decoder (venues/) scans a frame once with a Parser, then reads the borrowed record.

from mdfeed._types cimport *


cdef extern from "_decimal.h" nogil:
    int MAX_DIGITS "MDFEED_MAX_DIGITS"
    cdef enum:
        FINE "MDFEED_FINE"
        BAD_NUMBER "MDFEED_BAD_NUMBER"
        TOO_LARGE "MDFEED_TOO_LARGE"
        LONG_FRACTION "MDFEED_LONG_FRACTION"
    # Both return one of the four above. `need` is raised to the significant fraction digits when they don't fit.
    # The text is a record's field (readable bytes follow).
    int integer_of "mdfeed_field_integer" (const char *text, int32_t size, int64_t *out)
    int decimal_of "mdfeed_field_decimal" (const char *text, int32_t size, int digits, int64_t *out, int8_t *need)


cdef extern from "_record.h" nogil:
    cdef enum:
        T_STRING "MDFEED_STRING"
        T_NUMBER "MDFEED_NUMBER"
        T_TRUE "MDFEED_TRUE"
        T_FALSE "MDFEED_FALSE"
        T_NULL "MDFEED_NULL"
        T_OBJECT "MDFEED_OBJECT"
        T_ARRAY "MDFEED_ARRAY"

    # Slots: single letters by `ord(letter) - ord('A')`, the longer keys by these.
    cdef enum:
        F_STREAM "MDFEED_F_STREAM"
        F_LAST_UPDATE_ID "MDFEED_F_LAST_UPDATE_ID"
        F_SYMBOL "MDFEED_F_SYMBOL"
        F_ST "MDFEED_F_ST"
        F_RESULT "MDFEED_F_RESULT"
        F_ID "MDFEED_F_ID"
        F_ERROR "MDFEED_F_ERROR"
        F_CODE "MDFEED_F_CODE"
        F_MSG "MDFEED_F_MSG"
        F_PU "MDFEED_F_PU"
        F_DATA "MDFEED_F_DATA"

    # A scalar's raw text without its quotes, escapes as they are. Borrowed from the frame (or its padded copy).
    ctypedef struct Text "mdfeed_text":
        const char *text
        int32_t size
        int32_t type

    # What a scan found. `fields[slot]` holds only where has(record, slot). Borrowed until the next scan.
    ctypedef struct Record "mdfeed_record":
        Text *fields
        const void *sides[2]    # const Level *: bids, asks
        int32_t counts[2]
        uint8_t has_side[2]
        uint8_t is_list
        uint8_t levels_why
        uint8_t why
        uint8_t names_symbol
        int8_t price_digits
        int8_t qty_digits
        int32_t instrument

    bint has "mdfeed_has" (const Record *record, int slot)
    bint text_is "mdfeed_is" (const Text *value, const char *word)
    bint is_plain "mdfeed_is_plain" (const Text *value)


cdef struct Table:
    Instrument **items
    int32_t *slots          # open addressing, power of two; -1 is free
    uint32_t mask
    int32_t count
    int32_t capacity
    bint fold_case


cdef class Instruments:
    # Symbol <-> index, with digits. Entries are never moved nor freed while this lives.
    cdef Table *_table
    cdef readonly int32_t count     # entries ever added; indices are 0 .. count - 1

    # Index of the active instrument of that name, or -1. Borrowed bytes, not NUL-terminated. Lower-case
    # names (as in stream names) are found too.
    cdef int32_t find(self, const char *symbol, Py_ssize_t size) noexcept nogil
    # Borrowed for as long as this lives; NULL when there is no such index.
    cdef Instrument *at(self, int32_t index) noexcept nogil
    cdef Instrument *_checked(self, int32_t index) except NULL
    cdef _grow(self)


cdef class Parser:
    # One frame at a time -> record. Levels are scaled by the digits of the instrument that the frame names.
    cdef void *_scanner
    cdef Instruments _instruments
    cdef Record record

    # OK, BAD (record.why says what) or NO_MEMORY. `instrument` stands for frames that name no symbol (-1: none).
    # What is wrong inside level arrays is not BAD by itself, for the event may not be a book's: record.levels_why.
    cdef Status scan(self, int32_t instrument, const char *data, Py_ssize_t size, Py_ssize_t capacity) noexcept nogil


cdef class Decoder:
    # Base of the venues' decoders.
    cdef readonly Instruments instruments

    # Decodes one frame. `capacity` is how many bytes are readable from `data` on: when it is less than
    # size + SIMDJSON_PADDING the frame is copied first. Returns OK, IGNORED, BAD, NEEDS_DIGITS or NO_MEMORY;
    # `out` borrows from the decoder until the next call.
    cdef Status decode(self, const char *data, Py_ssize_t size, Py_ssize_t capacity, Message *out) noexcept nogil

    # Decodes a REST depth body. The symbol is the body's own where it names one, else `instrument`.
    cdef Status decode_snapshot(self, int32_t instrument, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                                Message *out) noexcept nogil
    cdef dict _describe(self, bytes frame, Py_ssize_t size, bint is_snapshot, int32_t instrument)
