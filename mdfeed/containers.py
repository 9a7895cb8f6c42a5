"""Files on disk -> blocks of text: gzip members, zstd frames (skippable ones passed over), plain text; told by content.

Answers for decompression and for saying where damage begins. Knows nothing of lines or records. Memory: a block.
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

    `bytes_read` says how far into the file, as it is on disk, the newest iteration has come. CaptureError: unreadable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_read = 0

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
        part = _start(kind)
        is_inside = False
        while block := file.read(_BLOCK_BYTES):
            start = self.bytes_read
            self.bytes_read += len(block)
            while block:
                if not is_inside and not (block := block.lstrip(b"\0")):
                    break
                try:
                    text = part.decompress(block)
                except (zlib.error, zstd.ZstdError):
                    raise Torn(f"damaged {kind} data", max(start, self.bytes_read - len(block))) from None
                is_inside = True
                if text:
                    yield text
                if not part.eof:
                    break
                block = part.unused_data
                part = _start(kind)
                is_inside = False
        if is_inside:
            raise Torn(f"{kind} data ends early", self.bytes_read)


def _start(kind: str) -> Any:
    return zlib.decompressobj(31) if kind == "gzip" else zstd.ZstdDecompressor()
