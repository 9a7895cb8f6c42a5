"""The frames that Binance documents, in any key order, and the rules that differ between its products."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from mdfeed._parse import Instruments
from mdfeed.errors import DecodeError
from mdfeed.venues._binance_wire import BinanceDecoder
from tests import binance_twin as twin

MS = 1_785_000_000_000
LEVELS = {"b": [["61800.10", "10.000"], ["61799.00", "0.000"]], "a": [["61800.20", "2.507"]]}
DEPTH = {"e": "depthUpdate", "E": MS, "T": MS - 3, "s": "BTCUSDT", "U": 157, "u": 160, "pu": 149, **LEVELS}
TICKER = {
    "e": "24hrTicker",
    "E": MS,
    "s": "BTCUSDT",
    "p": "-94.99",
    "P": "-95.960",
    "w": "61018.48",
    "c": "61800.20",
    "Q": "0.006",
    "o": "61895.19",
    "h": "62100.00",
    "l": "60000.01",
    "v": "123456.789",
    "q": "7599999999.1234",
    "O": MS - 86_400_000,
    "C": MS,
    "F": 1,
    "L": 18150,
    "n": 18151,
}
ORDER = {
    "s": "BTCUSDT",
    "S": "SELL",
    "o": "LIMIT",
    "f": "IOC",
    "q": "0.014",
    "p": "9910",
    "ap": "9910.123456",
    "X": "FILLED",
    "l": "0.014",
    "z": "0.014",
    "T": MS,
}

FUTURES: dict[str, dict[str, Any]] = {
    "btcusdt@depth": DEPTH,
    "btcusdt@depth@100ms": DEPTH | {"st": 1, "ps": "BTCUSDT", "new": {"e": "x", "b": [1, {"s": "ETHUSDT"}]}},
    "btcusdt@depth5": DEPTH,
    "btcusdt@depth20@100ms": DEPTH,
    "btcusdt@aggTrade": {
        "e": "aggTrade",
        "E": MS,
        "s": "BTCUSDT",
        "a": 5933014,
        "p": "61800.001",
        "q": "100",
        "nq": "100",
        "f": 100,
        "l": 105,
        "T": MS,
        "m": True,
    },
    "btcusdt@trade": {
        "e": "trade",
        "E": MS,
        "T": MS,
        "s": "BTCUSDT",
        "t": 5266583935,
        "p": "61800.30",
        "q": "0.006",
        "X": "INSURANCE_FUND",
        "m": False,
    },
    "btcusdt@bookTicker": {
        "e": "bookTicker",
        "u": 5123107839020,
        "s": "BTCUSDT",
        "b": "61800.20",
        "B": "2.507",
        "a": "61800.30",
        "A": "2.510",
        "T": MS,
        "E": MS,
    },
    "btcusdt@markPrice@1s": {
        "e": "markPriceUpdate",
        "E": MS,
        "s": "BTCUSDT",
        "p": "61794.15268",
        "i": "61784.62659",
        "P": "61784.25641965",
        "r": "-0.00038167",
        "T": MS + 1,
    },
    "btcusdt@ticker": TICKER,
    "btcusdt@forceOrder": {"e": "forceOrder", "E": MS, "o": ORDER},
}
SPOT: dict[str, dict[str, Any]] = {
    "btcusdt@depth@100ms": {key: value for key, value in DEPTH.items() if key not in ("T", "pu")},
    "btcusdt@depth20@100ms": {"lastUpdateId": 160, "bids": LEVELS["b"], "asks": LEVELS["a"]},
    "btcusdt@bookTicker": {
        "u": 400900217,
        "s": "BTCUSDT",
        "b": "25.35190000",
        "B": "31.21000000",
        "a": "25.36520000",
        "A": "40.66000000",
    },
    "btcusdt@trade": {
        "e": "trade",
        "E": MS,
        "s": "BTCUSDT",
        "t": 12345,
        "p": "0.00100000",
        "q": "100.00000000",
        "T": MS,
        "m": True,
        "M": True,
    },
    "btcusdt@aggTrade": {
        "e": "aggTrade",
        "E": MS,
        "s": "BTCUSDT",
        "a": 12345,
        "p": "0.001",
        "q": "100",
        "f": 100,
        "l": 105,
        "T": MS,
        "m": False,
        "M": True,
    },
    "btcusdt@ticker": TICKER | {"x": "0.0009", "b": "0.0024", "B": "10", "a": "0.0026", "A": "100"},
}
FRAMES = [
    (product, stream, data)
    for product, frames in (("usdm", FUTURES), ("coinm", FUTURES), ("spot", SPOT))
    for stream, data in frames.items()
]


def decoder_of(product: str = "usdm", *symbols: str) -> BinanceDecoder:
    instruments = Instruments()
    for symbol in symbols or ("BTCUSDT",):
        instruments.add(symbol)
    return BinanceDecoder(instruments, product)


def encode(value: Any, **kwargs: Any) -> bytes:
    return json.dumps(value, **kwargs).encode()


def ignored(why: str, event: str) -> dict[str, str]:
    return {"kind": "ignored", "why": why, "event": event}


def reason(decoder: BinanceDecoder, frame: Any) -> str:
    with pytest.raises(DecodeError) as caught:
        decoder.decode_frame(frame if isinstance(frame, bytes) else encode(frame))
    return caught.value.reason


@pytest.mark.parametrize(("product", "stream", "data"), FRAMES, ids=[f"{row[0]}-{row[1]}" for row in FRAMES])
def test_documented_frames_decode_in_any_key_order(product: str, stream: str, data: dict[str, Any]) -> None:
    decoder = decoder_of(product, "ETHUSDT", "BTCUSDT")
    rng = random.Random(stream)
    expected = twin.describe(encode({"stream": stream, "data": data}), product)
    assert expected["symbol"] == "BTCUSDT"
    for spaced in (False, True) * 40:
        keys = rng.sample(sorted(data), len(data))
        wrapper = [("stream", stream), ("data", {key: data[key] for key in keys})]
        rng.shuffle(wrapper)
        separators = (", ", ": ") if spaced else (",", ":")
        assert decoder.decode_frame(encode(dict(wrapper), separators=separators)) == expected


def test_only_the_stream_tells_a_partial_depth_from_a_diff() -> None:
    decoder = decoder_of()
    kinds = {
        stream: decoder.decode_frame(encode({"stream": f"btcusdt@{stream}", "data": DEPTH}))
        for stream in ("depth", "depth@0ms", "depth5", "depth20@500ms", "rpiDepth@500ms", "depthX", "dept")
    }
    assert [found["kind"] for found in kinds.values()] == ["depthUpdate"] * 2 + ["partialDepth"] * 2 + ["ignored"] * 3
    assert decoder.decode_frame(encode(DEPTH))["kind"] == "depthUpdate"


@pytest.mark.parametrize("product", ["usdm", "coinm", "spot"])
def test_prev_id_is_pu_on_futures_and_one_before_the_first_on_spot(product: str) -> None:
    found = decoder_of(product).decode_frame(encode(DEPTH))
    assert (found["first_id"], found["last_id"]) == (157, 160)
    assert found["prev_id"] == (156 if product == "spot" else 149)


def test_ids_and_decimals_come_bare_or_quoted() -> None:
    data = FUTURES["btcusdt@bookTicker"] | {"u": "5123107839020", "b": 61800.2, "A": 2, "E": str(MS)}
    found = decoder_of().decode_frame(encode(data))
    assert (found["update_id"], found["bid"], found["ask"]) == (5123107839020, ("61800.2", "2.507"), ("61800.3", "2"))
    assert found["ts_event"] == MS * 1_000_000


@pytest.mark.parametrize(("id_text", "expected"), [(str(10**n + 7 * n), 10**n + 7 * n) for n in range(19)])
def test_ids_of_every_length_are_exact(id_text: str, expected: int) -> None:
    for spelt in (id_text, int(id_text)):
        assert decoder_of().decode_frame(encode(DEPTH | {"u": spelt}))["last_id"] == expected


def test_event_time_falls_back_to_transaction_time_then_zero() -> None:
    decoder = decoder_of()
    data = {key: value for key, value in DEPTH.items() if key != "E"}
    assert decoder.decode_frame(encode(data))["ts_event"] == (MS - 3) * 1_000_000
    del data["T"]
    assert decoder.decode_frame(encode(data))["ts_event"] == 0
    assert reason(decoder, data | {"E": 9223372036854776}) == "overflow"


def test_times_may_be_microseconds() -> None:
    """Spot's `timeUnit=MICROSECOND`, as its documentation had it in September 2026."""
    assert decoder_of().decode_frame(encode(DEPTH | {"E": MS * 1000 + 123}))["ts_event"] == (MS * 1000 + 123) * 1000


