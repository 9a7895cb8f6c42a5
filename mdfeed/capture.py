"""Capture files: bytes on disk -> records in time order.

Answers for the line formats (stamped raw JSON; cryptofeed formats 1 and 2), for stamps, torn ends and garbage, and for
merging several files into one session. Knows of a venue only where a symbol stands; no book, no feed.
Memory is constant: a block and a line.
"""

from __future__ import annotations

import ast
import base64
import heapq
import json
import re
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from mdfeed.containers import Container, Torn
from mdfeed.errors import CaptureError

FRAME, SNAPSHOT, CONNECT, LOST = "frame", "snapshot", "connect", "lost"

_HEAD_BYTES = 1 << 16
_FORMATS = (
    ("text", re.compile(rb"\d{15,19} ")),
    ("cryptofeed1", re.compile(rb"configuration: |wss?://\S+ <|https?://\S+ ->|\d+\.\d+: ")),
    ("cryptofeed2", re.compile(rb'\{"t":\s*"header".*"format":\s*2\b')),
)
_CRYPTOFEED1 = re.compile(
    rb"(?:(?P<url>\S+) (?P<way><->|<-|->) )?(?P<s>\d+)(?:\.(?P<frac>\d+))?(?:: (?P<payload>.*))?", re.S
)
_CONN = re.compile(rb'"conn":\s*"([^"]*)"')
_REST_DEPTH = b'{"lastUpdateId"'
_NAMED = re.compile(rb'"symbol":\s*"([^"]+)"')
_STREAM = re.compile(rb'\{"stream":\s*"([^"@!]+)@')
_EVENT_SYMBOL = re.compile(rb'"s":\s*"([^"]+)"')


class Record(NamedTuple):
    """One thing that happened. `recv_ns` is the recorder's clock, UTC ns.

    kind        line            symbol       payload
    frame       its connection  None         the raw frame
    snapshot    -1              its market   REST depth body
    connect     its connection  None         the URL
    lost        its connection  None         empty
    """

    recv_ns: int
    kind: str
    line: int
    symbol: str | None
    payload: bytes


class Tear(NamedTuple):
    """Where a file stopped being readable; everything before was read."""

    path: Path
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason} at byte {self.offset}; read up to there"


def symbol_in(frame: bytes) -> str | None:
    """The market that a raw frame speaks of, upper case: of its stream name, else of its `s`."""
    if match := _STREAM.match(frame):
        return match[1].decode(errors="replace").upper()
    match = _EVENT_SYMBOL.search(frame)
    return match[1].decode(errors="replace") if match else None


