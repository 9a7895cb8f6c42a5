"""Numbers and times as text.

Answers for: exact plain decimals of scaled integers, RFC 3339 times, JSON strings. Refuses to know: what is
published, and where to.
"""

from mdfeed._types cimport i128


cdef char *put_wide(char *out, i128 value, int digits, bint is_float) noexcept nogil:
    cdef char text[64]
    cdef char *end = &text[64]
    cdef char *start = end
    cdef char *floor
    cdef i128 chunk = 1000000000000000000
    if value < 0:
        out[0] = 45
        out += 1
    # Eighteen digits at a time, taken by their absolute value: the lowest int128 has no positive twin.
    while value >= chunk or value <= -chunk:
        floor = start - 18
        start = put_digits_before(start, <uint64_t>(value % chunk if value > 0 else -(value % chunk)))
        while start > floor:
            start -= 1
            start[0] = 48
        value = value // chunk
    start = put_digits_before(start, <uint64_t>(value if value >= 0 else -value))
    return put_point(out, start, end - start, digits, is_float)


cdef inline char *put_two(char *out, int value) noexcept nogil:
    memcpy(out, &mdfeed_pairs[value * 2], 2)
    return out + 2


cdef char *put_time(char *out, int64_t ns) noexcept nogil:
    cdef int64_t us = (ns if ns > 0 else 0) // 1000
    cdef int64_t seconds = us // 1000000
    cdef int fraction = <int>(us % 1000000)
    cdef int of_day = <int>(seconds % 86400)
    # Days to a civil date, counted in years that begin in March, so that the leap day is a year's last.
    cdef int64_t days = seconds // 86400 + 719468
    cdef int era = <int>(days // 146097)
    cdef int of_era = <int>(days % 146097)
    cdef int year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int of_year = of_era - (365 * year + year // 4 - year // 100)
    cdef int month = (5 * of_year + 2) // 153
    cdef int day = of_year - (153 * month + 2) // 5 + 1
    year += era * 400
    month += 3
    if month > 12:
        month -= 12
        year += 1
    out = put_two(put_two(out, year // 100), year % 100)
    out[0] = 45
    out = put_two(out + 1, month)
    out[0] = 45
    out = put_two(out + 1, day)
    out[0] = 84
    out = put_two(out + 1, of_day // 3600)
    out[0] = 58
    out = put_two(out + 1, of_day // 60 % 60)
    out[0] = 58
    out = put_two(out + 1, of_day % 60)
    out[0] = 46
    out = put_two(put_two(put_two(out + 1, fraction // 10000), fraction // 100 % 100), fraction % 100)
    return put(out, b"+00:00", 6)


cdef char *put_json_string(char *out, const char *text, Py_ssize_t size) noexcept nogil:
    cdef const char *hex_digits = b"0123456789abcdef"
    cdef unsigned char byte
    cdef Py_ssize_t i
    out[0] = 34
    out += 1
    for i in range(size):
        byte = <unsigned char>text[i]
        if byte < 32:
            out = put(out, b"\\u00", 4)
            out[0] = hex_digits[byte >> 4]
            out[1] = hex_digits[byte & 15]
            out += 2
            continue
        if byte == 34 or byte == 92:
            out[0] = 92
            out += 1
        out[0] = <char>byte
        out += 1
    out[0] = 34
    return out + 1


cdef object int_of_wide(i128 value):
    cdef object high = <int64_t>(value >> 64)
    cdef object low = <uint64_t>value
    return (high << 64) | low


cdef i128 wide_of_int(object value) except? -1:
    cdef int64_t high = value >> 64
    cdef uint64_t low = value & 0xFFFFFFFFFFFFFFFF
    return (<i128>high << 64) | <i128>low


def decimal_text(value: int, digits: int, is_float: bool = False) -> str:
    """value / 10^digits as the shortest exact plain decimal: no exponent, no trailing zero.

    `value` fits 128 bits; `is_float` keeps at least one fraction digit ("50000.0"), as the published JSON numbers do.
    Raises OverflowError for a larger value, ValueError for digits outside 0 to 127.
    """
    cdef char out[WIDE_BYTES + 127 + SLACK]
    cdef char *end
    if not 0 <= digits <= 127:
        raise ValueError(f"digits outside 0 to 127: {digits}")
    if -(1 << 63) <= value < 1 << 63:
        end = put_decimal(out, value, digits, is_float)
    else:
        end = put_wide(out, wide_of_int(value), digits, is_float)
    return out[: end - out].decode("ascii")


def time_text(ns: int) -> str:
    """UTC nanoseconds as RFC 3339 in microseconds: 2026-01-02T03:04:05.678901+00:00."""
    cdef char out[TIME_BYTES + SLACK]
    cdef char *end = put_time(out, ns)
    return out[: end - out].decode("ascii")


def json_text(text: str) -> str:
    """A JSON string literal of `text`, as the payloads carry it."""
    cdef bytes raw = text.encode()
    cdef Buffer buffer = Buffer(NULL, 0, 0, 1 << 30)
    cdef char *end
    if not reserve(&buffer, 6 * len(raw) + 2):
        raise MemoryError
    try:
        end = put_json_string(buffer.data, raw, len(raw))
        return buffer.data[: end - buffer.data].decode()
    finally:
        release(&buffer)
