"""One port for all of the venue: stream connections on their routes, HTTP, WS-API.

Drives a source (the market, or a capture played back) on a clock and hands its frames to who listens. Everything that
leaves passes the seam (faults.py). Built on websockets' server, which answers plain HTTP requests from
`process_request` and closes after each.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from mdfeed.exchange.faults import Answer, Asked, Seam
from mdfeed.exchange.link import Caller, Limits, Link
from mdfeed.exchange.market import Market, Said
from mdfeed.exchange.rest import Desk, Source
from mdfeed.exchange.streams import MARKET, PUBLIC, ROUTES, route_of
from mdfeed.exchange.weight import Scales

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")
WS_API_PATH = "/ws-fapi/v1"
_BATCH = 2_000  # things of the market between two looks at the sockets
_NAP_MAX_S = 0.02  # longest sleep: a stream wanted meanwhile may be due before what was due first
_LAG_MAX_NS = 1_000_000_000

log = logging.getLogger(__name__)
# Its two lines a request and a connection say nothing that the caller of a simulator wants.
_quiet = logging.getLogger("mdfeed.exchange.websockets")
_quiet.setLevel(logging.CRITICAL)


class Speaker(Source, Protocol):
    """What the server drives."""

    now_ns: int

    @property
    def next_ns(self) -> int | None: ...

    def names_for(self, name: str) -> str: ...

    def want(self, name: str) -> bool: ...

    def unwant(self, name: str) -> None: ...

    def step(self, now_ns: int, most: int = ...) -> Iterator[Said]: ...

    def postpone(self, by_ns: int) -> None: ...


class SimulatedExchange:
    """The venue on a loopback port. `async with SimulatedExchange(["BTCUSDT"]) as exchange: exchange.ws_url`.

    `routes` is "split" (/public, /market, /private; an unrouted connection silently gets public data only) or "single"
    (/ws and /stream carry everything, the routed paths are 404). `source` replaces the market (a playback, or a market
    of one's own). `clock` gives UTC ns. With `ssl`, `bad_certificates` are what its seam may show instead, by kind.
    """

    def __init__(
        self,
        symbols: Sequence[str] = SYMBOLS,
        *,
        seed: int = 1,
        rate: float = 50.0,
        routes: str = "split",
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        bad_certificates: Mapping[str, tls.SSLContext] | None = None,
        levels: int | None = None,
        source: Speaker | None = None,
        seam: Seam | None = None,
        limits: Limits | None = None,
        scales: Scales | None = None,
        trade_route: str = MARKET,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        if routes not in ("split", "single"):
            raise ValueError(f"routes must be 'split' or 'single', not {routes!r}")
        if source is None:
            source = Market(symbols, seed=seed, rate=rate, start_ns=clock(), levels=levels)
        self.source: Speaker = source
        self.seam = seam or Seam()
        self.scales = scales or Scales()
        self.links: set[Link] = set()
        self.on_call: Callable[[str], object] = lambda text: None  # told of each WS-API request before its answer
        self.fell_behind = 0  # times the market was postponed because this machine could not keep its rate
        self._desk = Desk(source, clock, self.scales)
        self._routes = routes
        self._host, self._port, self._ssl = host, port, ssl
        self._bad_certificates = bad_certificates or {}
        self._limits = limits or Limits()
        self._trade_route = trade_route
        self._clock = clock
        self._listeners: dict[str, dict[tuple[Link, str], None]] = {}
        self._server: Server | None = None
        self._driver: asyncio.Task[None] | None = None

    @property
    def market(self) -> Market:
        """The market behind it. LookupError when a capture is played instead."""
        if not isinstance(self.source, Market):
            raise LookupError("this exchange plays a capture: it has no market")
        return self.source

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def ws_url(self) -> str:
        """Scheme, host and port; append `/public/stream?streams=...`, `/stream`, `/ws/<stream>`."""
        return f"{'wss' if self._ssl else 'ws'}://{self._host}:{self.port}"

    @property
    def rest_url(self) -> str:
        """Scheme, host and port; append `/fapi/v1/...`."""
        return f"{'https' if self._ssl else 'http'}://{self._host}:{self.port}"

    @property
    def ws_api_url(self) -> str:
        return self.ws_url + WS_API_PATH

    async def start(self) -> None:
        """Bind and run. OSError when the port is taken."""
        if self._ssl is not None:
            self._ssl.sni_callback = self._greet
        self._server = await serve(
            self._talk,
            self._host,
            self._port,
            ssl=self._ssl,
            process_request=self._process_request,
            create_connection=Caller,
            compression=None,
            ping_interval=None,
            close_timeout=2,
            server_header=None,
            logger=_quiet,
        )
        # Seeding many books takes seconds: the market starts now, not when it was made.
        self.source.postpone(max(0, self._clock() - self.source.now_ns))
        self._driver = asyncio.create_task(self._drive())

    async def close(self) -> None:
        """Cut every connection and stop; raises what ended the market, if anything did. A second call does nothing."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.cancel()
            await asyncio.wait((driver,))
        if self._server is not None:
            for link in tuple(self.links):
                link.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        if driver is not None and not driver.cancelled():
            driver.result()

    async def wait(self) -> None:
        """Until the market ends, which it does by an error alone."""
        if self._driver is not None:
            await asyncio.wait((self._driver,))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def listen(self, link: Link, name: str) -> None:
        """A link asks for a stream. On the wrong route, or unknown: nothing comes, and nothing is said."""
        if link.route is not None and route_of(name, self._trade_route) != link.route:
            return
        said = self.source.names_for(name)
        if self.source.want(said):
            self._listeners.setdefault(said, {})[link, name] = None

    def unlisten(self, link: Link, name: str) -> None:
        said = self.source.names_for(name)
        listeners = self._listeners.get(said)
        if listeners is None or (link, name) not in listeners:
            return
        del listeners[link, name]
        if not listeners:
            del self._listeners[said]
        self.source.unwant(said)

    async def _drive(self) -> None:
        source = self.source
        while True:
            now_ns = self._clock()
            self.seam.step(now_ns, source)
            waiting: dict[Link, None] = {}
            for said in source.step(now_ns, _BATCH):
                for link, name in self._listeners.get(said.stream, ()):
                    if link.event(name, said.stream, said.frame):
                        waiting[link] = None
            for link in waiting:
                link.flush()
            lag_ns = now_ns - source.now_ns
            if lag_ns > _LAG_MAX_NS:
                source.postpone(lag_ns)
                self.fell_behind += 1
                if self.fell_behind == 1:
                    log.warning("this machine cannot keep the rate asked for: the market runs slower")
            next_ns = source.next_ns
            nap_s = _NAP_MAX_S if next_ns is None else (next_ns - self._clock()) / 1e9
            # A millisecond at least between two rounds gathers frames into one write, as the real venue does.
            await asyncio.sleep(0.0 if lag_ns > 0 else min(max(nap_s, 0.001), _NAP_MAX_S))

    def _greet(self, socket: tls.SSLObject, name: str | None, context: tls.SSLContext) -> None:
        kind = self.seam.greeted()
        if kind is not None:
            socket.context = self._bad_certificates[kind]

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        peer = _peer(connection)
        is_upgrade = "websocket" in request.headers.get("Upgrade", "").lower()
        asked = Asked(getattr(request, "method", "GET"), request.path, peer, is_upgrade)
        answer = self.seam.asked(asked)
        if answer is None:
            if is_upgrade:
                answer = self._admit(request.path)
                if answer is None:
                    return None
            else:
                answer = self._desk.answer(asked.method, asked.path, peer)
            answer = self.seam.answered(asked, answer)
        if answer.delay_s > 0.0:
            await asyncio.sleep(answer.delay_s)
        return _response(answer)

    def _admit(self, path: str) -> Answer | None:
        """None when a WebSocket may be opened at `path`."""
        if urlsplit(path).path == WS_API_PATH:
            return None
        place = self._place(path)
        if place is None:
            return Answer(404, b"<html><body>404 Not Found</body></html>", content_type="text/html")
        if len(place[2]) > self._limits.streams_max:
            return Answer(400, b'{"code":-1102,"msg":"Too many streams."}')
        return None

    def _place(self, path: str) -> tuple[str | None, bool, list[str]] | None:
        """(route, is combined, streams) of a stream path; None for a path that this venue does not have."""
        parts = urlsplit(path)
        first, _, rest = parts.path.strip("/").partition("/")
        route: str | None = None
        if self._routes == "split":
            # "A connection without a route gets public data only, silently."
            route = PUBLIC
            if first in ROUTES:
                route = first
                first, _, rest = rest.partition("/")
        if first == "stream" and not rest:
            names = parse_qs(parts.query).get("streams", [""])[0]
            return route, True, [name for name in names.split("/") if name]
        if first == "ws":
            return route, False, [name for name in unquote(rest).split("/") if name]
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Caller)
        assert connection.request is not None
        path = connection.request.path
        place = self._place(path)
        if place is None:
            await self._answer_calls(connection, path)
            return
        route, is_combined, names = place
        link = Link(connection, path, route, is_combined, self, self.seam, self._limits)
        self.links.add(link)
        try:
            await link.run(names)
        finally:
            self.links.discard(link)

    async def _answer_calls(self, connection: Caller, path: str) -> None:
        """Serve a WS-API connection. Its answers pass the seam as frames of the stream named by its path."""
        # Calls are limited by their weight, not by their number.
        link = Link(connection, path, None, False, self, self.seam, replace(self._limits, incoming_per_s=0))
        peer = _peer(connection)
        self.seam.opened(link)
        try:
            async for message in connection:
                self.on_call(text := _text(message))
                link.send(WS_API_PATH, self._desk.call(text, peer).encode())
        except ConnectionClosed:
            pass
        finally:
            self.seam.closed(link)


def _text(message: str | bytes) -> str:
    return message if isinstance(message, str) else message.decode(errors="replace")


def _peer(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if isinstance(address, tuple) else "local"


def _response(answer: Answer) -> Response:
    headers = Headers({"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))})
    for name, value in answer.headers.items():
        headers[name] = value
    headers["Connection"] = "close"
    phrase = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus._value2member_map_ else "Unknown"
    return Response(answer.status, phrase, headers, answer.body)
