// One token of a frame: what simdjson's errors, keys and scalars are in the house's words.
//
// The include of simdjson and its build switches live here. Access by error codes only: the callers are noexcept, and a
// throw would end the process.
#pragma once

#ifndef SIMDJSON_EXCEPTIONS
#define SIMDJSON_EXCEPTIONS 0
#endif
#define SIMDJSON_DEVELOPMENT_CHECKS 0
#include "simdjson.h"

#include <cstdint>
#include <string_view>

#include "_decimal.h"
#include "_record.h"

namespace mdfeed {

namespace od = simdjson::ondemand;
using simdjson::error_code;

// The values of `Why` in _types.pxd (which no C++ header can see); test_parse.py holds the two together.
enum Why : uint8_t { W_NONE = 0, W_EMPTY = 8, W_NOT_JSON = 9, W_CUT = 10, W_MISSING_FIELD = 11, W_WRONG_TYPE = 12,
                     W_BAD_NUMBER = 13, W_OVERFLOW = 14, W_TOO_LONG = 15, NO_MEMORY = 255 };

// Whether a text ends inside a string or before its last brace, or goes on after it. On-Demand's own word for that
// depends on the bytes behind the frame, and a replay must say what the live feed said.
inline bool is_cut(const char *data, size_t size) {
    int64_t depth = 0;
    bool is_string = false, is_over = false;
    for (size_t i = 0; i < size; i++) {
        const char c = data[i];
        if (is_string) {
            if (c == '\\') i++;
            else if (c == '"') is_string = false;
            continue;
        }
        if (static_cast<unsigned char>(c) <= ' ') continue;
        if (is_over) return true;
        if (c == '"') is_string = true;
        else if (c == '{' || c == '[') depth++;
        else if (c == '}' || c == ']') is_over = --depth <= 0;
    }
    return is_string || depth > 0;
}

inline uint8_t why_of(error_code error, const char *data, size_t size) {
    switch (error) {
        case simdjson::EMPTY: return W_EMPTY;
        case simdjson::MEMALLOC: return NO_MEMORY;
        case simdjson::CAPACITY: return W_TOO_LONG;
        case simdjson::INCORRECT_TYPE: return W_WRONG_TYPE;
        case simdjson::UTF8_ERROR:
        case simdjson::UNESCAPED_CHARS: return W_NOT_JSON;
        default: return is_cut(data, size) ? W_CUT : W_NOT_JSON;
    }
}

inline uint8_t why_of_number(int code) {
    return code == MDFEED_FINE ? W_NONE : code == MDFEED_TOO_LARGE ? W_OVERFLOW : W_BAD_NUMBER;
}

// A scalar's raw text; containers keep only their type. Type 0: no JSON value starts like that.
inline mdfeed_text text_of(od::value value) {
    std::string_view token = value.raw_json_token();
    const char *from = token.data();
    const char *end = from + token.size();
    while (end > from && static_cast<unsigned char>(end[-1]) <= ' ') end--;
    int32_t type = from < end ? static_cast<unsigned char>(*from) : 0;
    if (type == '-' || (type >= '0' && type <= '9')) type = MDFEED_NUMBER;
    if (type == MDFEED_STRING) {
        from++;
        end -= end > from;  // stage 1 has seen to it that the string is closed
    }
    mdfeed_text text{from, static_cast<int32_t>(end - from), type};
    if (type == MDFEED_TRUE ? !mdfeed_is(&text, "true") : type == MDFEED_FALSE ? !mdfeed_is(&text, "false")
        : type == MDFEED_NULL ? !mdfeed_is(&text, "null")
        : type != MDFEED_STRING && type != MDFEED_NUMBER && type != MDFEED_OBJECT && type != MDFEED_ARRAY)
        text.type = 0;
    return text;
}

inline int slot_of(std::string_view key) {
    switch (key.size()) {
        case 1: {
            unsigned letter = static_cast<unsigned char>(key[0]) - 'A';
            return letter < 26 || (letter >= 32 && letter < 58) ? static_cast<int>(letter) : -1;
        }
        case 2: return key == "pu" ? MDFEED_F_PU : key == "st" ? MDFEED_F_ST : key == "id" ? MDFEED_F_ID : -1;
        case 3: return key == "msg" ? MDFEED_F_MSG : -1;
        case 4: return key == "bids" ? 'b' - 'A' : key == "asks" ? 'a' - 'A' : key == "data" ? MDFEED_F_DATA
                       : key == "code" ? MDFEED_F_CODE : -1;
        case 5: return key == "error" ? MDFEED_F_ERROR : -1;
        case 6: return key == "stream" ? MDFEED_F_STREAM : key == "symbol" ? MDFEED_F_SYMBOL
                       : key == "result" ? MDFEED_F_RESULT : -1;
        case 12: return key == "lastUpdateId" ? MDFEED_F_LAST_UPDATE_ID : -1;
        default: return -1;
    }
}

constexpr uint64_t bit(int slot) { return uint64_t{1} << slot; }
constexpr int SLOT_A = 'a' - 'A', SLOT_B = 'b' - 'A', SLOT_O = 'o' - 'A', SLOT_S = 's' - 'A';
// Keys of the wrapper; everything else belongs to the event inside.
constexpr uint64_t OUTER = bit(MDFEED_F_STREAM) | bit(MDFEED_F_ID) | bit(MDFEED_F_RESULT) | bit(MDFEED_F_ERROR) |
                           bit(MDFEED_F_CODE) | bit(MDFEED_F_MSG) | bit(MDFEED_F_DATA);

// On-Demand keeps its place in stage 1's index to itself; a row of levels is read three times as fast from that index
// than through its iterators. These names are simdjson 3.12's: another one fails to compile (the build pins it).
struct Reach : od::value {
    struct Iter : od::value_iterator {
        static od::json_iterator *json(od::value_iterator &iter) { return iter.*(&Iter::_json_iter); }
    };
    struct Json : od::json_iterator {
        static od::token_iterator &place(od::json_iterator *json) { return json->*(&Json::token); }
    };
    static od::token_iterator &token_of(od::value &value) { return Json::place(Iter::json(value.*(&Reach::iter))); }
};

}  // namespace mdfeed
