"""Hostile captures: bombs, lines without end, numbers past the clock: one clear error or refused lines."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mdfeed.capture import open_capture
from mdfeed.containers import zstd
from mdfeed.errors import CaptureError

MIB = 1 << 20
FIRST = b'1700000000000000000 {"stream":"btcusdt@depth","data":{}}\n'
STAMP = b"1700000000000000001 "
HEADER = b'{"t":"header","format": 2}\n'
LONG, LINES = b"x" * (4 * MIB), (b"x" * 1023 + b"\n") * 4096


def pack_gzip(piece: bytes, times: int) -> bytes:
    return gzip.compress(FIRST + STAMP) + gzip.compress(piece) * times


def pack_zstd_frames(piece: bytes, times: int) -> bytes:
    return zstd.compress(FIRST + STAMP) + zstd.compress(piece) * times


def pack_one_zstd_frame(piece: bytes, times: int) -> bytes:
    packer = zstd.ZstdCompressor()
    return b"".join([packer.compress(FIRST + STAMP), *(packer.compress(piece) for _ in range(times)), packer.flush()])


# Reads a file in a process of its own; prints the error, and the most memory that the process has had, in MiB.
READER = """
import pathlib, re, sys
from mdfeed.capture import open_capture
try:
    print(sum(1 for _ in open_capture(sys.argv[1])))
except Exception as error:
    print(type(error).__name__, error)
status = pathlib.Path("/proc/self/status")
print(int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) >> 10 if status.exists() else 0)
"""


@pytest.mark.parametrize(
    ("pack", "piece", "says"),
    [
        (pack_gzip, LONG, "c:2: a line of more than 32 MiB (at byte"),
        (pack_zstd_frames, LONG, "c:2: a line of more than 32 MiB (at byte"),
        (pack_one_zstd_frame, LONG, "c:2: a line of more than 32 MiB (at byte"),
        (pack_zstd_frames, LINES, "c: unpacks to more than 1000 times its size (at byte"),
        (pack_one_zstd_frame, LINES, "c: unpacks to more than 1000 times its size (at byte"),
    ],
)
def test_a_bomb_is_one_clear_error_with_its_place_and_memory_stays_bounded(
    tmp_path: Path, pack: Callable[[bytes, int], bytes], piece: bytes, says: str
) -> None:
    path = tmp_path / "c"
    path.write_bytes(pack(piece, 256))  # 1 GiB of text
    assert path.stat().st_size < 2 * MIB
    done = subprocess.run([sys.executable, "-c", READER, path], capture_output=True, text=True, check=True, timeout=100)
    error, most_mib = done.stdout.splitlines()
    assert error.startswith(f"CaptureError {tmp_path}/{says}"), error
    assert int(most_mib) < 200


def test_a_line_without_end_names_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(FIRST + STAMP + LONG * 9)
    with pytest.raises(CaptureError, match="c:2: a line of more than 32 MiB") as raised:
        list(open_capture(path))
    assert raised.value.offset == len(FIRST)


@pytest.mark.parametrize("pack", [pack_gzip, pack_zstd_frames, pack_one_zstd_frame])
def test_frames_far_longer_than_real_ones_are_read(tmp_path: Path, pack: Callable[[bytes, int], bytes]) -> None:
    """Real frames and REST bodies go up to 5.1 MB."""
    path = tmp_path / "c"
    path.write_bytes(pack(LONG, 7) + pack(b"\n", 1))  # the second stamped line continues the first
    assert [len(record.payload) for record in open_capture(path)][1] == 7 * len(LONG) + len(FIRST) - 1


@pytest.mark.parametrize(
    "line",
    [
        b"9999999999999999999 {}",
        b"99999999999999999 {}",
        b"1700000000000000000000000 {}",
    ],
)
def test_stamps_past_the_clock_are_no_records(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(FIRST + line + b"\n")
    capture = open_capture(path)
    assert (len(list(capture)), capture.garbage_lines) == (1, [2])


@pytest.mark.parametrize(
    "line",
    [
        b"9" * 5000 + b".5: {}",
        b"99999999999.5: {}",
        b"1700000000.5: b''" + b"+-" * 100_000 + b"1",
        b"1700000000.5: b''" + b"+(" * 100_000,
        b"1700000000.5: b'' + ''",
    ],
)
def test_cryptofeed_1_refuses_what_is_no_record(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(b"configuration: x\n1700000000.25: {}\n" + line + b"\n")
    capture = open_capture(path)
    assert (len(list(capture)), capture.garbage_lines) == (1, [3])


@pytest.mark.parametrize(
    "row",
    [
        b'{"t":"recv","conn":"a","ts":1e999,"data":"x"}',
        b'{"t":"recv","conn":"a","ts":1e300,"data":"x"}',
        b'{"t":"recv","conn":"a","ts":-5,"data":"x"}',
        b'{"t":"recv","conn":"a","ts":NaN,"data":"x"}',
        b'{"conn":"a","t":' + b"[" * 100_000,
        b'["conn", {"conn":"a"}]',
    ],
)
def test_cryptofeed_2_refuses_what_is_no_record(tmp_path: Path, row: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(HEADER + b'{"t":"recv","conn":"a","ts":1700000000.5,"data":"{}"}\n' + row + b"\n")
    capture = open_capture(path)
    assert (len(list(capture)), capture.garbage_lines) == (1, [3])


@pytest.mark.parametrize(
    ("head", "connection"),
    [
        (HEADER, b'{"t":"connect","conn":"%d","ts":1700000000.5}\n'),
        (b"configuration: x\n", b"wss://host/%d <-> 1700000000.5\n"),
    ],
)
def test_connections_without_end_are_refused(tmp_path: Path, head: bytes, connection: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(head + b"".join(connection % number for number in range(10_000)))
    with pytest.raises(CaptureError, match="c:258: more than 256 connections"):
        list(open_capture(path))
