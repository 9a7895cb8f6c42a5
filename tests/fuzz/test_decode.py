"""Every input decodes, is ignored for a listed reason, or is BAD for a listed reason; nothing else, ever.

Mutations of well-formed frames, seeded: MDFEED_FUZZ_ROUNDS (default 20,000) sets how many. What decodes and is JSON for
Python too must say what json and Decimal say, and after each hundred mutations every well-formed frame must still
decode as before: a bad frame leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mdfeed._parse import KIND, WHY, Instruments
from mdfeed.errors import DecodeError
from mdfeed.venues._binance_wire import BinanceDecoder
from tests import binance_twin as twin

ROUNDS = int(os.environ.get("MDFEED_FUZZ_ROUNDS", "20000"))
PRODUCTS = ("usdm", "coinm", "spot")
TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\n",
    b"-",
    b".",
    b"0",
    b"9" * 40,
    b"0." + b"0" * 60 + b"1",
    b"1e999",
    b"9223372036854775807",
    b"9223372036854775808",
    b"null",
    b"true",
    b'"e":"trade",',
    b'"s":"ETHUSDT",',
    b'"b":[["1","2"]],',
    b'"a":',
    b'"data":{',
    b'"o":{',
    b'"\\u0062":',
    b'"stream":"!x",',
    b'"result":{',
    b"[" * 300,
    b'{"a":' * 300,
]


def self_made() -> list[bytes]:
    """Frames of all kinds and sizes."""
    rng = random.Random(1)

    def side(count: int) -> list[list[str]]:
        return [[f"{rng.randrange(1, 10**7) / 100:.2f}", f"{rng.randrange(10**6) / 1000:.3f}"] for _ in range(count)]

    def diff(count: int) -> dict[str, Any]:
        return {
            "e": "depthUpdate",
            "E": 1785000000000,
            "T": 1785000000000,
            "s": "BTCUSDT",
            "U": 157,
            "u": 160,
            "pu": 149,
            "b": side(count),
            "a": side(count // 2),
        }

    bbo = {"u": 5, "s": "BTCUSDT", "b": "1.5", "B": "2", "a": "1.6", "A": "3"}
    events = [
        ("depth@100ms", diff(0)),
        ("depth@100ms", diff(3)),
        ("depth", diff(40)),
        ("depth20", diff(20)),
        ("bookTicker", {"e": "bookTicker", "T": 1, "E": 2} | bbo),
        ("bookTicker", bbo),
        ("aggTrade", {"e": "aggTrade", "E": 1, "s": "BTCUSDT", "a": 59, "p": "0.001", "q": "100", "T": 1, "m": True}),
        ("trade", {"e": "trade", "E": 1, "s": "BTCUSDT", "t": 59, "p": 1.5, "q": 2, "X": "MARKET", "m": False}),
        (
            "ticker",
            {
                "e": "24hrTicker",
                "E": 1,
                "s": "BTCUSDT",
                "c": "1.5",
                "o": "1",
                "h": "2",
                "l": "1",
                "v": "5",
                "q": "7.5",
                "O": 1,
                "C": 2,
                "n": 3,
            },
        ),
        ("forceOrder", {"e": "forceOrder", "E": 1, "o": {"s": "BTCUSDT", "S": "SELL", "p": "9910", "ap": "9910"}}),
        ("depth5", {"lastUpdateId": 9, "bids": side(5), "asks": side(5)}),
        ("kline_1m", {"e": "kline", "E": 1, "s": "BTCUSDT", "k": {"o": "1", "b": [1, [2, {}]]}}),
    ]
    wrapped: list[Any] = [{"stream": f"btcusdt@{channel}", "data": data} for channel, data in events]
    bare: list[Any] = [data for _, data in events] + [{"result": None, "id": 1}, {"code": 1, "msg": "x"}, [bbo]]
    return [json.dumps(frame, separators=(",", ":")).encode() for frame in wrapped + bare] + [
        json.dumps(diff(2)).encode()
    ]


def mutate(frame: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    text = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        action = rng.randrange(8)
        if action == 0:
            del text[at:]
        elif action == 1 and text:
            text[min(at, len(text) - 1)] ^= 1 << rng.randrange(8)
        elif action == 2 and text:
            text[min(at, len(text) - 1)] = rng.randrange(256)
        elif action == 3:
            text[at:at] = rng.choice(TOKENS)
        elif action == 4:
            text[at:at] = text[at:end]
        elif action == 5:
            del text[at : min(end, at + rng.randrange(1, 40))]
        elif action == 6:
            other = rng.choice(others)
            text[at:] = other[rng.randrange(len(other)) :]
        else:
            text[at:end] = rng.choice(TOKENS)
    return bytes(text)


def outcome(decoder: BinanceDecoder, frame: bytes, is_body: bool, behind: bytes = b"") -> dict[str, Any]:
    """The description, or {"bad": reason}; anything else that is raised or said fails the test. `behind` is what
    follows the frame in the buffer that it is read in."""
    try:
        found = decoder.decode_body(frame, "BTCUSDT") if is_body else decoder.decode_frame(frame + behind, len(frame))
    except DecodeError as error:
        return {"bad": WHY[WHY.index(error.reason, 8)]}
    if found["kind"] == "ignored":
        assert found["why"] in WHY[1:5]
        assert found["event"] in KIND
    else:
        assert found["kind"] in KIND[1:]
    return found


def decoders() -> dict[str, BinanceDecoder]:
    made = {}
    for product in PRODUCTS:
        instruments = Instruments()
        for symbol in ("BTCUSDT", "ETHUSDT", "ETHUSD_PERP"):
            instruments.add(symbol, 8, 8)
        made[product] = BinanceDecoder(instruments, product)
    return made


def agrees(found: dict[str, Any], frame: bytes, product: str) -> bool:
    """Whether json and Decimal read the same; True when Python does not take the frame for JSON (skipped values are
    only looked at as far as finding their end needs it), or a mutation has mixed two shapes in one object."""
    text = frame.removeprefix(b"\xef\xbb\xbf")
    try:
        whole = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError):
        return True
    data = whole.get("data", whole)
    if not isinstance(data, dict) or {"result", "error"} & whole.keys() or isinstance(data.get("o"), dict):
        return True
    if {"b", "bids"} <= data.keys() or {"a", "asks"} <= data.keys():
        return True
    return found == twin.describe(text, product)


def mutations(frames: list[bytes], rounds: int, seed: str) -> Iterator[tuple[bytes, random.Random]]:
    rng = random.Random(seed)
    for _ in range(rounds):
        yield mutate(rng.choice(frames), rng, frames), rng


def fuzz(frames: list[bytes], rounds: int, seed: str) -> Counter[str]:
    seen: Counter[str] = Counter()
    made = decoders()
    before = {product: [outcome(made[product], frame, False) for frame in frames] for product in PRODUCTS}
    for number, (frame, rng) in enumerate(mutations(frames, rounds, seed)):
        product, is_body = rng.choice(PRODUCTS), rng.random() < 0.1
        found = outcome(made[product], frame, is_body)
        if not is_body:
            # In place, before the next frame or the rest of this one: the same.
            rest = rng.choice(frames)[-rng.randrange(1, 400) :] + bytes(64)
            assert found == outcome(made[product], frame, False, rest), (frame, rest)
        seen["bad" if "bad" in found else "ignored" if found["kind"] == "ignored" else "decoded"] += 1
        if "bad" not in found and found["kind"] not in ("ignored", "serverShutdown") and not is_body:
            assert agrees(found, frame, product), frame
        if number % 100 == 0:
            assert before == {
                product: [outcome(made[product], whole, False) for whole in frames] for product in PRODUCTS
            }
    return seen


def test_mutated_frames() -> None:
    seen = fuzz(self_made(), ROUNDS, "self-made")
    assert sum(seen.values()) == ROUNDS
    assert min(seen["bad"], seen["ignored"], seen["decoded"]) > ROUNDS // 50, seen


@pytest.mark.parametrize(
    "file", ["hft/usdm/btcusdt_20240718.gz", "hft/cm/ethusd_perp_20240808.gz", "hft/spot/ethusdt_20240808.gz"]
)
def test_mutated_frames_of_real_captures(data_dir: Path, file: str) -> None:
    lines = (text.encode() for _, text in zip(range(4000), twin.hft_lines(data_dir / file), strict=False))
    frames = sorted(set(lines), key=len)[::200]
    seen = fuzz(frames, ROUNDS // 10, file)
    assert seen["bad"] > ROUNDS // 100


@pytest.mark.parametrize("size", [26_000, 5_000_000])
def test_large_mutated_frames(size: int) -> None:
    rows = [[f"{number / 10:.2f}", "1.000"] for number in range(size // 22)]
    event = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 1, "u": 2, "pu": 0, "b": rows, "a": []}
    frame = json.dumps(event, separators=(",", ":")).encode()
    assert len(frame) > size * 0.7
    made = decoders()["usdm"]
    assert len(outcome(made, frame, False)["bids"]) == len(rows)
    for text, _ in mutations([frame], max(4, ROUNDS * 300 // size), f"large {size}"):
        outcome(made, text, False)
    for end in range(len(frame) - 70, len(frame)):
        assert "bad" in outcome(made, frame[:end], False)
        assert "bad" in outcome(made, frame[:end], False, frame[end:] + frame)


def test_no_cut_frame_is_completed_by_what_follows_it_in_the_buffer() -> None:
    made = decoders()["usdm"]
    for frame in self_made()[:6]:
        for end in range(len(frame)):
            assert "bad" in outcome(made, frame[:end], False, frame[end:] + bytes(64))
            assert "bad" in outcome(made, frame[:end], False, b"]" * 64)


def test_every_single_byte_of_a_frame_replaced() -> None:
    frame = self_made()[1]
    made = decoders()["usdm"]
    for at in range(len(frame)):
        for byte in (0, 0x22, 0x2C, 0x2E, 0x30, 0x5B, 0x5C, 0x5D, 0x7B, 0x7D, 0x80, 0xFF):
            text = frame[:at] + bytes([byte]) + frame[at + 1 :]
            found = outcome(made, text, False)
            if found.get("kind") == "depthUpdate":
                assert agrees(found, text, "usdm"), text
