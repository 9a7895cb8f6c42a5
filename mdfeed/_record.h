/* What one pass over a frame leaves behind. Plain C without simdjson, so that the venues' decoders can read a record
 * without the parser's headers. */
#ifndef MDFEED_RECORD_H
#define MDFEED_RECORD_H

#include <stdint.h>
#include <string.h>

/* First byte of the JSON value stands for its type; '0' is any number. */
enum { MDFEED_STRING = '"', MDFEED_NUMBER = '0', MDFEED_TRUE = 't', MDFEED_FALSE = 'f', MDFEED_NULL = 'n',
       MDFEED_OBJECT = '{', MDFEED_ARRAY = '[' };

/* Raw text of a scalar: without its quotes, escapes as they are. Borrowed from the frame. */
typedef struct {
    const char *text;
    int32_t size;
    int32_t type;
} mdfeed_text;

/* Slots of a record: single letters by `letter - 'A'` (0..25 and 32..57), the longer keys in the gaps. */
enum {
    MDFEED_F_STREAM = 26, MDFEED_F_LAST_UPDATE_ID = 27, MDFEED_F_SYMBOL = 28, MDFEED_F_ST = 29, MDFEED_F_RESULT = 30,
    MDFEED_F_ID = 31, MDFEED_F_ERROR = 58, MDFEED_F_CODE = 59, MDFEED_F_MSG = 60, MDFEED_F_PU = 61, MDFEED_F_DATA = 62,
    MDFEED_F_COUNT = 64
};

typedef struct {
    int64_t price;
    int64_t qty;
} mdfeed_level;

typedef struct {
    uint64_t seen;                      /* bit of a slot: the key was there */
    mdfeed_text fields[MDFEED_F_COUNT]; /* valid where `seen` says so */
    const mdfeed_level *sides[2];       /* bids, asks; until the next scan */
    int32_t counts[2];
    uint8_t has_side[2];                /* an array of that key was there */
    uint8_t is_list;                    /* the frame, or its `data`, is an array */
    uint8_t levels_why;                 /* a Why: the first thing wrong inside the arrays, 0 if nothing */
    uint8_t why;                        /* a Why: the whole frame is BAD */
    uint8_t names_symbol;               /* `s`, `symbol` or a stream name with one was there */
    int8_t price_digits;                /* significant fraction digits that the levels need, at least the asked ones */
    int8_t qty_digits;
    int32_t instrument;                 /* index, or -1: none named, or not known */
} mdfeed_record;

static inline int mdfeed_has(const mdfeed_record *record, int slot) {
    return (int)((record->seen >> slot) & 1u);
}

static inline int mdfeed_is(const mdfeed_text *value, const char *word) {
    size_t size = strlen(word);
    return (size_t)value->size == size && memcmp(value->text, word, size) == 0;
}

/* A JSON number has no leading zeros, a decimal in a string is not asked for that. */
static inline int mdfeed_is_plain(const mdfeed_text *value) {
    if (value->type == MDFEED_STRING) return 1;
    return value->type == MDFEED_NUMBER && !(value->size > 1 && value->text[0] == '0' && value->text[1] != '.');
}

#endif