@pytest.mark.parametrize(
    "stream", [stream for stream in FUTURES if "markPrice" not in stream and "force" not in stream]
)
def test_no_field_that_counts_may_be_missing_or_odd(stream: str) -> None:
    optional = {"e", "E", "T", "s", "st", "ps", "new", "nq", "X", "f", "l", "p", "P", "w", "Q", "F", "L"}
    if not stream.endswith("ticker"):
        optional -= {"p", *("T" if "rade" in stream else "")}
    data = FUTURES[stream]
    for key in data.keys() - (optional - {"l"} if stream.endswith("ticker") else optional):
        cut = {name: value for name, value in data.items() if name != key}
        assert reason(decoder_of(), {"stream": stream, "data": cut}) == "missing_field", key
        for odd in (None, {"x": 1}, [1], True, "", "x", -1, 1e30):
            if key == "m" and odd is True:
                continue
            assert reason(decoder_of(), {"stream": stream, "data": data | {key: odd}}) in (
                "missing_field",
                "wrong_type",
                "bad_number",
                "overflow",
            )


def test_a_huge_quote_volume_is_unknown_and_not_wrong() -> None:
    found = decoder_of().decode_frame(encode(TICKER | {"q": "123456789012345.12345678"}))
    assert found["quote_volume"] is None
    assert found["volume"] == "123456.789"
    assert reason(decoder_of(), TICKER | {"q": "1e5"}) == "bad_number"


