"""Files on disk -> blocks of text: gzip members, zstd frames (skippable ones passed over), plain text; told by content.

Answers for decompression, for saying where damage begins, and for refusing files that unpack without end. Knows nothing
of lines or records. Memory: a piece of text, however much a block of the file unpacks to.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mdfeed.errors import CaptureError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BLOCK_BYTES = 1 << 17
_PIECE_BYTES = 1 << 20
# Real captures unpack to 5 to 30 times their size, snapshots that hardly change to some hundred times.
_MOST_TIMES, _LEAST_BYTES = 1000, 64 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame, or a skippable one


class Torn(Exception):
    """The file can't be read on: `reason`, and the byte of the file where it ends or is damaged."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


class Container:
    """Iterating yields decompressed blocks from the file's start, then Torn if its end is missing or damaged.

    `bytes_read` says how far into the file, as it is on disk, the newest iteration has come; `is_packed` whether that
    is another place than in the text. CaptureError: unreadable, or a small file that unpacks to a huge one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_read = 0
        self.is_packed = False

    def __iter__(self) -> Iterator[bytes]:
        self.bytes_read = 0
        try:
            with open(self.path, "rb") as file:
                magic = file.read(4)
                file.seek(0)
                if magic.startswith(_GZIP_MAGIC):
                    yield from self._inflate(file, "gzip")
                elif _ZSTD_MAGIC.match(magic):
                    yield from self._inflate(file, "zstd")
                else:
                    while block := file.read(_BLOCK_BYTES):
                        self.bytes_read += len(block)
                        yield block
        except OSError as error:
            raise CaptureError(f"{self.path}: {error.strerror or error}") from None

    def _inflate(self, file: IO[bytes], kind: str) -> Iterator[bytes]:
        """Members or frames one after the other; zero padding between and behind them is passed over."""
        self.is_packed = True
        part = _start(kind)
        is_inside = False
        text_bytes = 0
        while block := file.read(_BLOCK_BYTES):
            start = self.bytes_read
            self.bytes_read += len(block)
            while block:
                if not is_inside and not (block := block.lstrip(b"\0")):
                    break
                is_inside = True
                try:
                    for text in _pieces(part, block):
                        text_bytes += len(text)
                        if text_bytes > max(_LEAST_BYTES, _MOST_TIMES * self.bytes_read):
                            reason = f"{self.path}: unpacks to more than {_MOST_TIMES} times its size"
                            raise CaptureError(reason, self.bytes_read)
                        yield text
                except (zlib.error, zstd.ZstdError):
                    raise Torn(f"damaged {kind} data", max(start, self.bytes_read - len(block))) from None
                if not part.eof:
                    break
                block = part.unused_data
                part = _start(kind)
                is_inside = False
        if is_inside:
            raise Torn(f"{kind} data ends early", self.bytes_read)


def _pieces(part: Any, block: bytes) -> Iterator[bytes]:
    """What `block` unpacks to, up to the end of its member or frame, a bounded piece at a time."""
    text = part.decompress(block, _PIECE_BYTES)
    while text:
        yield text
        if part.eof:
            return
        text = part.decompress(getattr(part, "unconsumed_tail", b""), _PIECE_BYTES)  # zstd keeps its own


def _start(kind: str) -> Any:
    return zlib.decompressobj(31) if kind == "gzip" else zstd.ZstdDecompressor()
