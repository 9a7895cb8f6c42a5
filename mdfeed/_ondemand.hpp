// One forward pass of simdjson On-Demand over a frame, into an mdfeed_record.
//
// Knows JSON, short keys and [price, quantity] rows; no venue's schema. Error-code accessors only: the callers are
// noexcept, and a throw would end the process. Keys may come in any order; levels become integers in the same pass
// when the symbol has been named before them (it practically always has), else in a second one.
#pragma once

#include <Python.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "_tokens.hpp"

namespace mdfeed {

// Index of the active instrument of that name, or -1.
using Resolve = int32_t (*)(void *table, const char *symbol, Py_ssize_t size);
// Digits of an instrument given by index; -1 when there is none.
using Digits = int32_t (*)(void *table, int32_t index, int8_t *price_digits, int8_t *qty_digits);

constexpr size_t MAX_FRAME_BYTES = 16u << 20;
// A frame above this gets a parser and a padding copy of its own, so that one 5 MB frame does not keep 30 MB for ever.
constexpr size_t KEEP_BYTES = 1u << 20;

class Scanner {
  public:
    ~Scanner() {
        std::free(copy_);
        for (Side &side : sides_) std::free(side.rows);
    }

    // Fills `record`. `instrument` is the default where the frame names no symbol, -1 for none.
    void scan(const char *data, size_t size, size_t capacity, int32_t instrument, mdfeed_record *record) {
        record->why = W_NONE;
        record->seen = 0;
        if (size > MAX_FRAME_BYTES) {
            record->why = W_TOO_LONG;
            return;
        }
        if (copy_bytes_ > KEEP_BYTES) drop_copy();
        if (capacity < size + simdjson::SIMDJSON_PADDING) {
            if (!pad(data, size)) {
                record->why = NO_MEMORY;
                return;
            }
            data = copy_;
            capacity = copy_bytes_;
        }
        record_ = record;
        default_ = instrument;
        start_ = data;
        end_ = data + size;
        if (size <= KEEP_BYTES) {
            record->why = scan_with(parser_, data, size, capacity);
        } else {
            od::parser once;
            record->why = scan_with(once, data, size, capacity);
        }
    }

    void *table = nullptr;
    Resolve resolve = nullptr;
    Digits digits_of = nullptr;

  private:
    struct Side {
        mdfeed_level *rows = nullptr;
        int32_t count = 0;
        int32_t capacity = 0;
    };

    od::parser parser_;
    char *copy_ = nullptr;
    size_t copy_bytes_ = 0;
    Side sides_[2];
    mdfeed_record *record_ = nullptr;
    const char *start_ = nullptr;       // the frame's first byte
    const char *base_ = nullptr;        // what simdjson's index counts from: the first byte behind a byte order mark
    uint32_t limit_ = 0;                // the frame's end, counted from there
    const char *end_ = nullptr;         // one behind the frame's last byte
    int32_t default_ = -1;
    const char *asked_ = nullptr;       // the name that was resolved last in this pass, and its index
    int32_t answer_ = -1;
    int32_t used_ = -1;                 // whose digits the levels of this pass were read with
    bool has_skipped_ = false;          // levels of this pass were not read
    bool is_inside_ = false;            // the event's own object has been found
    int8_t price_digits_ = 0, qty_digits_ = 0;

    void drop_copy() {
        std::free(copy_);
        copy_ = nullptr;
        copy_bytes_ = 0;
    }

    bool pad(const char *data, size_t size) {
        size_t wanted = size + simdjson::SIMDJSON_PADDING;
        if (copy_bytes_ < wanted) {
            drop_copy();
            size_t rounded = (wanted + 4095) & ~size_t{4095};
            copy_ = static_cast<char *>(std::malloc(rounded));
            if (!copy_) return false;
            copy_bytes_ = rounded;
        }
        std::memcpy(copy_, data, size);
        std::memset(copy_ + size, ' ', simdjson::SIMDJSON_PADDING);
        return true;
    }

