# JSON bytes -> C values. Knows JSON, decimals and symbols; no venue's schema, no I/O, no clock.
#
# A venue's decoder (venues/) scans a frame once with a Parser, then reads the borrowed record.

from mdfeed._types cimport *


cdef class Instruments:
    # Symbol <-> index, with digits. Entries are never moved nor freed while this lives.
    cdef Instrument **_items
    cdef int32_t _capacity
    cdef readonly int32_t count
    cdef int32_t *_slots            # open addressing, power of two
    cdef uint32_t _mask
    cdef bint _fold_case            # find() accepts the lower-case names used in stream names

    # Index of the active instrument of that name, or -1. Borrowed bytes, not NUL-terminated.
    cdef int32_t find(self, const char *symbol, Py_ssize_t size) noexcept nogil
    cdef Instrument *at(self, int32_t index) noexcept nogil


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
