"""What the page is told, as JSON: books and trust of the symbols that somebody follows, and how the daemon fares.

Answers for: the fields of each message (docs/PROTOCOL.md), that nothing is encoded twice for two viewers, and how much
one tick may encode. Refuses to know: sockets and viewers; and a book that is not LIVE or PROVED is never told as data.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from mdfeed import metrics
from mdfeed._feed import Feed
from mdfeed._track import Track
from mdfeed.api import GOOD, Api, plain
from mdfeed.metrics import LoopLag, Sink, package_version
from mdfeed.rates import Rate, Recent, since_start
from mdfeed.viewers import frame_of

PROTOCOL = 1
LEVELS = 20  # of a side, fewer where order_book_depth is less
TRADES = 24
REASONS = 20  # of /ready
BOOKS_A_TICK = 4  # a book's message takes some 100 us, and the loop has frames to carry
ROWS_A_TICK = 50
SECOND_S = 1.0
encode = msgspec.json.Encoder().encode


class Line(metrics.Line, Protocol):
    """What is told of a line: more than is counted."""

    @property
    def connected_since(self) -> int | None: ...
    @property
    def frames(self) -> int: ...
    @property
    def reason(self) -> str | None: ...


class Told:
    """A topic: its newest frame, and a version that no other frame has."""

    versions = itertools.count(1)

    def __init__(self) -> None:
        self.version = 0
        self.frame = b""
        self.seen_as: object = None  # what the frame was made of
        self.made_s = 0.0

    def say(self, message: Mapping[str, Any], now_s: float) -> None:
        self.version = next(self.versions)
        self.frame = frame_of(encode(message))
        self.made_s = now_s


class View:
    """Told to viewers. `ready` gives what /ready answers; `streams` are the lines there are."""

    def __init__(
        self,
        feed: Feed,
        api: Api,
        *,
        ready: Callable[[], tuple[int, dict[str, Any]]],
        streams: Sequence[Line] = (),
        sinks: Sequence[Sink] = (),
        lag: LoopLag | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.feed, self.api, self.ready, self.streams, self.sinks = feed, api, ready, streams, sinks
        self.lag, self.now_ns = lag, now_ns
        self.started_ns = now_ns()
        self.levels = min(LEVELS, api.depth)
        self.health, self.symbols = Told(), Told()
        self.books: dict[str, Told] = {}  # of the symbols that somebody follows
        self._turn: deque[str] = deque()  # their order
        self._rows: dict[str, dict[str, Any]] = {}
        self._row_turn: deque[Track] = deque()
        self._rates: dict[str, Rate] = {}
        self._latency = {"processing": Recent(feed.processing), "receive_to_write": Recent(feed.receive_to_write)}
        self._renewed_s = 0.0

    # ---- what viewers.py asks

    def hello(self) -> bytes:
        """The first message; nothing in it changes, but the symbols."""
        message = {
            "type": "hello", "protocol": PROTOCOL, "version": package_version(), "venue": self.feed.venue,
            "levels": self.levels, "started_ms": self.started_ns // 10**6, "symbols": list(self.feed.tracks),
        }  # fmt: skip
        return encode(message)

    def unknown(self, symbols: list[str]) -> bytes | None:
        """The message that names those of `symbols` which there are not; None when there are all."""
        strange = [symbol for symbol in symbols if symbol not in self.feed.tracks]
        return encode({"type": "unknown", "symbols": strange}) if strange else None

    def follow(self, symbols: Iterable[str]) -> None:
        wanted = {symbol for symbol in symbols if symbol in self.feed.tracks}
        self.books = {symbol: self.books.get(symbol) or Told() for symbol in sorted(wanted)}
        self._turn = deque(self.books)

    def topics(self, symbols: Iterable[str]) -> Iterator[tuple[str, Told]]:
        """The topics of somebody who follows `symbols`, those that have nothing to say yet left out."""
        for name, told in (("health", self.health), ("symbols", self.symbols)):
            if told.version:
                yield name, told
        for symbol in symbols:
            if symbol in self.books and self.books[symbol].version:
                yield symbol, self.books[symbol]

    def renew(self, now_s: float) -> None:
        """Bring the topics up to date: a few books in turn, a few symbols' rows, the rest once a second."""
        if now_s - self._renewed_s > SECOND_S:  # nobody was there: what is remembered is old
            for latency in self._latency.values():
                latency.forget()
            self.health, self.symbols, self._rows = Told(), Told(), {}
            self._row_turn = deque(self.feed.tracks.values())
        told_books = 0
        for _ in range(len(self._turn)):
            symbol = self._turn[0]
            self._turn.rotate(-1)
            track = self.feed.tracks.get(symbol)
            told_books += track is not None and self.renew_book(track, self.books[symbol], now_s)
            if told_books == BOOKS_A_TICK:
                break
        for _ in range(min(ROWS_A_TICK, len(self._row_turn))):
            track = self._row_turn.popleft()
            self._rows[track.symbol] = self.row(track, now_s)
        if now_s - self.health.made_s >= SECOND_S:
            self.health.say(self.how_it_fares(now_s), now_s)
            tracks = self.feed.tracks
            # A list with holes would look as if symbols had gone: it waits until each has had its turn.
            if self._rows and self._rows.keys() >= tracks.keys():
                self._rows = {symbol: self._rows[symbol] for symbol in tracks}
                self.symbols.say({"type": "symbols", "symbols": list(self._rows.values())}, now_s)
            if not self._row_turn:
                self._row_turn = deque(tracks.values())
        self._renewed_s = now_s

    # ---- messages

    def renew_book(self, track: Track, told: Told, now_s: float) -> bool:
        """Whether there was something new to say: a change, or a second has passed."""
        made_of = (track.book.last_id, track.state, track.reason, track.state_since_ns, track.trades)
        if made_of == told.seen_as and now_s - told.made_s < SECOND_S:
            return False
        told.seen_as = made_of
        told.say(self.book(track, now_s), now_s)
        return True

    def book(self, track: Track, now_s: float) -> dict[str, Any]:
        """One symbol. Levels, prices and 24 h figures are there only while the book is good."""
        index = self.feed.instruments.index(track.symbol)
        standing, book, delay_ns = self.api.standing(track), track.book, track.venue_delay_ns
        trades = self.api.recent.trades(index, TRADES)
        message: dict[str, Any] = {
            "type": "book", "symbol": track.symbol, "state": track.state, "reason": track.reason,
            "since_ms": standing["since_ns"] // 10**6, "age_s": standing["age_s"], "at_ms": self.now_ns() // 10**6,
            "last_update_id": book.last_id, "source": track.source,
            "updates_per_s": self.rate_of(track, now_s),
            "venue_delay_ms": None if delay_ns is None else round(delay_ns / 1e6, 1),
            "proof": track.proof,
            "counts": {
                "applied": track.applied, "stale": track.stale, "gaps": track.gaps, "overlaps": track.overlaps,
                "crossed": track.crossed, "resyncs": sum(track.resyncs.values()),
                "trades": track.trades, "trade_gaps": track.trade_gaps,
            },
            "trades": [
                [trade["trade_id"], trade["price"], trade["qty"], trade["is_buyer_maker"], trade["ts_event"] // 10**6]
                for trade in trades
            ],
        }  # fmt: skip
        if track.state in GOOD:
            spread, mid = book.spread, book.mid
            message |= {
                "recv_ms": book.recv_ns // 10**6,
                "bids": sides(book.levels("bids", self.levels, verified_only=True)),
                "asks": sides(book.levels("asks", self.levels, verified_only=True)),
                "held": {"bids": book.count_of("bids"), "asks": book.count_of("asks")},
                "verified": {"bids": book.verified_bids, "asks": book.verified_asks},
                "spread": None if spread is None else plain(spread),
                "mid": None if mid is None else plain(mid),
                "day": day_of(self.api.recent.figures(index)),
            }
        return message

    def row(self, track: Track, now_s: float) -> dict[str, Any]:
        """One symbol of the list."""
        bid, ask = (track.book.best_bid, track.book.best_ask) if track.state in GOOD else (None, None)
        return {
            "symbol": track.symbol, "state": track.state, "reason": track.reason,
            "bid": plain(bid[0]) if bid else None, "ask": plain(ask[0]) if ask else None,
            "updates_per_s": self.rate_of(track, now_s),
        }  # fmt: skip

    def rate_of(self, track: Track, now_s: float) -> float | None:
        rate = self._rates.get(track.symbol)
        if rate is None:
            rate = self._rates[track.symbol] = Rate()
        return rate(track.applied, now_s)

    def how_it_fares(self, now_s: float) -> dict[str, Any]:
        """The daemon: readiness, latency, lines, sinks."""
        status, said = self.ready()
        reasons = said.get("reasons", [])
        frames = sum(self.feed.frames_by_kind.values())
        return {
            "type": "health", "at_ms": self.now_ns() // 10**6, "is_ready": status == 200,
            "reasons": reasons[:REASONS], "more_reasons": max(len(reasons) - REASONS, 0),
            "frames": frames, "frames_per_s": self._rates.setdefault("", Rate())(frames, now_s),
            "loop_lag_ms": round(self.lag.worst_s * 1000, 2) if self.lag is not None else None,
            "clock_offset_ms": round(self.feed.clock_offset_ns / 1e6, 2),
            "latency": {
                name: {"recent": recent.summary(), "start": since_start(recent.histogram)}
                for name, recent in self._latency.items()
            },
            "lines": [line_of(line) for line in self.streams],
            "sinks": [sink_of(sink) for sink in self.sinks],
        }  # fmt: skip


def sides(levels: list[tuple[Decimal, Decimal]]) -> list[list[str]]:
    return [[plain(price), plain(qty)] for price, qty in levels]


def day_of(figures: dict[str, Any]) -> dict[str, Any]:
    """The 24 h figures with what follows from them, exact; a percentage has two digits."""
    last, opened = figures["last_price"], figures["open_24h"]
    change = None if last is None or opened is None else Decimal(last) - Decimal(opened)
    is_share = change is not None and Decimal(opened) > 0
    percent = f"{(change * 100 / Decimal(opened)):+.2f}" if is_share and change is not None else None
    return {**figures, "change_24h": None if change is None else plain(change), "change_percent_24h": percent}


def line_of(line: Line) -> dict[str, Any]:
    since = line.connected_since
    return {
        "name": line.name, "is_connected": line.is_connected, "since_ms": since // 10**6 if since else None,
        "frames": line.frames, "reconnects": sum(line.reconnects.values()),
        "rollovers": sum(line.rollovers.values()), "reason": line.reason,
    }  # fmt: skip


def sink_of(sink: Sink) -> dict[str, Any]:
    counters = sink.counters()
    return {
        "name": sink.name, "is_connected": sink.is_connected, "buffer_bytes": counters.get("buffer_bytes", 0),
        "published": sum(counters.get("published", {}).values()), "dropped": counters.get("dropped", {}),
        "reconnects": counters.get("reconnects", 0),
    }  # fmt: skip