    uint8_t scan_with(od::parser &parser, const char *data, size_t size, size_t capacity) {
        od::document doc;
        error_code error = parser.iterate(data, size, capacity).get(doc);
        if (error) return why_of(error, start_, static_cast<size_t>(end_ - start_));
        const bool has_mark = size >= 3 && std::memcmp(data, "\xef\xbb\xbf", 3) == 0;
        base_ = data + (has_mark ? 3 : 0);
        limit_ = static_cast<uint32_t>(end_ - base_);
        used_ = -1;
        uint8_t why = pass(doc);
        if (why) return why;
        int32_t named = locate();
        if (named >= 0 && (named != used_ || has_skipped_) && (record_->has_side[0] || record_->has_side[1])) {
            // The symbol came after the levels, or another one than was thought: once more, with its digits.
            default_ = named;
            doc.rewind();
            why = pass(doc, named);
            if (why) return why;
        }
        record_->instrument = named;
        for (int side = 0; side < 2; side++) {
            record_->sides[side] = sides_[side].rows;
            record_->counts[side] = sides_[side].count;
        }
        return W_NONE;
    }

    void forget_event() {
        record_->seen &= OUTER;
        record_->has_side[0] = record_->has_side[1] = 0;
        record_->levels_why = W_NONE;
        record_->price_digits = record_->qty_digits = 0;
        sides_[0].count = sides_[1].count = 0;
        has_skipped_ = false;
    }

    uint8_t pass(od::document &doc, int32_t settled = -1) {
        record_->seen = 0;
        record_->is_list = 0;
        forget_event();
        is_inside_ = false;
        asked_ = nullptr;
        used_ = -1;
        if (settled >= 0) use(settled);
        od::json_type type;
        error_code error = doc.type().get(type);
        if (error) return why_of(error, start_, static_cast<size_t>(end_ - start_));
        if (type == od::json_type::array) {
            record_->is_list = 1;
            std::string_view whole;
            error = doc.raw_json().get(whole);
        } else if (type == od::json_type::object) {
            od::object object;
            error = doc.get_object().get(object);
            if (!error) error = walk(object, 0);
        } else {
            return W_WRONG_TYPE;
        }
        if (error) return why_of(error, start_, static_cast<size_t>(end_ - start_));
        // There is more, or the last braces were found behind the frame.
        if (doc.at_end()) return W_NONE;
        return why_of(simdjson::TRAILING_CONTENT, start_, static_cast<size_t>(end_ - start_));
    }

    error_code walk(od::object object, int level) {
        for (auto next : object) {
            od::field field;
            error_code error = std::move(next).get(field);
            if (error) return error;
            od::value value = field.value();
            mdfeed_text text = text_of(value);
            if (!is_followed(value, text.type, '}')) return simdjson::TAPE_ERROR;
            int slot = slot_of(field.escaped_key());
            if (slot < 0 || ((bit(slot) & OUTER) ? level > 0 : level == 0 && is_inside_)) continue;
            if (text.type == MDFEED_OBJECT && level == 0 && (slot == MDFEED_F_DATA || slot == MDFEED_F_RESULT)) {
                forget_event();
                is_inside_ = true;
                record_->seen |= bit(slot);
                record_->fields[slot] = text;
                error = step_into(value, 1);
                if (error) return error;
                continue;
            }
            if (text.type == MDFEED_OBJECT && slot == SLOT_O && level < 2) {
                error = step_into(value, 2);
                if (error) return error;
                continue;
            }
            // The last of equal keys counts, whether it is an array or a scalar.
            if (slot == SLOT_A || slot == SLOT_B) record_->has_side[slot == SLOT_A] = 0;
            if (text.type == MDFEED_ARRAY && (slot == SLOT_A || slot == SLOT_B)) {
                record_->seen &= ~bit(slot);
                error = read_side(value, slot == SLOT_A);
                if (error) return error;
                continue;
            }
            if (text.type == MDFEED_ARRAY && slot == MDFEED_F_DATA) record_->is_list = 1;
            record_->seen |= bit(slot);
            record_->fields[slot] = text;
        }
        return simdjson::SUCCESS;
    }

