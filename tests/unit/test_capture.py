"""Captures: containers, line formats, stamps, tears, garbage, several files as one session."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from pathlib import Path

import pytest

from mdfeed.capture import CONNECT, FRAME, LOST, SNAPSHOT, Record, Session, open_capture, symbol_in
from mdfeed.containers import zstd
from mdfeed.errors import CaptureError

T0 = 1_700_000_000_000_000_000
DIFF = b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"pu":0,"b":[],"a":[]}}'
TRADE = b'{"stream":"ethusdt@trade","data":{"e":"trade","s":"ETHUSDT","t":1,"p":"1","q":"1","m":true}}'
REST = b'{"lastUpdateId":1,"bids":[["1.0","2.0"]],"asks":[]}'


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def stamped(recv_ns: int, payload: bytes, end: bytes = b"\n") -> bytes:
    return b"%d %s%s" % (recv_ns, payload, end)


def read(path: Path) -> list[Record]:
    return list(open_capture(path))


THREE = [stamped(T0 + n * 1_000_000, DIFF) for n in range(3)]


def pack_gzip(lines: list[bytes]) -> bytes:
    return gzip.compress(b"".join(lines))


def pack_gzip_members(lines: list[bytes]) -> bytes:
    return b"".join(gzip.compress(line) for line in lines) + bytes(512)


def pack_zstd_frames(lines: list[bytes]) -> bytes:
    skippable = struct.pack("<II", 0x184D2A50, 8) + b"metadata"
    cut = len(lines[0]) // 2  # a frame may end inside a line
    text = b"".join(lines)
    return skippable + zstd.compress(text[:cut]) + skippable + zstd.compress(text[cut:]) + skippable


@pytest.mark.parametrize("pack", [b"".join, pack_gzip, pack_gzip_members, pack_zstd_frames])
def test_container_is_told_by_content(tmp_path: Path, pack) -> None:
    path = write(tmp_path / "capture.dat", pack(THREE))
    capture = open_capture(path)
    assert list(capture) == [Record(T0 + n * 1_000_000, FRAME, 0, None, DIFF) for n in range(3)]
    assert capture.tear is None
    assert capture.garbage == 0
    assert capture.bytes_read == path.stat().st_size
    assert list(capture) == list(capture), "a capture can be read again"


def test_stamps_in_us_and_ns_are_told_apart_line_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "c", stamped(T0 // 1000 + 7, DIFF), stamped(T0 + 8001, DIFF))
    assert [r.recv_ns for r in read(path)] == [T0 + 7000, T0 + 8001]


def test_blank_lines_and_crlf(tmp_path: Path) -> None:
    path = write(tmp_path / "c", b"\r\n\n", stamped(T0, DIFF, b"\r\n"), b"  \n", stamped(T0 + 1, TRADE, b"\r\n"))
    capture = open_capture(path)
    assert [r.payload for r in capture] == [DIFF, TRADE]
    assert capture.garbage == 0


def test_garbage_lines_are_counted_with_their_numbers(tmp_path: Path) -> None:
    bad = [b"garbage\n", b"12 " + DIFF + b"\n", b"%d\n" % T0, b"-1700000000000000 {}\n"]
    path = write(tmp_path / "c", THREE[0], *bad, THREE[1])
    capture = open_capture(path)
    assert len(list(capture)) == 2
    assert (capture.garbage, capture.garbage_lines) == (4, [2, 3, 4, 5])
    assert capture.tear is None


def test_stamped_line_that_is_no_json_is_a_frame_for_the_decoder_to_refuse(tmp_path: Path) -> None:
    assert [r.payload for r in read(write(tmp_path / "c", THREE[0], stamped(T0, b"hello")))] == [DIFF, b"hello"]


def test_whole_last_line_needs_no_line_end(tmp_path: Path) -> None:
    capture = open_capture(write(tmp_path / "c", THREE[0], THREE[1].rstrip()))
    assert len(list(capture)) == 2
    assert capture.tear is None


@pytest.mark.parametrize("kept", [10, 30, 60])
def test_cut_last_line_is_a_tear_at_its_start(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "c", THREE[0], THREE[1], THREE[2][:kept])
    capture = open_capture(path)
    assert len(list(capture)) == 2
    assert capture.tear is not None
    assert capture.tear.offset == len(THREE[0]) + len(THREE[1])
    assert "line 3 is cut off" in str(capture.tear)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_torn_container_gives_everything_up_to_the_tear(tmp_path: Path, kind: str) -> None:
    lines = [
        stamped(T0 + n, b'{"n":%d,"x":"%s"}' % (n, base64.b64encode(n.to_bytes(9, "big") * 3))) for n in range(500)
    ]
    text = b"".join(lines)
    if kind == "gzip":
        whole = gzip.compress(text)
    else:
        whole = b"".join(zstd.compress(b"".join(lines[n : n + 50])) for n in range(0, 500, 50))
    torn = write(tmp_path / "torn", whole[: len(whole) * 3 // 4])
    capture = open_capture(torn)
    got = [r.recv_ns for r in capture]
    assert got == list(range(T0, T0 + len(got)))
    assert 300 <= len(got) < 500
    assert capture.tear is not None
    assert capture.tear.offset == torn.stat().st_size
    assert "ends early" in capture.tear.reason


def test_damage_and_foreign_bytes_behind_a_member_are_tears(tmp_path: Path) -> None:
    good = gzip.compress(THREE[0])
    capture = open_capture(write(tmp_path / "c", good, b"something else"))
    assert len(list(capture)) == 1
    assert capture.tear is not None
    assert capture.tear.offset == len(good)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (gzip.compress(b"", mtime=0), "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a capture"),
        (b"id,price\n1,2\n", "not a capture"),
        (gzip.compress(THREE[0], mtime=0)[:12], "ends early"),
        (b"\x1f\x8bgarbage that is no gzip", "damaged gzip"),
        (b"\x28\xb5\x2f\xfdgarbage that is no zstd", "damaged zstd"),
    ],
)
def test_empty_foreign_and_unreadable_files_say_so_with_file_and_byte(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = write(tmp_path / "c", content)
    with pytest.raises(CaptureError, match=says) as caught:
        open_capture(path)
    assert str(path) in str(caught.value)
    assert "at byte" in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(CaptureError, match=str(path)):
            open_capture(path)


def test_snapshot_is_of_the_symbol_it_names(tmp_path: Path) -> None:
    spliced = REST[:-1] + b',"symbol":"ETHUSDT"}'
    path = write(tmp_path / "c", THREE[0], stamped(T0, spliced), stamped(T0, TRADE))
    assert read(path)[1] == Record(T0, SNAPSHOT, -1, "ETHUSDT", spliced)


def test_unnamed_snapshot_is_of_the_only_instrument_even_when_that_shows_later(tmp_path: Path) -> None:
    spaced = b'{"lastUpdateId": 1, "bids": [], "asks": []}'
    path = write(tmp_path / "c", stamped(T0, REST), stamped(T0, spaced), THREE[0])
    assert [(r.kind, r.symbol) for r in read(path)] == [(SNAPSHOT, "BTCUSDT")] * 2 + [(FRAME, None)]


def test_unnamed_snapshot_among_several_instruments_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "c", THREE[0], stamped(T0, REST), stamped(T0, TRADE))
    with pytest.raises(CaptureError, match=r":2: a REST snapshot names no symbol.*BTCUSDT, ETHUSDT") as caught:
        read(path)
    assert caught.value.offset == len(THREE[0])


def test_symbol_in() -> None:
    assert symbol_in(DIFF) == "BTCUSDT"
    assert symbol_in(b'{"stream":"!bookTicker","data":{"u":1,"s":"ETHUSD_PERP"}}') == "ETHUSD_PERP"
    assert symbol_in(b'{"e":"trade","s":"BNBUSDT"}') == "BNBUSDT"
    assert symbol_in(b'{"result":null,"id":1}') is None


def test_files_of_one_stream_are_one_line_in_time_order_whatever_their_order(tmp_path: Path) -> None:
    first = write(tmp_path / "a", THREE[0], THREE[1])
    second = write(tmp_path / "b", THREE[2])
    for order in ([first, second], [second, first]):
        records = list(Session(open_capture(path) for path in order))
        assert [r.recv_ns for r in records] == [T0, T0 + 1_000_000, T0 + 2_000_000]
        assert {r.line for r in records} == {0}


def test_files_that_overlap_are_two_lines_merged_stably(tmp_path: Path) -> None:
    first = write(tmp_path / "a", stamped(T0, DIFF), stamped(T0 + 5, DIFF))
    second = write(tmp_path / "b", stamped(T0, TRADE), stamped(T0 + 3, TRADE))
    records = list(Session([open_capture(first), open_capture(second)]))
    assert [(r.recv_ns - T0, r.line, r.payload) for r in records] == [
        (0, 0, DIFF),
        (0, 1, TRADE),
        (3, 1, TRADE),
        (5, 0, DIFF),
    ]


def test_session_gathers_tears(tmp_path: Path) -> None:
    session = Session(
        [open_capture(write(tmp_path / "a", THREE[0], THREE[1][:40])), open_capture(write(tmp_path / "b", THREE[2]))]
    )
    assert len(list(session)) == 2
    assert [tear.path.name for tear in session.tears] == ["a"]


def test_cryptofeed_1(tmp_path: Path) -> None:
    url = b"wss://fstream.binance.com/stream?streams=btcusdt@depth"
    rest = b"https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    ws = write(
        tmp_path / "X.ws.1.0",
        b'configuration: {"a": 1}\n',
        url + b" <-> 1700000000.5\n",
        url + b' <- 1700000000.6: {"op":"subscribe"}\n',
        b"1700000001.0633569: " + DIFF + b"\n",
        b"1700000002: b'\\x01\\n'\n",
        b"1700000002.5: b'\\x01\n",
        url + b" <-> 1700000003.5\n",
    )
    http = write(
        tmp_path / "X.http.0.0",
        b"https://fapi.binance.com/fapi/v1/exchangeInfo -> 1700000000.1: {}\n",
        rest + b" -> 1700000001.5: " + REST + b"\n\n",
    )
    session = Session([open_capture(http), open_capture(ws)])
    assert list(session) == [
        Record(T0 + 500_000_000, CONNECT, 0, None, url),
        Record(T0 + 1_063_356_900, FRAME, 0, None, DIFF),
        Record(T0 + 1_500_000_000, SNAPSHOT, -1, "BTCUSDT", REST),
        Record(T0 + 2_000_000_000, FRAME, 0, None, b"\x01\n"),
        Record(T0 + 3_500_000_000, LOST, 0, None, b""),
        Record(T0 + 3_500_000_000, CONNECT, 0, None, url),
    ]
    assert [(c.garbage, c.garbage_lines) for c in session.captures] == [(0, []), (1, [6])]


def test_cryptofeed_2_is_grouped_by_connection_and_read_by_time(tmp_path: Path) -> None:
    rows = [
        {"t": "header", "exchange": "X", "format": 2},
        {"t": "http", "conn": "h", "ts": 1700000001.25, "url": "https://x/depth?symbol=btcusdt", "data": REST.decode()},
        {"t": "connect", "conn": "a", "ts": 1700000000.0, "addr": "wss://a"},
        {"t": "send", "conn": "a", "ts": 1700000000.5, "data": "{}"},
        {"t": "recv", "conn": "a", "ts": 1700000001.0, "data": DIFF.decode()},
        {"t": "recv", "conn": "a", "ts": 1700000003.0, "b64": base64.b64encode(b"\x00\xff").decode()},
        {"t": "connect", "conn": "b", "ts": 1700000000.5, "addr": "wss://b"},
        {"t": "recv", "conn": "b", "ts": 1700000002.0, "data": "é"},
        {"t": "connect", "conn": "b", "ts": 1700000004.0, "addr": "wss://b"},
    ]
    text = "".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows)
    path = write(tmp_path / "c", text.encode(), b'{"conn":"a","ts":"x"}\n', b"noise\n")
    capture = open_capture(path)
    assert [(r.recv_ns - T0, r.kind, r.symbol, r.payload) for r in capture] == [
        (0, CONNECT, None, b"wss://a"),
        (500_000_000, CONNECT, None, b"wss://b"),
        (1_000_000_000, FRAME, None, DIFF),
        (1_250_000_000, SNAPSHOT, "BTCUSDT", REST),
        (2_000_000_000, FRAME, None, "é".encode()),
        (3_000_000_000, FRAME, None, b"\x00\xff"),
        (4_000_000_000, LOST, None, b""),
        (4_000_000_000, CONNECT, None, b"wss://b"),
    ]
    assert (capture.garbage, capture.garbage_lines) == (2, [10, 11])
    lines = {r.payload: r.line for r in capture if r.kind == CONNECT}
    assert lines[b"wss://a"] != lines[b"wss://b"]
