/* Decimal text -> scaled int64, in plain C.
 *
 * Nothing here rounds and nothing is a float: a fraction that does not fit the digits asked for is reported. */
#ifndef MDFEED_DECIMAL_H
#define MDFEED_DECIMAL_H

#include <stdint.h>
#include <string.h>

enum { MDFEED_MAX_DIGITS = 18 };
enum { MDFEED_FINE = 0, MDFEED_BAD_NUMBER = 1, MDFEED_TOO_LARGE = 2, MDFEED_LONG_FRACTION = 3 };

static const int64_t mdfeed_pow10[MDFEED_MAX_DIGITS + 1] = {
    1LL, 10LL, 100LL, 1000LL, 10000LL, 100000LL, 1000000LL, 10000000LL, 100000000LL, 1000000000LL, 10000000000LL,
    100000000000LL, 1000000000000LL, 10000000000000LL, 100000000000000LL, 1000000000000000LL, 10000000000000000LL,
    100000000000000000LL, 1000000000000000000LL};

/* `[0-9]+` -> int64, one at a time. */
static inline int mdfeed_integer(const char *text, int32_t size, int64_t *out) {
    int64_t value = 0;
    int32_t i;
    if (size <= 0) return MDFEED_BAD_NUMBER;
    for (i = 0; i < size; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit > 9) return MDFEED_BAD_NUMBER;
        if (i < 18) value = value * 10 + (int64_t)digit;
        else if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (int64_t)digit, &value))
            return MDFEED_TOO_LARGE;
    }
    *out = value;
    return MDFEED_FINE;
}

/* `[0-9]+(\.[0-9]+)?` -> int64 scaled by 10^digits. `need` is raised to the significant fraction digits of the text,
 * and MDFEED_LONG_FRACTION returned, when these are more than `digits`. */