    // On-Demand steps over a value that nobody took without a look at what follows: it reads `"a":"b":1` as a key more,
    // and behind the last token whatever the buffer holds. Containers are followed by its own iterators.
    bool is_followed(od::value &value, int32_t type, char closer) const {
        if (type == MDFEED_OBJECT || type == MDFEED_ARRAY) return true;
        uint32_t next = Reach::token_of(value).position()[1];
        return type && next < limit_ && (base_[next] == ',' || base_[next] == closer);
    }

    error_code step_into(od::value value, int level) {
        od::object inner;
        error_code error = value.get_object().get(inner);
        return error ? error : walk(inner, level);
    }

    // The index that the frame's own symbol, the default, or the stream's name stands for.
    int32_t locate() {
        for (int slot : {SLOT_S, static_cast<int>(MDFEED_F_SYMBOL)}) {
            if (!mdfeed_has(record_, slot) || record_->fields[slot].type != MDFEED_STRING) continue;
            record_->names_symbol = 1;
            const mdfeed_text &name = record_->fields[slot];
            if (name.text != asked_) {
                asked_ = name.text;
                answer_ = resolve(table, name.text, name.size);
            }
            return answer_;
        }
        record_->names_symbol = 0;
        if (default_ >= 0) return default_;
        if (!mdfeed_has(record_, MDFEED_F_STREAM)) return -1;
        const mdfeed_text &stream = record_->fields[MDFEED_F_STREAM];
        const void *at = stream.size ? std::memchr(stream.text, '@', static_cast<size_t>(stream.size)) : nullptr;
        if (!at || *stream.text == '!') return -1;
        record_->names_symbol = 1;
        return resolve(table, stream.text, static_cast<const char *>(at) - stream.text);
    }

    bool use(int32_t instrument) {
        if (instrument < 0 || digits_of(table, instrument, &price_digits_, &qty_digits_) < 0) return false;
        used_ = instrument;
        return true;
    }

    bool grow(Side &side) {
        int32_t capacity = side.capacity ? side.capacity * 2 : 1024;
        void *rows = std::realloc(side.rows, static_cast<size_t>(capacity) * sizeof(mdfeed_level));
        if (!rows) return false;
        side.rows = static_cast<mdfeed_level *>(rows);
        side.capacity = capacity;
        return true;
    }

    void blame(uint8_t why) {
        if (!record_->levels_why) record_->levels_why = why;
    }

    error_code read_side(od::value value, int which) {
        Side &side = sides_[which];
        side.count = 0;
        record_->has_side[which] = 1;
        if (used_ < 0 && !use(locate())) {  // not for us, or the symbol is yet to come
            has_skipped_ = true;
            return simdjson::SUCCESS;
        }
        if (record_->price_digits < price_digits_) record_->price_digits = price_digits_;
        if (record_->qty_digits < qty_digits_) record_->qty_digits = qty_digits_;
#ifdef MDFEED_SWAR
        if (quick_rows(value, side)) return simdjson::SUCCESS;
        side.count = 0;
#endif
        return careful_rows(value, side);
    }

#ifdef MDFEED_SWAR
    // The venue's usual spelling, `[["p","q"],...]` without blanks: six tokens a row, each of whose places the index of
    // stage 1 knows, so rows don't wait for each other. Leaves the iterator at the last bracket. False: something
    // else is there, and the careful way says what. Reads at most 18 bytes behind a token of the frame.
    bool quick_rows(od::value &value, Side &side) {
        if (price_digits_ > 8 || qty_digits_ > 8) return false;
        const unsigned price_digits = static_cast<unsigned>(price_digits_);
        const unsigned qty_digits = static_cast<unsigned>(qty_digits_);
        auto &token = Reach::token_of(value);
        const uint32_t *index = token.position();
        const char *const base = base_;
        const uint32_t limit = limit_;
        if (index[1] < limit && base[index[1]] == ']') {
            token.set_position(index + 1);
            return true;
        }
        mdfeed_column price_column{}, qty_column{};
        for (index++;; index += 6) {
            if (side.count == side.capacity && !grow(side)) return false;
            mdfeed_level &row = side.rows[side.count];
            const char *price = base + index[1], *comma = base + index[2];
            const char *qty = base + index[3], *close = base + index[4];
            // Behind the last token stand the frame's length and a zero: no row can be made of these.
            if (index[5] >= limit || base[index[0]] != '[' || *price != '"' || *comma != ',' || *qty != '"' ||
                *close != ']' || comma[-1] != '"' || close[-1] != '"')
                return false;
            price++, qty++, comma--, close--;
            if (side.count == 0) {
                price_column = mdfeed_learn_column(price, comma, price_digits_);
                qty_column = mdfeed_learn_column(qty, close, qty_digits_);
            }
            if (!read_quickly(price_column, price, comma, price_digits, &row.price) ||
                !read_quickly(qty_column, qty, close, qty_digits, &row.qty))
                return false;
            side.count++;
            if (base[index[5]] == ']') {
                token.set_position(index + 5);
                return true;
            }
            if (base[index[5]] != ',') return false;
        }
    }
#endif

