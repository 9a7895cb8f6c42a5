"""One side of a book in other forms: doubles for numpy, text for the digest.

Answers for exact text and for memory that outlives the book's next update. Refuses to know which side it is.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from mdfeed._ladder cimport Cursor, Ladder, next_level, start_cursor
from mdfeed._types cimport *

cdef enum:
    LINE_BYTES = 44             # prefix, two commas, two numbers of 20, newline


cdef char *DOUBLE_FORMAT = "d"


cdef class Rows:
    """Levels of one side at one moment: len(), and (n, 2) float64 by the buffer protocol, read-only, best first."""

    def __init__(self):
        raise TypeError("made by Book.bids and Book.asks only")

    def __dealloc__(self):
        free(self._data)

    def __len__(self):
        return self._shape[0]

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a view of a book is read-only")
        buffer.obj = self
        buffer.buf = self._data
        buffer.len = self._shape[0] * 2 * sizeof(double)
        buffer.itemsize = sizeof(double)
        buffer.readonly = 1
        buffer.ndim = 2
        buffer.format = DOUBLE_FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = self._shape if flags & PyBUF_ND else NULL
        buffer.strides = self._strides if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL


cdef Rows make_rows(const Ladder *ladder, int price_digits, int qty_digits):
    cdef Rows rows = Rows.__new__(Rows)
    cdef double price_scale = 10.0 ** price_digits, qty_scale = 10.0 ** qty_digits
    cdef Cursor cursor
    cdef Level level
    cdef Py_ssize_t i
    rows._shape[0] = ladder.count
    rows._shape[1] = 2
    rows._strides[0] = 2 * sizeof(double)
    rows._strides[1] = sizeof(double)
    rows._data = <double *>malloc((ladder.count or 1) * 2 * sizeof(double))
    if rows._data == NULL:
        raise MemoryError
    start_cursor(ladder, &cursor)
    for i in range(ladder.count):
        next_level(ladder, &cursor, &level)
        # Powers of ten to 10**22 are exact doubles: one rounding below 2**53.
        rows._data[2 * i] = level.price / price_scale
        rows._data[2 * i + 1] = level.qty / qty_scale
    return rows


cdef int write_decimal(char *out, int64_t value, int digits) noexcept nogil:
    cdef char text[24]
    cdef int at = 24, i
    while digits > 0 and value % 10 == 0:
        value //= 10
        digits -= 1
    for i in range(digits):
        at -= 1
        text[at] = <char>(c'0' + value % 10)
        value //= 10
    if digits > 0:
        at -= 1
        text[at] = c'.'
    while True:
        at -= 1
        text[at] = <char>(c'0' + value % 10)
        value //= 10
        if value == 0:
            break
    memcpy(out, text + at, 24 - at)
    return 24 - at


cdef bytes write_rows(const Ladder *ladder, bytes prefix, int price_digits, int qty_digits):
    cdef bytes text = PyBytes_FromStringAndSize(NULL, ladder.count * LINE_BYTES)
    cdef char *start = PyBytes_AS_STRING(text)
    cdef char *out = start
    cdef char mark = prefix[0]
    cdef Cursor cursor
    cdef Level level
    start_cursor(ladder, &cursor)
    while next_level(ladder, &cursor, &level):
        out[0] = mark
        out[1] = c','
        out += 2
        out += write_decimal(out, level.price, price_digits)
        out[0] = c','
        out += 1
        out += write_decimal(out, level.qty, qty_digits)
        out[0] = c'\n'
        out += 1
    return text[:out - start]
