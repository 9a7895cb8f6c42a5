"""Lines of capture files for playback: `<ns or us since epoch> <raw json>`, plain, gzip or zstd.

Also cryptofeed's first format (`<seconds>: <payload>` of one connection). Refuses to know what the JSON says. It shares
nothing with the daemon's own reader: the simulated venue must not inherit its mistakes.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from mdfeed.errors import CaptureError

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
_NATIVE = re.compile(rb"(\d{13,19}) (\{.*\})\s*", re.DOTALL)
_CRYPTOFEED = re.compile(rb"(\d+\.\d+): (\{.*\})\s*", re.DOTALL)
_CRYPTOFEED_REST = re.compile(rb"\S+/depth\?(?:\S*&)?symbol=(\w+)\S* -> (\d+\.\d+): (\{.*\})\s*", re.DOTALL)


def read_lines(files: Sequence[Path]) -> Iterator[tuple[int, bytes]]:
    """(UTC ns, JSON) of every frame and snapshot, file after file. CaptureError for a damaged or foreign file."""
    for file in files:
        try:
            with _open(file) as lines:
                yield from _parse(file, lines)
        except (OSError, EOFError) as error:
            raise CaptureError(f"{file}: {error}") from error


def _open(file: Path) -> IO[bytes]:
    with file.open("rb") as opened:
        magic = opened.read(4)
    if magic.startswith(_GZIP):
        return cast(IO[bytes], gzip.open(file, "rb"))
    if magic == _ZSTD or _SKIPPABLE.fullmatch(magic):
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        return cast(IO[bytes], zstd.open(file, "rb"))
    return file.open("rb")


def _parse(file: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, 1):
        native = _NATIVE.fullmatch(line)
        if native is not None:
            stamp = native[1]
            # 19 digits are ns, 16 are us, 13 are ms: all of this century.
            yield int(stamp) * 10 ** (19 - len(stamp)), native[2]
            continue
        foreign = _CRYPTOFEED.fullmatch(line)
        if foreign is not None:
            yield int(float(foreign[1]) * 1e9), foreign[2]
            continue
        answer = _CRYPTOFEED_REST.fullmatch(line)
        if answer is not None and answer[3].startswith(b'{"lastUpdateId"'):
            yield int(float(answer[2]) * 1e9), answer[3][:-1] + b',"symbol":"' + answer[1] + b'"}'
        elif number == 1 and line.strip() and not line.startswith((b"configuration:", b"http", b"ws")):
            raise CaptureError(f"{file}: the first line is not `<time> <json>`")