    static bool read_quickly(const mdfeed_column &column, const char *from, const char *quote, unsigned digits,
                             int64_t *out) {
        if (column.is_known && mdfeed_column_decimal(&column, from, quote, out)) return true;
        return mdfeed_quick_decimal(&from, digits, out) && from == quote + 1;
    }

    error_code careful_rows(od::value value, Side &side) {
        od::array rows;
        error_code error = value.get_array().get(rows);
        if (error) return error;
        for (auto next : rows) {
            od::value row_value;
            od::array row;
            if ((error = std::move(next).get(row_value))) return error;
            int32_t type = text_of(row_value).type;
            if (!is_followed(row_value, type, ']')) return simdjson::TAPE_ERROR;
            if (type != MDFEED_ARRAY) {
                blame(W_WRONG_TYPE);
                continue;
            }
            if ((error = row_value.get_array().get(row))) return error;
            if (side.count == side.capacity && !grow(side)) return simdjson::MEMALLOC;
            mdfeed_level &level = side.rows[side.count];
            int column = 0;
            for (auto cell : row) {
                od::value cell_value;
                if ((error = std::move(cell).get(cell_value))) return error;
                mdfeed_text text = text_of(cell_value);
                if (!is_followed(cell_value, text.type, ']')) return simdjson::TAPE_ERROR;
                // Old Spot snapshots have a third, always empty column.
                if (column < 2) read_cell(text, column, column ? &level.qty : &level.price);
                column++;
            }
            if (column < 2) blame(W_MISSING_FIELD);
            side.count++;
        }
        return simdjson::SUCCESS;
    }

    void read_cell(const mdfeed_text &text, int column, int64_t *out) {
        if (text.type != MDFEED_STRING && text.type != MDFEED_NUMBER) return blame(W_WRONG_TYPE);
        if (!mdfeed_is_plain(&text)) return blame(W_BAD_NUMBER);
        int code = mdfeed_decimal(text.text, text.size, column ? qty_digits_ : price_digits_, out,
                                  column ? &record_->qty_digits : &record_->price_digits);
        if (code != MDFEED_LONG_FRACTION) blame(why_of_number(code));
    }
};

}  // namespace mdfeed

// The C face of it, for Cython.
static inline void *mdfeed_scanner_new(void *table, mdfeed::Resolve resolve, mdfeed::Digits digits_of) {
    auto *scanner = new (std::nothrow) mdfeed::Scanner();
    if (scanner) {
        scanner->table = table;
        scanner->resolve = resolve;
        scanner->digits_of = digits_of;
    }
    return scanner;
}
static inline void mdfeed_scanner_free(void *scanner) { delete static_cast<mdfeed::Scanner *>(scanner); }
static inline void mdfeed_scan(void *scanner, const char *data, Py_ssize_t size, Py_ssize_t capacity,
                               int32_t instrument, mdfeed_record *record) {
    static_cast<mdfeed::Scanner *>(scanner)->scan(data, static_cast<size_t>(size), static_cast<size_t>(capacity),
                                                  instrument, record);
}
