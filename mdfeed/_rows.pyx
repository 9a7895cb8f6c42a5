"""Levels in other forms: Decimals in and out, doubles for numpy, text for the digest.

Answers for exact numbers, and for memory that outlives the book's next update. Refuses to know books and ids.
"""

from decimal import Decimal, InvalidOperation

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from mdfeed._ladder cimport Cursor, Ladder, next_level, start_cursor
from mdfeed._types cimport *

from mdfeed.errors import DecodeError

cdef enum:
    LINE_BYTES = 44             # prefix, two commas, two numbers of 20, newline


cdef object make_decimal(value, int digits):
    # From text: exact under any decimal context.
    return Decimal(f"{value}E-{digits}")


cdef tuple split_decimal(value):
    # (integer, fraction digits), trailing zeros stripped.
    if isinstance(value, float):
        raise TypeError("prices and quantities are Decimal or str: a float is not exact")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise DecodeError("not a number", str(value).encode()) from None
    if not number.is_finite() or number < 0:
        raise DecodeError("negative or not finite", str(value).encode())
    _, figures, exponent = number.as_tuple()
    text = "".join(map(str, figures)).lstrip("0")
    if not text:
        return 0, 0
    stripped = text.rstrip("0")
    exponent += len(text) - len(stripped)
    if exponent > MAX_DIGITS or exponent < -MAX_DIGITS:
        raise DecodeError("does not fit 63 bits", str(value).encode())
    return (int(stripped), -exponent) if exponent < 0 else (int(stripped) * 10 ** exponent, 0)


cdef bytearray pack_levels(list rows, int price_digits, int qty_digits):
    cdef bytearray packed = bytearray(len(rows) * sizeof(Level))
    cdef Level *levels = <Level *>PyByteArray_AS_STRING(packed)
    cdef Py_ssize_t i
    for i, ((price, price_fraction), (qty, qty_fraction)) in enumerate(rows):
        price *= 10 ** (price_digits - price_fraction)
        qty *= 10 ** (qty_digits - qty_fraction)
        if price > INT64_MAX or qty > INT64_MAX:
            raise DecodeError(f"does not fit 63 bits at {price_digits} and {qty_digits} digits: {price}, {qty}")
        levels[i].price = price
        levels[i].qty = qty
    return packed


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
    cdef Py_ssize_t i = 0
    rows._shape[0] = ladder.count
    rows._shape[1] = 2
    rows._strides[0] = 2 * sizeof(double)
    rows._strides[1] = sizeof(double)
    rows._data = <double *>malloc((ladder.count or 1) * 2 * sizeof(double))
    if rows._data == NULL:
        raise MemoryError
    start_cursor(ladder, &cursor)
    while next_level(ladder, &cursor, &level):
        # Powers of ten to 10**22 are exact doubles: one rounding below 2**53.
        rows._data[i] = level.price / price_scale
        rows._data[i + 1] = level.qty / qty_scale
        i += 2
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