class Capture:
    """One file. Iterating reads it from its start; the counters tell about the newest iteration.

    `format` is text, cryptofeed1 or cryptofeed2. `garbage` counts lines that are no record, `garbage_lines` holds the
    numbers of the first ten. `tear` is set when the end was damaged. CaptureError: unreadable, empty, foreign.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tear: Tear | None = None
        self.garbage = 0
        self.garbage_lines: list[int] = []
        self._container = Container(path)
        self._number = 0
        self.format = self._sniff()

    def __iter__(self) -> Iterator[Record]:
        self.tear, self.garbage, self.garbage_lines = None, 0, []
        if self.format == "text":
            return self._read_text()
        return self._read_cryptofeed1() if self.format == "cryptofeed1" else self._read_cryptofeed2()

    @property
    def bytes_read(self) -> int:
        """How far into the file, as it is on disk, reading has come."""
        return self._container.bytes_read

    def symbols(self) -> list[str]:
        """Markets in the order of their first frame. Reads the whole file."""
        return list(dict.fromkeys(s for r in Capture(self.path) if (s := r.symbol or symbol_in(r.payload))))

    def _sniff(self) -> str:
        head = bytearray()
        try:
            for block in self._container:
                head += block
                if len(head) >= _HEAD_BYTES:
                    break
        except Torn as torn:
            if not head:
                raise CaptureError(f"{self.path}: {torn.reason}", torn.offset) from None
        if not head.strip():
            raise CaptureError(f"{self.path}: empty", 0)
        for line in bytes(head).split(b"\n"):
            for name, pattern in _FORMATS:
                if pattern.match(line):
                    return name
        raise CaptureError(f"{self.path}: not a capture: no line starts with a time stamp in us or ns", 0)

    def _lines(self) -> Iterator[bytes]:
        """Lines without their ends, no blank ones; `_number` is the current one's. A torn end becomes `tear`."""
        self._number = 0
        rest, text_bytes = b"", 0
        try:
            for block in self._container:
                text_bytes += len(block)
                *lines, rest = (rest + block).split(b"\n") if rest else block.split(b"\n")
                for line in lines:
                    self._number += 1
                    if line and not line.isspace():
                        yield line[:-1] if line[-1] == 13 else line
        except Torn as torn:
            self.tear = Tear(self.path, torn.offset, torn.reason)
        if rest.strip():
            self._number += 1
            if _is_whole(self.format, rest):
                yield rest.rstrip()
            elif self.tear is None:
                self.tear = Tear(self.path, text_bytes - len(rest), f"line {self._number} is cut off")

    def _refuse(self) -> None:
        self.garbage += 1
        if len(self.garbage_lines) < 10:
            self.garbage_lines.append(self._number)

    def _read_text(self) -> Iterator[Record]:
        only: str | None = None
        for line in self._lines():
            stamp, _, payload = line.partition(b" ")
            if not (15 <= len(stamp) <= 19 and stamp.isdigit() and payload):
                self._refuse()
                continue
            recv_ns = int(stamp) if len(stamp) > 17 else int(stamp) * 1000
            if payload.startswith(_REST_DEPTH):
                if named := _NAMED.search(payload):
                    symbol = named[1].decode(errors="replace")
                else:
                    symbol = only = only or self._only_symbol()
                yield Record(recv_ns, SNAPSHOT, -1, symbol, payload)
            else:
                yield Record(recv_ns, FRAME, 0, None, payload)

    def _only_symbol(self) -> str:
        number = self._number
        scan = Capture(self.path)
        found: dict[str, None] = {}
        offset = 0
        for line in scan._lines():
            if scan._number < number:
                offset += len(line) + 1
            if not line.partition(b" ")[2].startswith(_REST_DEPTH) and (symbol := symbol_in(line.partition(b" ")[2])):
                found[symbol] = None
        if len(found) == 1:
            return next(iter(found))
        has = f"holds {', '.join(list(found)[:5])}" if found else "has no frame that names one"
        raise CaptureError(f"{self.path}:{number}: a REST snapshot names no symbol and the file {has}", offset)

    def _read_cryptofeed1(self) -> Iterator[Record]:
        urls: list[str] = []
        line_id = 0
        for line in self._lines():
            match = _CRYPTOFEED1.fullmatch(line)
            if match is None:
                if not line.startswith(b"configuration: "):
                    self._refuse()
                continue
            recv_ns = int(match["s"]) * 1_000_000_000 + int(((match["frac"] or b"") + b"0" * 9)[:9])
            way, payload = match["way"], match["payload"]
            if way is None and payload is not None:
                if payload[:2] in (b"b'", b'b"'):
                    payload = _read_literal(payload)
                if payload is None:
                    self._refuse()
                else:
                    yield Record(recv_ns, FRAME, line_id, None, payload)
            elif way == b"<->":
                url = match["url"].decode("utf-8", "replace")
                if url in urls:
                    yield Record(recv_ns, LOST, urls.index(url), None, b"")
                else:
                    urls.append(url)
                line_id = urls.index(url)
                yield Record(recv_ns, CONNECT, line_id, None, match["url"])
            elif way == b"->" and payload is not None and payload.startswith(_REST_DEPTH):
                yield Record(recv_ns, SNAPSHOT, -1, _symbol_of_request(match["url"].decode(), payload), payload)

    def _read_cryptofeed2(self) -> Iterator[Record]:
        """Rows are grouped by connection: one pass tells the connections, then one reader each, merged by time."""
        connections: dict[bytes, Capture] = {}
        for line in self._lines():
            if match := _CONN.search(line):
                if match[1] not in connections:
                    connections[match[1]] = Capture(self.path)
            elif not line.startswith(b'{"t":"header"'):
                self._refuse()
        readers = [one._read_connection(name, line_id) for line_id, (name, one) in enumerate(connections.items())]
        yield from heapq.merge(*readers, key=lambda record: record.recv_ns)
        self.garbage += sum(one.garbage for one in connections.values())
        numbers = [number for one in connections.values() for number in one.garbage_lines]
        self.garbage_lines = sorted(self.garbage_lines + numbers)[:10]

    def _read_connection(self, name: bytes, line_id: int) -> Iterator[Record]:
        is_open = False
        for line in self._lines():
            match = _CONN.search(line)
            if match is None or match[1] != name:
                continue
            try:
                row: dict[str, Any] = json.loads(line)
                recv_ns = round(float(row["ts"]) * 1e6) * 1000
                kind = row["t"]
                text = base64.b64decode(row["b64"]) if "b64" in row else str(row.get("data", "")).encode()
            except (ValueError, KeyError, TypeError):
                self._refuse()
                continue
            if kind == "recv":
                yield Record(recv_ns, FRAME, line_id, None, text)
            elif kind == "connect":
                if is_open:
                    yield Record(recv_ns, LOST, line_id, None, b"")
                is_open = True
                yield Record(recv_ns, CONNECT, line_id, None, str(row.get("addr", "")).encode())
            elif kind == "http" and text.startswith(_REST_DEPTH):
                yield Record(recv_ns, SNAPSHOT, -1, _symbol_of_request(str(row.get("url", "")), text), text)


