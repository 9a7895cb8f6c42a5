"""Dialects: what is particular to one family of exchanges.

Answers for: the shape of a venue (URLs, channels, routes, limits, requests, its decoder) and for finding one by name.
Refuses to know: sockets, tasks, books. A module of this folder whose name has no leading underscore is a family:
`binance.py` serves every name `binance` or `binance-...` and lists its venues in `VENUES`. Adding a family
adds a file and edits none.
"""

from __future__ import annotations

import difflib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import ClassVar, Protocol
from urllib.parse import quote, urlencode

from mdfeed._parse import Decoder, Instruments
from mdfeed.errors import ConfigError
from mdfeed.settings import Config

# A request line with its method and version must stay under 4 KB; this leaves room for both.
MAX_URL_BYTES = 3900
# Parameters of one SUBSCRIBE frame.
STREAMS_PER_FRAME = 50


@dataclass(frozen=True, slots=True)
class LinePlan:
    """One WebSocket line: the URL carries `streams`; `late_streams` are to be subscribed by frames once it is open."""

    name: str
    route: str
    url: str
    streams: tuple[str, ...]
    late_streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A REST GET: path with query, and its cost in the venue's weight."""

    path: str
    weight: int

    @classmethod
    def of(cls, path: str, weight: int, **query: str | int | None) -> Request:
        text = urlencode({key: value for key, value in query.items() if value is not None})
        return cls(f"{path}?{text}" if text else path, weight)


@dataclass(frozen=True, slots=True)
class Filters:
    """What exchangeInfo says of a market. Digits are the significant fraction digits of tick and step size."""

    symbol: str
    price_digits: int
    qty_digits: int
    status: str
    tick_size: Decimal
    step_size: Decimal


@dataclass(frozen=True, slots=True)
class TickerRow:
    """The venue's 24 h figures of one market; times in ns."""

    last: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    quote_volume: Decimal
    open_ts: int
    close_ts: int
    count: int


@dataclass(frozen=True, slots=True)
class KlineRow:
    """One minute's candle; open time in ns."""

    open_ts: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    count: int


@dataclass(frozen=True, slots=True)
class TradeRow:
    """One aggregate trade of `fills` matches; trade time in ns."""

    trade_id: int
    price: Decimal
    qty: Decimal
    ts_trade: int
    is_buyer_maker: bool
    fills: int


