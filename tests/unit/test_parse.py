"""Instruments, and JSON and decimals seen through a real decoder against json and decimal.Decimal."""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import mdfeed
from mdfeed._parse import KIND, MAX_SYMBOL_BYTES, WHY, Instruments, decimal_text
from mdfeed.errors import DecodeError
from mdfeed.venues._binance_wire import BinanceDecoder

PACKAGE = Path(mdfeed.__file__).parent
INT64_MAX = 2**63 - 1


def decoder_of(*symbols: str, product: str = "usdm", digits: tuple[int, int] = (0, 0)) -> BinanceDecoder:
    instruments = Instruments()
    for symbol in symbols or ("BTCUSDT",):
        instruments.add(symbol, *digits)
    return BinanceDecoder(instruments, product)


def diff(bids: str, asks: str = "[]") -> bytes:
    return f'{{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"pu":0,"b":{bids},"a":{asks}}}'.encode()


def why(decoder: BinanceDecoder, frame: bytes) -> str:
    """The reason of a frame that is not data; "" when it is."""
    try:
        return str(decoder.decode_frame(frame).get("why", ""))
    except DecodeError as error:
        return error.reason


def enum_values(text: str, prefix: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(rf"\b({prefix}\w+) = (\d+)", text)}


def test_names_and_numbers_of_the_c_enums_agree() -> None:
    types = (PACKAGE / "_types.pxd").read_text()
    whys = enum_values(types, "W_")
    assert len(WHY) == whys.pop("W_COUNT")
    assert {name[2:].lower(): number for name, number in whys.items() if number} == {
        name: number for number, name in enumerate(WHY) if name
    }
    assert len(KIND) == enum_values(types, "K_")["K_COUNT"]
    header = enum_values((PACKAGE / "_tokens.hpp").read_text(), "W_")
    assert header.items() <= (whys | {"W_NONE": 0}).items()
    assert len(header) == 9


# Instruments


def test_indices_are_stable_over_removal_and_return() -> None:
    instruments = Instruments()
    assert [instruments.add(name) for name in ("BTCUSDT", "ETHUSDT", "BTCUSDT")] == [0, 1, 0]
    instruments.remove("BTCUSDT")
    assert instruments.index("BTCUSDT") == -1
    assert instruments.index("ETHUSDT") == 1
    assert len(instruments) == 2
    with pytest.raises(KeyError):
        instruments.remove("BTCUSDT")
    assert instruments.add("BTCUSDT", 2, 3) == 0
    assert (instruments.symbol(0), instruments.digits(0)) == ("BTCUSDT", (2, 3))


def test_lower_case_is_found_only_when_case_is_folded() -> None:
    folding, exact = Instruments(), Instruments(fold_case=False)
    for instruments in (folding, exact):
        instruments.add("ETHUSD_PERP")
    assert folding.index("ethusd_perp") == 0
    assert exact.index("ethusd_perp") == -1
    assert exact.index("ETHUSD_PERP") == 0
    # 0x20 apart, yet not letters: "_" and DEL, "1" and DC1.
    assert folding.index("ETHUSD\x7fPERP") == -1


def test_digits_only_grow_and_stay_within_eighteen() -> None:
    instruments = Instruments()
    instruments.add("A", 4, 1)
    instruments.set_digits(0, 2, 3)
    assert instruments.digits(0) == (4, 3)
    for bad in ((19, 0), (0, -1)):
        with pytest.raises(ValueError, match="digits"):
            instruments.set_digits(0, *bad)
    for call in (instruments.digits, instruments.symbol):
        with pytest.raises(IndexError):
            call(1)


@pytest.mark.parametrize("name", ["", "X" * (MAX_SYMBOL_BYTES + 1)])
def test_a_symbol_of_impossible_length_is_refused(name: str) -> None:
    instruments = Instruments()
    with pytest.raises(ValueError, match="1 to 39 bytes"):
        instruments.add(name)
    assert instruments.index(name) == -1


@settings(deadline=None)
@given(st.lists(st.text("ABCXYZ019_", min_size=1, max_size=MAX_SYMBOL_BYTES), max_size=300))
def test_the_table_is_a_dict(names: list[str]) -> None:
    instruments = Instruments()
    twin: dict[str, int] = {}
    for name in names:
        assert instruments.add(name) == twin.setdefault(name, len(twin))
    for name in [*names, *(f"{name[:20]}Q" for name in names)]:
        assert instruments.index(name) == twin.get(name, -1)
    assert [instruments.symbol(index) for index in range(len(instruments))] == list(twin)


# Decimals


@settings(deadline=None)
@given(st.integers(-INT64_MAX, INT64_MAX), st.integers(0, 18))
def test_decimal_text_is_plain_and_exact(value: int, digits: int) -> None:
    text = decimal_text(value, digits)
    assert Decimal(text) == Decimal(value).scaleb(-digits)
    assert re.fullmatch(r"-?\d+(\.\d*[1-9])?", text)