def open_capture(path: Path | str) -> Capture:
    """A capture file, its container and format told by its content. CaptureError: unreadable, empty or foreign."""
    return Capture(Path(path))


class Session:
    """Several files as one: records merged by time (stable: the earlier file first), lines numbered across files.

    A file without connection records that starts after another such file has ended continues that file's line: books
    and chains carry over midnight.
    """

    def __init__(self, captures: Iterable[Capture]) -> None:
        self.captures = list(captures)

    @property
    def tears(self) -> list[Tear]:
        return [capture.tear for capture in self.captures if capture.tear]

    def __iter__(self) -> Iterator[Record]:
        lines: dict[tuple[int, int], int] = {}
        free: list[int] = []  # lines of text files that have ended
        fresh = count()
        heap: list[tuple[int, int, Record, Iterator[Record]]] = []
        for index, capture in enumerate(self.captures):
            records = iter(capture)
            if (record := next(records, None)) is not None:
                heap.append((record.recv_ns, index, record, records))
        heapq.heapify(heap)
        while heap:
            _, index, record, records = heap[0]
            line = record.line
            if line >= 0:
                key = (index, line)
                if key not in lines:
                    is_text = self.captures[index].format == "text"
                    lines[key] = free.pop() if free and is_text else next(fresh)
                line = lines[key]
            yield record if line == record.line else record._replace(line=line)
            if (record := next(records, None)) is None:
                heapq.heappop(heap)
                if self.captures[index].format == "text" and (index, 0) in lines:
                    free.append(lines[index, 0])
            else:
                heapq.heapreplace(heap, (record.recv_ns, index, record, records))


def _is_whole(file_format: str, line: bytes) -> bool:
    """Whether a last line without a line end is a whole one."""
    if file_format == "cryptofeed1":
        match = _CRYPTOFEED1.fullmatch(line)
        if match is None or match["payload"] is None:
            return False
        payload = match["payload"]
        if payload[:2] in (b"b'", b'b"'):
            return _read_literal(payload) is not None
    else:
        payload = line.partition(b" ")[2] if file_format == "text" else line
    try:
        json.loads(payload)
    except ValueError:
        return False
    return True


def _read_literal(text: bytes) -> bytes | None:
    try:
        value = ast.literal_eval(text.decode("ascii"))
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, bytes) else None


def _symbol_of_request(url: str, body: bytes) -> str | None:
    """Of the body where it names one, else of the URL's query."""
    if named := _NAMED.search(body):
        return named[1].decode(errors="replace")
    names = parse_qs(urlsplit(url).query).get("symbol")
    return names[0].upper() if names else None