def test_figures_of_other_digits_do_not_grow_the_instrument() -> None:
    decoder = decoder_of()
    for stream in ("btcusdt@markPrice@1s", "btcusdt@forceOrder"):
        decoder.decode_frame(encode({"stream": stream, "data": FUTURES[stream]}))
    assert decoder.instruments.digits(0) == (0, 0)


@pytest.mark.parametrize(
    ("product", "st", "is_ours"),
    [
        ("usdm", 1, True),
        ("usdm", 2, False),
        ("usdm", None, True),
        ("coinm", 1, False),
        ("coinm", 2, True),
        ("spot", 2, True),
    ],
)
def test_all_market_streams_mix_products(product: str, st: int | None, is_ours: bool) -> None:
    data = FUTURES["btcusdt@bookTicker"] | ({} if st is None else {"st": st})
    found = decoder_of(product).decode_frame(encode({"stream": "!bookTicker", "data": data}))
    assert found["kind"] == "bookTicker" if is_ours else found == ignored("other_product", "bookTicker")
    named = decoder_of(product).decode_frame(encode({"stream": "btcusdt@bookTicker", "data": data}))
    assert named["kind"] == "bookTicker"


@pytest.mark.parametrize(
    "frame",
    [
        {"result": None, "id": 1},
        {"id": 1, "result": ["btcusdt@depth"]},
        {"error": {"code": 2, "msg": "Invalid request"}, "id": 1},
        {"code": -1121, "msg": "Invalid symbol."},
        {"id": "x", "status": 200, "result": {"serverTime": 1}},
    ],
)
def test_answers_to_requests_are_ignored_as_such(frame: dict[str, Any]) -> None:
    assert decoder_of().decode_frame(encode(frame)) == ignored("reply", "reply")


