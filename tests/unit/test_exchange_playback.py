"""Captures played back: frames and timing as recorded, names mapped, REST depth exact at every moment."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mdfeed.errors import CaptureError
from mdfeed.exchange.capfile import read_lines
from mdfeed.exchange.playback import Playback

T0 = 1_700_000_000_000_000_000
NOW = 1_790_000_000_000_000_000


def diff(u: int, pu: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    data = {"e": "depthUpdate", "E": u, "T": u - 1, "s": "AUSDT", "U": u, "u": u, "pu": pu, "b": bids, "a": asks}
    return {"stream": "ausdt@depth@0ms", "data": data}


def trade(number: int, price: str, kind: str = "MARKET") -> dict[str, Any]:
    data = {"e": "trade", "E": 70, "T": T0 // 10**6, "s": "AUSDT", "t": number, "p": price, "q": "2.0", "X": kind}
    return {"stream": "ausdt@trade", "data": data | {"m": True}}


SNAPSHOT = {"lastUpdateId": 20, "E": 19, "T": 19, "bids": [["1.20", "5"], ["1.10", "6"]], "asks": [["1.30", "7"]]}
LINES = [
    (0, diff(10, 9, [["1.20", "9"]], [])),
    (5, diff(20, 10, [["1.20", "5"]], [])),
    (10, SNAPSHOT),
    (20, diff(30, 20, [["1.20", "0.000"], ["0.50", "1"]], [["1.30", "8"]])),
    (30, trade(7, "1.30")),
    (30, trade(8, "1.30", "INSURANCE_FUND")),
    (40, {"stream": "ausdt@kline_1m", "data": {"e": "kline"}}),
    (50, diff(40, 30, [], [["1.25", "0.125"]])),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "capture.txt"
    path.write_text("".join(f"{T0 + ms * 10**6} {json.dumps(line, separators=(',', ':'))}\n" for ms, line in LINES))
    return path


def depth(playback: Playback, limit: int = 1000) -> dict[str, Any]:
    return json.loads(playback.depth("AUSDT", limit) or "null")


def test_it_waits_then_keeps_the_timing(file: Path) -> None:
    playback = Playback([file], speed=2.0)
    assert list(playback.step(NOW)) == []
    assert playback.next_ns is None
    assert playback.time_ms(NOW // 10**6) == T0 // 10**6
    name = playback.names_for("ausdt@depth@100ms")
    assert name == "ausdt@depth@0ms"
    assert playback.want(name)
    start = NOW + 5 * 10**9
    said = [said for ms in range(0, 40) for said in playback.step(start + ms * 10**6)]
    assert [(s.time_ns - start) / 1e6 for s in said] == [0, 2.5, 10, 15, 15, 20, 25]
    assert said[2].frame == json.dumps(LINES[3][1], separators=(",", ":")).encode()
    assert playback.is_over
    assert list(playback.step(start + 10**12)) == []


def test_it_holds_for_a_client_to_connect_fully(file: Path) -> None:
    playback = Playback([file], hold_s=1.0)
    playback.want("ausdt@depth@0ms")
    assert list(playback.step(NOW)) == []
    assert list(playback.step(NOW + 10**9 - 1)) == []
    assert [said.time_ns - NOW for said in playback.step(NOW + 10**9)] == [10**9]


def test_depth_is_the_book_of_the_moment(file: Path) -> None:
    playback = Playback([file])
    assert depth(playback, 1) == {**SNAPSHOT, "bids": [["1.20", "5"]]}  # known before it is played
    playback.want("ausdt@depth@0ms")
    list(playback.step(NOW))
    list(playback.step(NOW + 15 * 10**6))
    assert (depth(playback)["lastUpdateId"], depth(playback)["bids"]) == (20, SNAPSHOT["bids"])
    list(playback.step(NOW + 25 * 10**6))
    book = depth(playback)
    assert (book["lastUpdateId"], book["E"], book["T"]) == (30, 30, 29)
    assert (book["bids"], book["asks"]) == ([["1.10", "6"], ["0.50", "1"]], [["1.30", "8"]])
    list(playback.step(NOW + 10**9))
    assert depth(playback)["asks"] == [["1.25", "0.125"], ["1.30", "8"]]


def test_trades_stand_for_aggregate_trades(file: Path) -> None:
    playback = Playback([file])
    assert playback.want("ausdt@aggTrade")
    list(playback.step(NOW))
    said = [s for s in playback.step(NOW + 10**9) if s.stream == "ausdt@aggTrade"]
    assert len(said) == 1  # the insurance fund's is not a market trade
    data = json.loads(said[0].frame)["data"]
    assert (data["a"], data["f"], data["l"], data["p"], data["q"], data["m"]) == (7, 7, 7, "1.30", "2.000", True)
    day = playback.tape("AUSDT").day(playback.time_ms((NOW + 10**9) // 10**6))
    assert (day.trades, day.qty, day.last) == (1, 2000, 130)


def test_instrument_is_derived_from_the_data(file: Path) -> None:
    playback = Playback([file])
    profile = playback.profile("AUSDT")
    assert profile is not None
    assert (profile.tick_size, profile.step_size, playback.symbols) == ("0.01", "0.001", ["AUSDT"])
    assert playback.profile("BUSDT") is None
    assert not playback.want("busdt@depth@0ms")
    assert playback.want("ausdt@kline_1m")


def test_bad_files(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("hello\n")
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(b"x" * 10_000)[:-30])
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    odd = tmp_path / "odd.txt"
    odd.write_text(f'{T0} {{"stream":"ausdt@depth","data":{{"e":"depthUpdate"}}}}\n')
    for path in (foreign, torn, empty, odd, tmp_path / "absent"):
        with pytest.raises(CaptureError):
            Playback([path])


@pytest.fixture
def captures() -> Path:
    folder = Path(os.environ.get("MDFEED_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no captures at {folder}")
    return folder


@pytest.mark.parametrize("name", ["usdm/btcusdt_20240718.gz", "spot/ethusdt_20240808.gz"])
def test_real_capture(captures: Path, name: str) -> None:
    """Every frame once, and after each diff a sample of REST books equals a replay made here."""
    file = captures / "hft" / name
    playback = Playback([file], speed=1000.0)
    symbol = playback.symbols[0]
    playback.want(playback.names_for(f"{symbol.lower()}@depth@100ms"))
    recorded = [text for _, text in read_lines([file])]
    snapshot = next(json.loads(text) for text in recorded if text.startswith(b'{"lastUpdateId"'))
    sides: list[dict[Decimal, str]] = [
        {Decimal(price): qty for price, qty in snapshot[side]} for side in ("bids", "asks")
    ]
    last_id, checked, said = snapshot["lastUpdateId"], 0, []
    for frame in itertools.chain(playback.step(NOW), playback.step(NOW + 10**12)):
        said.append(frame.frame)
        data = json.loads(frame.frame)["data"]
        if data.get("e") != "depthUpdate" or data["u"] <= last_id:
            continue
        last_id = data["u"]
        for book, rows in zip(sides, (data["b"], data["a"]), strict=True):
            for price, qty in rows:
                book[Decimal(price)] = qty
                if not float(qty):
                    del book[Decimal(price)]
        if len(said) % 50 == 0:
            body = json.loads(playback.depth(symbol, 1000) or "")
            assert body["lastUpdateId"] == last_id
            best = sorted(sides[0], reverse=True)[:1000], sorted(sides[1])[:1000]
            for got, book, prices in zip((body["bids"], body["asks"]), sides, best, strict=True):
                assert [(Decimal(price), qty) for price, qty in got] == [(price, book[price]) for price in prices]
            checked += 1
    assert checked > 20
    assert Counter(said) == Counter(text for text in recorded if not text.startswith(b'{"lastUpdateId"'))
