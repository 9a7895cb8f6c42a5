"""Levels in other forms: Decimals in and out, doubles for numpy, text for the digest.

Answers for exact numbers, and for memory that outlives the book's next update. Refuses to know books and ids.
"""

from decimal import Decimal, InvalidOperation

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, malloc

from mdfeed._ladder cimport Cursor, Ladder, next_level, start_cursor
from mdfeed._text cimport DECIMAL_BYTES, SLACK, put_decimal
from mdfeed._types cimport *

from mdfeed.errors import DecodeError

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

    def __cinit__(self):
        self._shape[1] = 2
        self._strides[0] = 2 * sizeof(double)
        self._strides[1] = sizeof(double)

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
    rows._data = <double *>malloc((ladder.count or 1) * 2 * sizeof(double))
    if rows._data == NULL:
        raise MemoryError
    rows._shape[0] = ladder.count
    start_cursor(ladder, &cursor)
    while next_level(ladder, &cursor, &level):
        # Powers of ten to 10**22 are exact doubles: one rounding below 2**53.
        rows._data[i] = level.price / price_scale
        rows._data[i + 1] = level.qty / qty_scale
        i += 2
    return rows


cdef bytes write_rows(const Ladder *ladder, bytes prefix, int price_digits, int qty_digits):
    cdef Py_ssize_t line_bytes = 4 + 2 * DECIMAL_BYTES + price_digits + qty_digits
    cdef bytes text = PyBytes_FromStringAndSize(NULL, ladder.count * line_bytes + SLACK)
    cdef char *start = PyBytes_AS_STRING(text)
    cdef char *out = start
    cdef char mark = prefix[0]
    cdef Cursor cursor
    cdef Level level
    start_cursor(ladder, &cursor)
    while next_level(ladder, &cursor, &level):
        out[0] = mark
        out[1] = c','
        out = put_decimal(out + 2, level.price, price_digits, False)
        out[0] = c','
        out = put_decimal(out + 1, level.qty, qty_digits, False)
        out[0] = c'\n'
        out += 1
    return text[:out - start]