class Rehearsing(Protocol):
    """A made-up market: a REST depth body, and frames that continue it without end."""

    @property
    def symbol(self) -> str: ...
    @property
    def streams(self) -> Sequence[str]: ...

    def snapshot(self) -> bytes: ...

    def frame(self, ts_ms: int) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue(ABC):
    """One venue. A family's module derives from it and fills in requests and parsers."""

    name: str
    ws_url: str
    rest_url: str
    ws_api_url: str | None = None
    # How many proof mismatches in a row mean that the book is wrong.
    mismatch_patience: int = 1
    snapshot_limits: tuple[int, ...] = ()
    default_channels: tuple[str, ...] = ()
    # An exact top by itself, for when no snapshot can be had; "": the venue has none.
    partial_channel: str = ""
    ping_interval_s: float = 180.0
    max_streams_per_line: int = 200
    # (channel's name before digits and "@", route); the first that is a prefix counts, "" matches all.
    routes: tuple[tuple[str, str], ...] = (("", ""),)

    # Path endings of a configured URL that say nothing about the host.
    ENDINGS: ClassVar[tuple[str, ...]] = ("/stream", "/ws")

    @abstractmethod
    def decoder(self, instruments: Instruments) -> Decoder: ...

    @abstractmethod
    def depth_request(self, symbol: str, limit: int) -> Request: ...

    @abstractmethod
    def exchange_info_request(self) -> Request: ...

    @abstractmethod
    def ticker_request(self, symbol: str) -> Request: ...

    @abstractmethod
    def tickers_request(self) -> Request:
        """Of all symbols at once."""

    @abstractmethod
    def klines_request(self, symbol: str, interval: str, limit: int, start_ms: int | None = None) -> Request: ...

    @property
    @abstractmethod
    def klines_most(self) -> int:
        """Rows that one answer to klines_request holds at most."""

    @abstractmethod
    def agg_trades_request(self, symbol: str, from_id: int, limit: int) -> Request: ...

    @abstractmethod
    def time_request(self) -> Request: ...

    @abstractmethod
    def parse_time(self, body: bytes) -> int: ...

    @abstractmethod
    def parse_exchange_info(self, body: bytes) -> dict[str, Filters]: ...

    @abstractmethod
    def parse_ticker(self, body: bytes) -> TickerRow: ...

    @abstractmethod
    def parse_tickers(self, body: bytes, symbols: Collection[str]) -> dict[str, TickerRow]: ...

    @abstractmethod
    def parse_klines(self, body: bytes) -> Iterator[KlineRow]:
        """Rows as they are read: a day of them is too much for one turn of the loop."""

    @abstractmethod
    def parse_agg_trades(self, body: bytes) -> list[TradeRow]: ...

    def rehearsal(self) -> Rehearsing | None:
        """Frames of a market that does not exist, for mdfeed/rehearsal.py; None: the family has none."""
        return None

    def stream(self, symbol: str, channel: str) -> str:
        """Name of one stream; all-market channels ("!...") are their own."""
        return channel if channel.startswith("!") else f"{symbol.lower()}@{channel}"

    def route(self, channel: str) -> str:
        """The endpoint that serves a channel: "public", "market", or "" where the venue has one for all."""
        return next(route for prefix, route in self.routes if channel.startswith(prefix))

    def other_route(self, route: str) -> str | None:
        """Where to look for a stream that its own route never shows; None when there is no other."""
        others = [other for _, other in self.routes if other != route]
        return others[0] if others else None

    def base_url(self, ws_url: str | None = None) -> str:
        """Scheme and host (and a proxy's prefix) of a configured URL, whose ending may be `/stream` or `/ws`."""
        url = (ws_url or self.ws_url).partition("?")[0].rstrip("/")
        for ending in self.ENDINGS:
            url = url.removesuffix(ending)
        for _, route in self.routes:
            url = url.removesuffix(f"/{route}") if route else url
        return url

    def plan(
        self,
        symbols: Sequence[str],
        channels: Sequence[str],
        *,
        ws_url: str | None = None,
        routes: str = "auto",
        max_streams: int | None = None,
    ) -> list[LinePlan]:
        """The lines that carry every channel of every symbol, at most `max_streams` each (default: the venue's own).

        `routes`: "split" by the route table, "single" for one endpoint, "auto" as the venue documents. All streams
        that a symbol has on a route are on one line, so that its depth and bookTicker can be compared.
        """
        if routes not in ("auto", "split", "single"):
            raise ValueError(f"routes are auto, split or single: {routes!r}")
        most = self.max_streams_per_line if max_streams is None else max_streams
        base = self.base_url(ws_url)
        groups: dict[str, list[list[str]]] = {}
        for symbol in [None, *dict.fromkeys(symbols)]:
            rows: dict[str, list[str]] = {}
            for channel in dict.fromkeys(channels):
                if channel.startswith("!") == (symbol is None):
                    route = "" if routes == "single" else self.route(channel)
                    rows.setdefault(route, []).append(self.stream(symbol or "", channel))
            for route, streams in rows.items():
                groups.setdefault(route, []).append(streams)
        lines = []
        for route, rows_of_route in groups.items():
            for number, streams in enumerate(_packed(rows_of_route, most)):
                lines.append(_line(f"{route or 'all'}-{number}", route, base, streams))
        return lines

    def subscribe_frames(self, streams: Sequence[str], first_id: int = 1) -> list[str]:
        """SUBSCRIBE requests of modest size, ids counting up from first_id. Pace them: few a second are allowed."""
        return [
            json.dumps(
                {"method": "SUBSCRIBE", "params": list(streams[at : at + STREAMS_PER_FRAME]), "id": number},
                ensure_ascii=False,
            )
            for number, at in enumerate(range(0, len(streams), STREAMS_PER_FRAME), first_id)
        ]


def _packed(rows: list[list[str]], most: int) -> list[list[str]]:
    """The rows in order, in as few lists as the order allows; a row is never split."""
    lines: list[list[str]] = []
    for row in rows:
        if len(row) > most:
            raise ValueError(f"a line of {most} streams cannot hold the {len(row)} of one symbol: {', '.join(row)}")
        if not lines or len(lines[-1]) + len(row) > most:
            lines.append([])
        lines[-1].extend(row)
    return lines


def _line(name: str, route: str, base: str, streams: list[str]) -> LinePlan:
    url = f"{base}/{route}/stream?streams=" if route else f"{base}/stream?streams="
    room = MAX_URL_BYTES - len(url.encode()) + 1
    fitting = 0
    # Percent-encoded, for not all symbols are ASCII.
    texts = [quote(stream, safe="@!+") for stream in streams]
    for text in texts:
        room -= len(text) + 1
        if room < 0:
            break
        fitting += 1
    return LinePlan(name, route, url + "/".join(texts[:fitting]), tuple(streams[:fitting]), tuple(streams[fitting:]))


def names() -> tuple[str, ...]:
    """Names of all venues, sorted."""
    families = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return tuple(sorted(venue.name for family in families for venue in _venues(family)))


def get(name: str) -> Venue:
    """The venue of that name; ConfigError with the known names, and the likely one, when there is none."""
    known = names()
    if name in known:
        return next(venue for venue in _venues(name.partition("-")[0]) if venue.name == name)
    near = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"venue: unknown venue {name!r}{hint} (known: {', '.join(known)})")


def of(config: Config) -> Venue:
    """The configured one; the ConfigError of a name that is none has its place."""
    try:
        return get(config.venue)
    except ConfigError as error:
        raise config.error("venue", str(error).partition(": ")[2]) from error


def _venues(family: str) -> tuple[Venue, ...]:
    venues: tuple[Venue, ...] = import_module(f"{__name__}.{family}").VENUES
    return venues
