"""A captured session through the feed, by the capture's own clock.

Answers for: which markets show, ticks at each whole second (so that the same capture gives the same publications),
where playing starts and stops, what is counted, and the report. Refuses to know file formats (capture), what a frame
means (the feed), where publications go, and the time of day: pacing is the caller's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mdfeed import venues
from mdfeed._encode import Outbox
from mdfeed._feed import Feed
from mdfeed._track import Track
from mdfeed.capture import CONNECT, FRAME, LOST, SNAPSHOT, Record, Session, symbol_in
from mdfeed.errors import DecodeError

_SECOND_NS = 1_000_000_000
_MAX_TICKS = 600  # a hole in the capture longer than that many seconds gets only its last tick
_REST_ID = re.compile(rb'\{"lastUpdateId":\s*(\d+)')
_IS_TRADE = re.compile(rb'"e":\s*"(?:t|aggT)rade"')
_DIFF_ID = re.compile(rb'"u":\s*(\d+)')


class Player:
    """Feeds records to a Feed by the capture's clock.

    `symbols`: only these; none: all that show. What comes before `start_ns` builds the books and is not counted; from
    `end_ns` on nothing is read. A market whose diffs pass `to_update_id` stops there, with all its streams.
    """

    def __init__(
        self,
        session: Session,
        venue: str,
        *,
        symbols: Sequence[str] = (),
        start_ns: int | None = None,
        end_ns: int | None = None,
        to_update_id: int | None = None,
    ) -> None:
        self.session = session
        self.feed = Feed(venues.get(venue))
        self.messages = 0
        self.elapsed_s = 0.0
        self._records = iter(session)
        self._start_ns, self._end_ns, self._to_update_id = start_ns, end_ns, to_update_id
        self._only = frozenset(symbols)
        self._names: dict[bytes, str | None] = {}
        self._lines: dict[int, int] = {}
        self._stopped: dict[str, str] = {}
        self._bad_snapshots = 0
        self._now_ns = 0
        self._next_tick_ns = 0
        self._before: dict[str, Any] = {}
        for symbol in symbols:
            self.feed.add(symbol)

    def warm_up(self) -> None:
        """Plays what comes before the start; afterwards counts begin at zero."""
        if self._start_ns is None:
            return
        for record in self._records:
            if record.recv_ns >= self._start_ns:
                self._records = chain([record], self._records)
                break
            if record.kind != FRAME or not _IS_TRADE.search(record.payload):
                self._play(record)
        self.messages = 0
        self.feed.processing.reset()
        self._before = self.counts()

    def refresh(self, outbox: Outbox) -> None:
        """Say states and good books, as they are at the capture's time, to an outbox that has just been connected."""
        self.feed.refresh(outbox, self._now_ns)

    def play(self) -> Iterator[int]:
        """The capture's clock after each record, to pace by; the last one closes all pending verdicts."""
        started = time.perf_counter()
        for record in self._records:
            if self._end_ns is not None and record.recv_ns >= self._end_ns:
                break
            yield record.recv_ns
            self._play(record)
            if self._stopped and len(self._stopped) == len(self.feed.tracks):
                break
        self.feed.finish(self._now_ns)
        self.elapsed_s = time.perf_counter() - started

    def _play(self, record: Record) -> None:
        now_ns = self._now_ns = record.recv_ns
        if now_ns >= self._next_tick_ns:
            self._tick(now_ns)
        if record.kind == FRAME:
            symbol = self._name(record.payload)
            if symbol == "" or (self._to_update_id is not None and symbol and self._is_past(symbol, record.payload)):
                return
            self.messages += 1
            line = self._lines.get(record.line)
            if line is None:
                line = self._lines[record.line] = self.feed.open_line(f"capture-{record.line}", (), now_ns)
            started_ns = time.perf_counter_ns()
            self.feed.receive(line, record.payload, now_ns)
            self.feed.processing.observe(time.perf_counter_ns() - started_ns)
        elif record.kind == SNAPSHOT:
            self._snapshot(record)
        elif record.kind == CONNECT:
            query = parse_qs(urlsplit(record.payload.decode("utf-8", "replace")).query)
            streams = [name for names in query.get("streams", []) for name in names.split("/")]
            for stream in streams:
                if "@" in stream and not stream.startswith("!"):
                    self._admit(stream.partition("@")[0].upper())
            self._lines[record.line] = self.feed.open_line(f"capture-{record.line}", streams, now_ns)
        elif record.kind == LOST and record.line in self._lines:
            self.feed.lost(self._lines.pop(record.line), now_ns)

    def _tick(self, now_ns: int) -> None:
        second_ns = now_ns - now_ns % _SECOND_NS
        if self._next_tick_ns and second_ns - self._next_tick_ns <= _MAX_TICKS * _SECOND_NS:
            for tick_ns in range(self._next_tick_ns, second_ns, _SECOND_NS):
                self.feed.tick(tick_ns)
        self.feed.tick(second_ns)
        self._next_tick_ns = second_ns + _SECOND_NS

    def _name(self, payload: bytes) -> str | None:
        """The frame's market, known to the feed from now on; "" when it was not asked for, None when it names none."""
        at = payload.find(b"@", 11, 60)
        key = payload[:at] if at > 0 and payload.startswith(b'{"stream":"') and payload[11] != 33 else b""  # 33: "!"
        if key and key in self._names:
            return self._names[key]
        symbol = symbol_in(payload)
        if symbol is not None:
            symbol = self._admit(symbol)
        if key:
            self._names[key] = symbol
        return symbol

    def _admit(self, symbol: str) -> str:
        if self._only:
            return symbol if symbol in self._only else ""
        if symbol not in self.feed.tracks:
            self.feed.add(symbol)
        return symbol

    def _is_past(self, symbol: str, payload: bytes) -> bool:
        if symbol in self._stopped:
            return True
        if b'"depthUpdate"' not in payload or not (match := _DIFF_ID.search(payload)):
            return False
        if int(match[1]) <= (self._to_update_id or 0):
            return False
        self._stopped[symbol] = self.feed.tracks[symbol].state
        return True

    def _snapshot(self, record: Record) -> None:
        symbol = self._admit(record.symbol) if record.symbol else ""
        if not symbol or symbol in self._stopped:
            return
        match = _REST_ID.match(record.payload)
        if self._to_update_id is not None and match and int(match[1]) > self._to_update_id:
            return
        try:
            self.feed.snapshot(symbol, "capture", 0, record.payload, record.recv_ns)
        except DecodeError:
            self._bad_snapshots += 1

    def counts(self) -> dict[str, Any]:
        """Everything that only grows, by name; books by symbol."""
        feed = self.feed
        return {
            "by_type": feed.frames_by_kind,
            "decode_errors": sum(feed.decode_errors.values()) + self._bad_snapshots,
            "books": {symbol: _book_counts(track) for symbol, track in feed.tracks.items()},
        }

    def report(self) -> dict[str, Any]:
        """The document of `--json`; what came before the start is not in its counts."""
        tracks = self.feed.tracks
        after = self.counts()
        counts = _subtract(after, self._before)
        garbage = sum(capture.garbage for capture in self.session.captures)
        latency = self.feed.processing
        return {
            "files": [str(capture.path) for capture in self.session.captures],
            "venue": self.feed.venue,
            "messages": self.messages,
            "by_type": counts["by_type"],
            "decode_errors": counts["decode_errors"] + garbage,
            "trades": {symbol: row for symbol, track in tracks.items() if (row := track.trade_summary())},
            "books": {
                symbol: _book_row(track, counts["books"][symbol], self._stopped.get(symbol, track.state))
                for symbol, track in tracks.items()
                if track.book.last_id or after["books"][symbol]["frames"]
            },
            "elapsed_s": round(self.elapsed_s, 6),
            "messages_per_s": round(self.messages / self.elapsed_s, 1) if self.elapsed_s else 0.0,
            "latency_us": {
                "p50": latency.quantile(0.5) / 1000,
                "p99": latency.quantile(0.99) / 1000,
                "p99_9": latency.quantile(0.999) / 1000,
                "max": latency.max_ns / 1000,
            },
        }