@st.composite
def spelt_decimals(draw: st.DrawFn) -> str:
    """Venue-like text: any split of up to 19 digits, any count of trailing zeros."""
    whole = draw(st.from_regex(r"0|[1-9][0-9]{0,11}", fullmatch=True))
    fraction = draw(st.from_regex(r"[0-9]{0,18}", fullmatch=True)) + "0" * draw(st.integers(0, 9))
    return f"{whole}.{fraction}" if fraction else whole


def plain(text: str) -> str:
    text = format(Decimal(text), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(spelt_decimals(), spelt_decimals()), min_size=1, max_size=6), st.booleans(), st.booleans())
@example([("61800.20", "0.000"), ("99999999.99", "1.5")], False, False)
@example([("0.00000001", "6195.00000000"), ("123456789.00000001", "12345678.00000001")], False, False)
@example([("9223372036854775807", "1"), ("9223372036854775808", "1")], False, False)
def test_levels_are_exact_or_refused(rows: list[tuple[str, str]], is_bare: bool, is_spaced: bool) -> None:
    decoder = decoder_of()
    text = json.dumps(rows, separators=(", ", ": ") if is_spaced else (",", ":"))
    frame = diff(text.replace('"', "") if is_bare else text)
    need = [max(len(plain(row[column]).partition(".")[2]) for row in rows) for column in (0, 1)]
    largest = [max(Decimal(row[column]) for row in rows) * 10 ** need[column] for column in (0, 1)]
    if max(need) > 18 or max(largest) > INT64_MAX:
        assert why(decoder, frame) == "overflow"
    else:
        assert decoder.decode_frame(frame)["bids"] == [(plain(price), plain(qty)) for price, qty in rows]
        assert decoder.instruments.digits(0) == tuple(need)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**16 - 1), st.integers(0, 8), st.integers(0, 8), st.integers(0, 8))
def test_every_split_of_digits_reads_alike_on_every_path(number: int, digits: int, spelt: int, padding: int) -> None:
    """Strings take the quick way, bare numbers the careful one; rows after the first another than the first."""
    text = f"{decimal_text(number, spelt)}"
    text += ("" if "." in text else "." if padding else "") + "0" * padding
    assume(Decimal(text).scaleb(max(digits, len(plain(text).partition(".")[2]))) <= INT64_MAX)
    decoder = decoder_of(digits=(digits, digits))
    rows = f'[["1.5","2"],["{text}","{text}"],["{text}","{text}"]]'
    found = decoder.decode_frame(diff(rows, f"[[{text},{text}]]"))
    assert found["bids"][1:] == [(plain(text), plain(text))] * 2
    assert found["asks"] == [(plain(text), plain(text))]


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".5", "-1", "+1", "1e3", "1E3", "0x1", " 1", "1 ", "1,5", "1.2.3", "NaN", "\uff11", "1\\u0030"],
)
@pytest.mark.parametrize("row", ['["{}","1"]', '["1","{}"]', '["1.5","2.5"],["{}","1.50"]'])
def test_what_is_not_a_plain_decimal_is_bad(text: str, row: str) -> None:
    assert why(decoder_of(), diff(f"[{row.format(text)}]")) == "bad_number"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "bad_number"),
        ("01", "bad_number"),
        ("1e3", "bad_number"),
        ("true", "wrong_type"),
        ("null", "wrong_type"),
        ("{}", "wrong_type"),
        ("[]", "wrong_type"),
    ],
)
def test_what_is_not_a_plain_bare_number_is_bad(text: str, reason: str) -> None:
    assert why(decoder_of(), diff(f'[["1",{text}]]')) == reason


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ('[["1"]]', "missing_field"),
        ("[[]]", "missing_field"),
        ('["1","2"]', "wrong_type"),
        ("[5]", "wrong_type"),
        ('[{"1":"2"}]', "wrong_type"),
        ('{"1":"2"}', "missing_field"),
        ('[["1","2"]', "cut"),
        ('[["1","2"],]', "not_json"),
        ('[["1","2"]["3","4"]]', "not_json"),
        ('[["1" "2"]]', "not_json"),
        ('[["1","2"]}', "not_json"),
    ],
)
def test_levels_of_another_shape_are_bad(levels: str, reason: str) -> None:
    assert why(decoder_of(), diff(levels)) == reason


def test_a_third_column_is_passed_over() -> None:
    assert decoder_of().decode_frame(diff('[["1","2",[]],["3","4",[]]]'))["bids"] == [("1", "2"), ("3", "4")]


def test_digits_grow_by_what_a_frame_needs_and_no_more() -> None:
    decoder = decoder_of()
    decoder.decode_frame(diff('[["1.50","2.000"]]'))
    assert decoder.instruments.digits(0) == (1, 0)
    decoder.decode_frame(diff('[["1","0.0250"]]'))
    assert decoder.instruments.digits(0) == (1, 3)


