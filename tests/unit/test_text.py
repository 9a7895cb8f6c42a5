import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed._text import decimal_text, json_text, time_text

INT128 = st.integers(-(1 << 127) + 1, (1 << 127) - 1)


@pytest.mark.parametrize(
    ("value", "digits", "plain", "as_float"),
    [
        (618002, 1, "61800.2", "61800.2"),
        (5000000, 2, "50000", "50000.0"),
        (0, 0, "0", "0.0"),
        (0, 8, "0", "0.0"),
        (7, 8, "0.00000007", "0.00000007"),
        (70, 8, "0.0000007", "0.0000007"),
        (100, 2, "1", "1.0"),
        (-25, 1, "-2.5", "-2.5"),
        ((1 << 63) - 1, 0, "9223372036854775807", "9223372036854775807.0"),
        (-(1 << 63), 18, "-9.223372036854775808", "-9.223372036854775808"),
        (1, 30, "0." + "0" * 29 + "1", "0." + "0" * 29 + "1"),
    ],
)
def test_decimals_are_the_shortest_plain_ones(value: int, digits: int, plain: str, as_float: str) -> None:
    assert decimal_text(value, digits) == plain
    assert decimal_text(value, digits, True) == as_float


@given(value=st.integers(-(1 << 63), (1 << 63) - 1) | INT128, digits=st.integers(0, 127), is_float=st.booleans())
def test_decimals_round_trip_exactly(value: int, digits: int, is_float: bool) -> None:
    text = decimal_text(value, digits, is_float)
    sign, figures, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    read = int("".join(map(str, figures))) * (-1 if sign else 1)
    assert read * 10**digits == value * 10**-exponent
    assert "e" not in text.lower()
    assert not text.startswith(("0", "-0")) or text in ("0", "0.0") or text.lstrip("-").startswith("0.")
    if "." in text and not (is_float and text.endswith(".0")):
        assert text[-1] != "0"
    assert not is_float or "." in text


@pytest.mark.parametrize("digits", [-1, 128])
def test_digits_out_of_range_are_refused(digits: int) -> None:
    with pytest.raises(ValueError, match="digits"):
        decimal_text(1, digits)


def test_more_than_128_bits_are_refused() -> None:
    with pytest.raises(OverflowError):
        decimal_text(1 << 127, 0)


@given(us=st.integers(0, 9_223_372_036_854_774))
def test_times_are_what_datetime_writes(us: int) -> None:
    seconds, fraction = divmod(us, 1_000_000)
    expected = datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction)
    text = time_text(us * 1000 + 999)
    assert text == expected.isoformat(timespec="microseconds")
    assert text.endswith("+00:00")


@given(st.text())
def test_json_strings_are_read_back(text: str) -> None:
    assert json.loads(json_text(text)) == text