def _book_counts(track: Track) -> dict[str, Any]:
    return {
        "frames": track.frames,
        "applied": track.applied,
        "stale": track.stale,
        "gaps": track.gaps,
        "resyncs": sum(track.resyncs.values()),
        "crossed": track.crossed,
        "proof": track.proof,
    }


def _subtract(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _subtract(value, before.get(name, {})) if isinstance(value, dict) else value - before.get(name, 0)
        for name, value in after.items()
    }


def _book_row(track: Track, counts: dict[str, Any], state: str) -> dict[str, Any]:
    book = track.book
    return {
        "state": state,
        "last_update_id": book.last_id,
        **{name: counts[name] for name in ("applied", "stale", "gaps", "resyncs", "crossed")},
        "bids": book.count_of("bids"),
        "asks": book.count_of("asks"),
        "best_bid": _texts(book.best_bid),
        "best_ask": _texts(book.best_ask),
        "sha256": book.digest(),
        "proof": counts["proof"],
    }


def _texts(level: tuple[Decimal, Decimal] | None) -> list[str] | None:
    """Plain decimals without trailing zeros, without exponent."""
    if level is None:
        return None
    texts = [format(value, "f") for value in level]
    return [text.rstrip("0").rstrip(".") if "." in text else text for text in texts]