# JSON


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"\x00", "not_json"),
        (b"nonsense", "wrong_type"),
        (b"5", "wrong_type"),
        (b'"text"', "wrong_type"),
        (b"<html>", "not_json"),
        (b"{}", "unknown_event"),
        (b"[]", "unknown_event"),
        (b"[1,2", "cut"),
        (b'{"e":"depthUpdate"', "cut"),
        (b'{"e":"depthUpd', "cut"),
        (b'{"e":5}', "wrong_type"),
        (b'{"e" "x"}', "not_json"),
        (b'{"a":"b":1,"c":2}}', "cut"),
        (b'{"a":"b":1,"c":2}', "not_json"),
        (b'{"a":tru}', "not_json"),
        (b'{"a":nulll}', "not_json"),
        (b'{"a":x}', "not_json"),
        (b'{"a":}', "not_json"),
        (b'{"a":1 2}', "not_json"),
        (b'{"e":"\xff\xfe"}', "not_json"),
        (b'{"e":"a\x00b"}', "not_json"),
        (b"{" * 5000, "cut"),
        (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "unknown_event"),
    ],
)
def test_foreign_frames_have_a_reason(frame: bytes, reason: str) -> None:
    assert why(decoder_of(), frame) == reason


def test_what_comes_after_the_frame_or_is_missing_at_its_end_is_cut() -> None:
    decoder = decoder_of()
    whole = b'{"stream":"btcusdt@depth","data":' + diff('[["1","2"]]') + b"}"
    assert why(decoder, whole) == ""
    # The trap: the event's object is whole, the wrapper has lost its last brace.
    assert why(decoder, whole[:-1]) == "cut"
    for tail in (b"}", b"{}", b"5", whole):
        assert why(decoder, whole + tail) == "cut"
    assert why(decoder, whole + b" \r\n") == ""


def test_no_prefix_of_a_frame_decodes() -> None:
    frame = b'{"stream":"btcusdt@depth","data":' + diff('[["1.5","2.5"],["3.5","4.5"]]', '[["5","6"]]') + b"}"
    decoder = decoder_of()
    reasons = {why(decoder, frame[:end]) for end in range(len(frame))}
    assert reasons == {"empty", "cut"}


def test_a_frame_above_the_limit_is_too_long_and_a_large_one_is_read() -> None:
    decoder = decoder_of()
    rows = [[str(price), "1"] for price in range(100_000, 300_000)]
    assert decoder.decode_frame(diff(json.dumps(rows)))["bids"] == [tuple(row) for row in rows]
    assert decoder.decode_frame(diff(json.dumps(rows, separators=(",", ":"))))["bids"][-1] == ("299999", "1")
    assert why(decoder, diff("[]") + b" " * (16 << 20)) == "too_long"
    assert decoder.decode_frame(diff('[["7","8"]]'))["bids"] == [("7", "8")]


def test_the_last_of_two_equal_keys_counts_as_in_json() -> None:
    frame = diff('[["1","2"],["3","4"]]', '[["5","6"]]')[:-1] + b',"u":9,"b":[["7","8"]]}'
    found = decoder_of().decode_frame(frame)
    assert (found["last_id"], found["bids"], found["asks"]) == (9, [("7", "8")], [("5", "6")])


def test_levels_before_the_symbol_get_their_own_digits() -> None:
    decoder = decoder_of("BTCUSDT", "ETHUSDT", digits=(1, 3))
    event = json.loads(diff('[["1.5","2.125"]]', '[["2.5","3"]]'))
    for seed in range(200):
        keys = random.Random(seed).sample(sorted(event), len(event))
        inner = {key: event[key] for key in keys}
        found = decoder.decode_frame(json.dumps(inner).encode())
        assert (found["symbol"], found["bids"], found["asks"]) == ("BTCUSDT", [("1.5", "2.125")], [("2.5", "3")])
        # A stream name that disagrees is not believed, whether it comes first or last.
        for wrapper in ({"stream": "ethusdt@depth", "data": inner}, {"data": inner, "stream": "ethusdt@depth"}):
            assert decoder.decode_frame(json.dumps(wrapper).encode()) == found


def test_an_unknown_or_removed_symbol_is_ignored() -> None:
    decoder = decoder_of("ETHUSDT")
    frame = diff('[["bad","levels"]]')
    assert decoder.decode_frame(frame) == {"kind": "ignored", "why": "unknown_symbol", "event": "depthUpdate"}
    decoder.instruments.add("BTCUSDT")
    assert why(decoder, frame) == "bad_number"
    decoder.instruments.remove("BTCUSDT")
    assert why(decoder, frame) == "unknown_symbol"


def test_the_size_of_a_frame_lies_within_its_buffer() -> None:
    decoder = decoder_of()
    frame = diff('[["1","2"]]')
    assert decoder.decode_frame(frame + b"}" * 99, len(frame)) == decoder.decode_frame(frame)
    for size in (-1, len(frame) + 1):
        with pytest.raises(ValueError, match="size is 0 to"):
            decoder.decode_frame(frame, size)


def test_a_decode_error_carries_reason_and_excerpt() -> None:
    with pytest.raises(DecodeError) as caught:
        decoder_of().decode_frame(b"{" + b"x" * 500)
    assert caught.value.excerpt == b"{" + b"x" * 79
    assert caught.value.reason in WHY
