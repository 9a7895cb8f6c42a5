# Numbers and times as text, and the growing buffer they go to. Knows digits; no JSON document, no RESP.
#
# The put_* functions write at `out` without any check and return the place behind the last byte: the caller has
# reserved the bound that each of them states, plus SLACK, because digits are copied in fixed blocks.

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from mdfeed._types cimport i128

cdef extern from *:
    """
    static const char mdfeed_pairs[201] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    """
    const char mdfeed_pairs[201]

cdef enum:
    SLACK = 32              # bytes behind a bound that a put_* may scribble on
    INT_BYTES = 20          # the longest int64 or uint64
    DECIMAL_BYTES = 24      # the longest int64 decimal, less its digits
    WIDE_BYTES = 44         # the longest 128-bit decimal, less its digits
    TIME_BYTES = 32         # "2026-01-02T03:04:05.678901+00:00"


cdef struct Buffer:
    char *data
    size_t size
    size_t capacity
    size_t limit            # bytes; reserve() fails rather than pass it


# Room for `more` bytes and SLACK behind `size`. False: no memory or the limit is reached; the contents are untouched.
cdef inline bint reserve(Buffer *buffer, size_t more) noexcept nogil:
    cdef size_t need = buffer.size + more + SLACK
    cdef size_t capacity
    cdef void *data
    if need <= buffer.capacity:
        return True
    if need > buffer.limit:
        return False
    capacity = buffer.capacity * 2 if buffer.capacity * 2 > need else need
    if capacity < 1024:
        capacity = 1024
    if capacity > buffer.limit:
        capacity = buffer.limit
    data = realloc(buffer.data, capacity)
    if data == NULL:
        return False
    buffer.data = <char *>data
    buffer.capacity = capacity
    return True


cdef inline void release(Buffer *buffer) noexcept nogil:
    free(buffer.data)
    buffer.data = NULL
    buffer.size = 0
    buffer.capacity = 0


# Copies `size` bytes. Bound: size.
cdef inline char *put(char *out, const char *text, size_t size) noexcept nogil:
    memcpy(out, text, size)
    return out + size


# Writes the digits of `value` so that they end before `end`; returns where they start.
cdef inline char *put_digits_before(char *end, uint64_t value) noexcept nogil:
    while value >= 100:
        end -= 2
        memcpy(end, &mdfeed_pairs[(value % 100) * 2], 2)
        value //= 100
    if value >= 10:
        end -= 2
        memcpy(end, &mdfeed_pairs[value * 2], 2)
    else:
        end -= 1
        end[0] = <char>(48 + value)
    return end


# Bound: INT_BYTES.
cdef inline char *put_uint(char *out, uint64_t value) noexcept nogil:
    cdef char text[24]
    cdef char *start = put_digits_before(&text[24], value)
    return put(out, start, &text[24] - start)


# Bound: INT_BYTES.
cdef inline char *put_int(char *out, int64_t value) noexcept nogil:
    if value >= 0:
        return put_uint(out, <uint64_t>value)
    out[0] = 45
    return put_uint(out + 1, 0 - <uint64_t>value)


# Sets the point into `n` digits that stand for an integer scaled by `digits`; trailing zeros of the fraction go.
# `is_float` keeps one fraction digit at least ("50000.0").
cdef inline char *put_point(char *out, const char *text, Py_ssize_t n, int digits, bint is_float) noexcept nogil:
    cdef Py_ssize_t fraction = digits
    while fraction > 0 and n > 1 and text[n - 1] == 48:
        n -= 1
        fraction -= 1
    if n == 1 and text[0] == 48:
        fraction = 0
    if fraction >= n:
        out[0] = 48
        out[1] = 46
        memset(out + 2, 48, fraction - n)
        return put(out + 2 + fraction - n, text, n)
    out = put(out, text, n - fraction)
    if fraction:
        out[0] = 46
        return put(out + 1, text + n - fraction, fraction)
    if is_float:
        out[0] = 46
        out[1] = 48
        return out + 2
    return out


# The shortest plain decimal that is exactly value / 10^digits. Bound: DECIMAL_BYTES + digits.
cdef inline char *put_decimal(char *out, int64_t value, int digits, bint is_float) noexcept nogil:
    # Digits end at text[24]. Behind them is room to copy in blocks of 24 bytes, which need no call.
    cdef char text[48]
    cdef char *start
    cdef Py_ssize_t n, whole
    if value < 0:
        out[0] = 45
        out += 1
    start = put_digits_before(&text[24], <uint64_t>value if value >= 0 else 0 - <uint64_t>value)
    n = &text[24] - start
    whole = n - digits
    if whole <= 0:
        return put_point(out, start, n, digits, is_float)
    while n > whole and start[n - 1] == 48:
        n -= 1
    memcpy(out, start, 24)
    if n > whole:
        out[whole] = 46
        memcpy(out + whole + 1, start + whole, 24)
        return out + n + 1
    if is_float:
        out[whole] = 46
        out[whole + 1] = 48
        return out + whole + 2
    return out + whole


# The same for a 128-bit sum. Bound: WIDE_BYTES + digits.
cdef char *put_wide(char *out, i128 value, int digits, bint is_float) noexcept nogil
# RFC 3339 in UTC, microseconds, offset spelled out, of UTC nanoseconds (1970 to 2262). Bound: TIME_BYTES.
cdef char *put_time(char *out, int64_t ns) noexcept nogil
# A JSON string with its quotes. Bytes from 0x80 on pass as they are (UTF-8). Bound: 6 * size + 2.
cdef char *put_json_string(char *out, const char *text, Py_ssize_t size) noexcept nogil
# A Python int of a 128-bit one, which Cython takes for a long long, and back.
cdef object int_of_wide(i128 value)
cdef i128 wide_of_int(object value) except? -1