@pytest.mark.parametrize(
    "frame",
    [
        {"stream": "!ticker@arr", "data": [TICKER, TICKER]},
        [TICKER],
        {"stream": "btcusdt@kline_1m", "data": {"e": "kline", "E": MS, "s": "BTCUSDT", "k": {"t": 1, "o": "1"}}},
        {"e": "ORDER_TRADE_UPDATE", "E": MS, "a": {"B": []}, "b": [["x"]]},
        {"stream": "btcusdt@depth", "data": {}},
        {"stream": "btcusdt@depth", "data": None},
        {"foo": 1},
    ],
)
def test_events_that_nothing_reads_are_ignored(frame: Any) -> None:
    assert decoder_of().decode_frame(encode(frame)) == ignored("unknown_event", "other")


def test_unknown_symbols_are_ignored_and_unnamed_ones_bad() -> None:
    decoder = decoder_of("usdm", "ETHUSDT")
    assert decoder.decode_frame(encode(DEPTH)) == ignored("unknown_symbol", "depthUpdate")
    for odd in ("", "X" * 40, "BTC\\USDT", "BTCUSDT\u0000"):
        assert decoder.decode_frame(encode(DEPTH | {"s": odd})) == ignored("unknown_symbol", "depthUpdate")
    assert reason(decoder, {key: value for key, value in DEPTH.items() if key != "s"}) == "missing_field"
    bare = decoder_of("spot").decode_frame(encode(SPOT["btcusdt@depth20@100ms"]))
    assert bare == ignored("unknown_symbol", "partialDepth")


def test_server_shutdown_needs_no_symbol() -> None:
    found = decoder_of().decode_frame(encode({"e": "serverShutdown", "E": MS}))
    assert found == {"kind": "serverShutdown", "symbol": None, "ts_event": MS * 1_000_000}


# REST depth bodies

BODY = {"lastUpdateId": 160, "E": MS, "T": MS - 1, "bids": LEVELS["b"], "asks": LEVELS["a"]}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_body_takes_the_symbol_asked_for_unless_it_names_one(separators: tuple[str, str]) -> None:
    decoder = decoder_of("usdm", "ETHUSDT", "BTCUSDT")
    text = encode(BODY, separators=separators)
    expected = twin.describe(text, "usdm")
    assert decoder.decode_body(text, "ETHUSDT") == expected | {"symbol": "ETHUSDT"}
    spliced = text[:-1] + b',"symbol":"BTCUSDT"}'
    for symbol in ("ETHUSDT", "BTCUSDT", None):
        assert decoder.decode_body(spliced, symbol) == expected | {"symbol": "BTCUSDT"}
    assert decoder.decode_body(text) == ignored("unknown_symbol", "snapshot")
    assert decoder.decode_body(text[:-1] + b',"symbol":"XRPUSDT"}', "ETHUSDT") == ignored("unknown_symbol", "snapshot")
    # What the WebSocket API answers wraps the same body.
    wrapped = encode({"id": 1, "status": 200, "result": BODY, "rateLimits": [{"limit": 1}]})
    assert decoder.decode_body(wrapped, "BTCUSDT") == expected | {"symbol": "BTCUSDT"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"code":-1003,"msg":"Too many requests"}', "missing_field"),
        (b'{"lastUpdateId":1,"bids":[]}', "missing_field"),
        (b'{"lastUpdateId":1,"bids":[["1","x"]],"asks":[]}', "bad_number"),
        (b'{"lastUpdateId":-1,"bids":[],"asks":[]}', "bad_number"),
        (b"[]", "missing_field"),
        (b"<html>", "not_json"),
        (b"", "empty"),
    ],
)
def test_a_body_that_is_no_snapshot_is_bad(body: bytes, expected: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decoder_of().decode_body(body, "BTCUSDT")
    assert caught.value.reason == expected