static inline int mdfeed_decimal(const char *text, int32_t size, int digits, int64_t *out, int8_t *need) {
    int64_t value = 0;
    int32_t i = 0, fraction, significant;
    int is_large = 0;
    for (; i < size && text[i] != '.'; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit > 9) return MDFEED_BAD_NUMBER;
        is_large |= __builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (int64_t)digit, &value);
    }
    if (i == 0) return MDFEED_BAD_NUMBER;
    fraction = ++i;
    significant = 0;
    for (; i < size; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit > 9) return MDFEED_BAD_NUMBER;
        if (digit != 0) significant = i - fraction + 1;
    }
    if (fraction == size) return MDFEED_BAD_NUMBER; /* "1." */
    if (is_large || significant > MDFEED_MAX_DIGITS) return MDFEED_TOO_LARGE;
    if (significant > digits) {
        if (significant > *need) *need = (int8_t)significant;
        return MDFEED_LONG_FRACTION;
    }
    for (i = 0; i < significant; i++) {
        is_large |= __builtin_mul_overflow(value, 10, &value);
        is_large |= __builtin_add_overflow(value, (int64_t)(text[fraction + i] - '0'), &value);
    }
    is_large |= __builtin_mul_overflow(value, mdfeed_pow10[digits - significant], &value);
    if (is_large) return MDFEED_TOO_LARGE;
    *out = value;
    return MDFEED_FINE;
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MDFEED_SWAR 1
static inline uint64_t mdfeed_load8(const char *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* How many of the eight bytes (already minus '0') are digits before the first that is not; 8 when all are. */
static inline unsigned mdfeed_leading_digits(uint64_t word) {
    uint64_t others = ((word + 0x7676767676767676u) | word) & 0x8080808080808080u;
    return others ? (unsigned)__builtin_ctzll(others) >> 3 : 8;
}

/* Eight digits, the first in the lowest byte. */
static inline uint64_t mdfeed_eight_digits(uint64_t word) {
    word = word * 10 + (word >> 8);
    return ((word & 0x000000ff000000ffu) * 0x000f424000000064u +
            ((word >> 16) & 0x000000ff000000ffu) * 0x0000271000000001u) >> 32;
}

/* `digits(.digits)?"` with one to eight digits before the point and one to eight after it, no more significant ones
 * than `digits` (at most 8): moves `at` behind the quote. 0: left to mdfeed_decimal. Reads up to 18 bytes. */
static inline int mdfeed_quick_decimal(const char **at, unsigned digits, int64_t *out) {
    const uint64_t zeros = 0x3030303030303030u;
    uint64_t word = mdfeed_load8(*at) ^ zeros;
    unsigned whole = mdfeed_leading_digits(word), length, kept;
    uint64_t value, fraction = 0;
    const char *next = *at + whole;
    if (whole == 0) return 0;
    value = mdfeed_eight_digits(word << (64 - 8 * whole));
    if (*next == '"') {
        *out = (int64_t)value * mdfeed_pow10[digits];
        *at = next + 1;
        return 1;
    }
    if (*next != '.') return 0;
    word = mdfeed_load8(next + 1) ^ zeros;
    length = mdfeed_leading_digits(word);
    if (length == 0 || next[1 + length] != '"') return 0;
    kept = length;
    if (length > digits) {
        uint64_t rest = length < 8 ? word & (((uint64_t)1 << (8 * length)) - 1) : word;
        if (rest >> (8 * digits)) return 0;
        kept = digits;
    }
    if (kept) fraction = mdfeed_eight_digits(word << (64 - 8 * kept));
    *out = (int64_t)value * mdfeed_pow10[digits] + (int64_t)fraction * mdfeed_pow10[digits - kept];
    *at = next + length + 2;
    return 1;
}

/* How a venue writes the numbers of one column: always with the same count of fraction digits. Learned from the first
 * row, checked on every one. */
typedef struct {
    int is_known;
    int dots;           /* 1 when there is a point among the kept characters, else 0 */
    int point;          /* offset of the point from the quote; 0 when there is none */
    int cut;            /* characters behind the kept ones */
    int zeros;          /* of these the digits, which must be 0 */
    unsigned least;     /* kept characters: at least so many */
    uint64_t fraction;  /* mask of the kept fraction digits, the last one in the highest byte */
    uint64_t dropped;   /* mask of the cut digits, the first one in the lowest byte */
    int64_t scale;
} mdfeed_column;

/* Text from `from` to its closing quote `quote`, to be scaled by 10^digits (at most 8). */
static inline mdfeed_column mdfeed_learn_column(const char *from, const char *quote, int digits) {
    mdfeed_column column = {0, 0, 0, 0, 0, 1, 0, 0, 0};
    const char *point = quote > from ? (const char *)memchr(from, '.', (size_t)(quote - from)) : NULL;
    int length = point ? (int)(quote - point) - 1 : 0, kept = length < digits ? length : digits;
    if (length > 8 || kept > 6 || (point && length == 0)) return column;
    column.is_known = 1;
    column.dots = kept > 0;
    column.point = point ? -1 - length : 0;
    column.zeros = length - kept;
    column.cut = column.zeros + (point && !kept);
    column.least = (unsigned)(kept ? kept + 2 : 1);
    column.fraction = kept ? ~(uint64_t)0 << (64 - 8 * kept) : ~(uint64_t)0;
    column.dropped = column.zeros == 8 ? ~(uint64_t)0 : ((uint64_t)1 << (8 * column.zeros)) - 1;
    column.scale = mdfeed_pow10[digits - kept];
    return column;
}

/* 0: the text is not of that column, or keeps more than eight characters; nothing is said about it. Reads eight bytes
 * around the quote, before it and after. */
static inline int mdfeed_column_decimal(const mdfeed_column *column, const char *from, const char *quote,
                                        int64_t *out) {
    const uint64_t zeros = 0x3030303030303030u;
    const char *end = quote - column->cut;
    unsigned length = (unsigned)(end - from);
    unsigned shift = 64 - 8 * (length - (unsigned)column->dots);
    uint64_t word;
    if (length - column->least > 8 - column->least) return 0;
    word = mdfeed_load8(end - 8) ^ zeros;
    word = (word & column->fraction) | ((word << 8) & ~column->fraction);
    word = word >> shift << shift;
    if ((((word + 0x7676767676767676u) | word) & 0x8080808080808080u) != 0) return 0;
    if (((mdfeed_load8(quote - column->zeros) ^ zeros) & column->dropped) != 0) return 0;
    if (column->point && quote[column->point] != '.') return 0;
    *out = (int64_t)mdfeed_eight_digits(word) * column->scale;
    return 1;
}
#endif

/* mdfeed_integer, with ids and times of 8 to 16 digits in two steps. */
static inline int mdfeed_field_integer(const char *text, int32_t size, int64_t *out) {
#ifdef MDFEED_SWAR
    if (size >= 8 && size <= 16) {
        const uint64_t zeros = 0x3030303030303030u;
        uint64_t high = mdfeed_load8(text) ^ zeros, low = mdfeed_load8(text + size - 8) ^ zeros;
        if (mdfeed_leading_digits(high) == 8 && mdfeed_leading_digits(low) == 8) {
            unsigned rest = (unsigned)size - 8; /* digits of `low` that `high` hasn't */
            uint64_t tail = rest ? mdfeed_eight_digits(low >> (8 * (8 - rest)) << (8 * (8 - rest))) : 0;
            *out = (int64_t)mdfeed_eight_digits(high) * mdfeed_pow10[rest] + (int64_t)tail;
            return MDFEED_FINE;
        }
    }
#endif
    return mdfeed_integer(text, size, out);
}

/* mdfeed_decimal for a text with a quote behind it and readable bytes behind that, as fields of a record have. */
static inline int mdfeed_field_decimal(const char *text, int32_t size, int digits, int64_t *out, int8_t *need) {
#ifdef MDFEED_SWAR
    const char *at = text;
    if (digits <= 8 && text[size] == '"' && mdfeed_quick_decimal(&at, (unsigned)digits, out) && at == text + size + 1)
        return MDFEED_FINE;
#endif
    return mdfeed_decimal(text, size, digits, out, need);
}

#endif
