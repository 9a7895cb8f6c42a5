# Levels in other forms: Decimals in and out, doubles for numpy, text for the digest.

from mdfeed._ladder cimport Ladder
from mdfeed._types cimport *

cdef enum:
    MAX_DIGITS = 18             # 10**18 is the last power of ten in int64


cdef class Rows:
    cdef double *_data          # n rows of price, quantity; own memory
    cdef Py_ssize_t _shape[2]
    cdef Py_ssize_t _strides[2]


cdef Rows make_rows(const Ladder *ladder, int price_digits, int qty_digits)
# Lines `<prefix>,<price>,<qty>\n`, best first; `prefix` is one character.
cdef bytes write_rows(const Ladder *ladder, bytes prefix, int price_digits, int qty_digits)

# value / 10**digits, exact under any decimal context.
cdef object make_decimal(value, int digits)
# Decimal or str -> (integer, fraction digits), trailing zeros stripped. DecodeError when it is no plain number.
cdef tuple split_decimal(value)
# An array of Level in a bytearray, from [(split price, split qty)] and digits that hold them. DecodeError when a
# value does not fit 63 bits.
cdef bytearray pack_levels(list rows, int price_digits, int qty_digits)
