"""HTTP/1.1 for /health, /ready, /metrics, the gateway API and the page, on one port.

Answers for: every method and path gets its answer (CONTRACT 5), only whom the gate lets in, and the port itself.
Refuses to know: what healthy or ready means (callables say), bytes on a line (httpline.py, httphead.py), and what the
page's WebSocket says (docs/adr/0001-http-server.md).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

from mdfeed.errors import MdfeedError
from mdfeed.gate import TICKET_S, Gate
from mdfeed.handshakes import TlsServer
from mdfeed.httphead import Answer, Request, as_json
from mdfeed.httpline import Connection, Reply, Takeover
from mdfeed.settings import Auth

log = logging.getLogger(__name__)

# The longest idle one makes room. At most half of the descriptors: the other half is the feed's.
MAX_CONNECTIONS = 2048
METRICS_AGE_S = 1.0
HANDSHAKES = 8  # with TLS, one in so many of them may be half-open
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}
READING = ("GET", "HEAD")
TICKET = b"mdfeed_ticket"  # the cookie; it is sent to /ws alone

Route = Callable[[Request], "Answer | asyncio.Future[Answer]"]


class Api(Protocol):
    """The paths below a prefix; `answer` gives None where there is no such path."""

    @property
    def paths(self) -> list[str]: ...
    def answer(self, path: str, /) -> tuple[int, dict[str, Any]] | None: ...


class Page(Protocol):
    """The document at `/`, and what it opens at `/ws`: an upgrade, or the answer to what is none."""

    def document(self, request: Request, /) -> Answer: ...
    def upgrade(self, request: Request, /) -> Answer | Takeover: ...
    def close(self) -> None: ...


class HttpServer:
    """Serves the three paths, the API's and the page's two. `health` and `ready` give (status, JSON object), `metrics`
    the Prometheus text once it is rendered. `gate` says who may ask (default: everybody), `tls` makes it https."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        health: Callable[[], tuple[int, dict[str, Any]]],
        ready: Callable[[], tuple[int, dict[str, Any]]],
        metrics: Callable[[], Awaitable[bytes]],
        api: Api | None = None,
        page: Page | None = None,
        gate: Gate | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.gate = Gate(Auth()) if gate is None else gate
        self.routes: dict[str, Route] = {
            "/health": lambda request: as_json(*health()),
            "/ready": lambda request: as_json(*ready()),
            "/metrics": lambda request: self.fresh_metrics(),
        }
        if page is not None:
            self.routes["/"] = self.document
        # In the order of their last request.
        self.connections: dict[Connection, None] = {}
        self._half_of_descriptors = MAX_CONNECTIONS
        self._port = port
        self._metrics = metrics
        self._api = api
        self._page = page
        self._tls = tls
        self._rendered: tuple[float, bytes] | None = None
        self._rendering: asyncio.Task[Answer] | None = None
        self._server: asyncio.Server | TlsServer | None = None

    @property
    def is_listening(self) -> bool:
        return self._server is not None and bool(self._server.sockets)

    @property
    def max_connections(self) -> int:
        most = min(MAX_CONNECTIONS, self._half_of_descriptors)
        return most - most // HANDSHAKES if self._tls else most

    @property
    def port(self) -> int:
        """The bound port; the asked one while not listening."""
        if self._server is None or not self._server.sockets:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where the page is, for somebody on this machine when it listens on every address."""
        host = LOCAL.get(self.host, self.host)
        return f"http{'s' if self._tls else ''}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    async def start(self) -> None:
        """Bind and serve. Raises MdfeedError with one clear line when the address cannot be had."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            self._half_of_descriptors = soft // 2
        try:
            if self._tls is None:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_server(lambda: Connection(self), self.host, self._port)
            else:
                half_open = max(1, min(MAX_CONNECTIONS, self._half_of_descriptors) // HANDSHAKES)
                server = TlsServer(self._tls, lambda: Connection(self), half_open)
                self._server = await server.listen(self.host, self._port)
        except OSError as error:
            raise MdfeedError(f"http {self.host}:{self._port}: {await self.explain(error)}") from None

    async def explain(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            holder = "another mdfeed" if await is_mdfeed(self.host, self._port) else "another program"
            return f"the port is taken by {holder}; stop it, or choose another by health_port or --http HOST:PORT"
        if error.errno == errno.EACCES:
            return "no right to bind it; ports below 1024 need CAP_NET_BIND_SERVICE, or choose another by health_port"
        if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            return "this machine has no such address; set http.host"
        return f"cannot listen: {error.strerror or error}"

    async def stop(self) -> None:
        """Stop listening, let written answers go out for up to a second, close every connection."""
        if self._server is None:
            return
        self._server.close()
        if self._page is not None:
            self._page.close()
        for connection in list(self.connections):
            connection.transport.close()
        deadline = asyncio.get_running_loop().time() + 1.0
        while self.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        for connection in list(self.connections):
            connection.transport.abort()
        await self._server.wait_closed()

    def fresh_metrics(self) -> Answer | asyncio.Future[Answer]:
        """The exposition, at most a second old: any number of scrapers costs one rendering a second."""
        loop = asyncio.get_running_loop()
        if self._rendered is not None and loop.time() - self._rendered[0] < METRICS_AGE_S:
            return Answer(200, PROMETHEUS, self._rendered[1])
        if self._rendering is None:
            self._rendering = loop.create_task(self.render(), name="metrics")
        return self._rendering

    async def render(self) -> Answer:
        started = asyncio.get_running_loop().time()
        try:
            self._rendered = (started, await self._metrics())
            return Answer(200, PROMETHEUS, self._rendered[1])
        except Exception:
            return failure("/metrics")
        finally:
            self._rendering = None

    def answer(self, request: Request) -> Reply:
        """What one request gets; HEAD's body is GET's, left out by the writer."""
        path = request.path
        if not self.lets_in(request):
            log.warning("http: requests without valid credentials are refused")
            return self.refusal(request)
        try:
            if path == "/ws" and self._page is not None and request.method in READING:
                return self._page.upgrade(request)
            route = self.routes.get(path) or self.api_route(path)
            if route is None and path not in ("*", "/ws" if self._page else "*"):
                return as_json(404, {"error": "not found", "paths": self.paths()})
            if route is None or request.method not in READING:
                return as_json(405, {"error": "method not allowed", "allow": [*READING]}, Allow=", ".join(READING))
            return route(request)
        except Exception:
            return failure(path)

    def paths(self) -> list[str]:
        return [*self.routes, *(["/ws"] if self._page else []), *(self._api.paths if self._api else ())]

    def lets_in(self, request: Request) -> bool:
        if self.gate.lets_in(request.path, request.header(b"authorization")):
            return True
        # A browser sends its cookies whoever asks it to: they count for a page of our own only.
        is_page = request.path == "/ws" and request.is_from_own_page
        return is_page and self.gate.honours(request.cookie(TICKET), time.time())

    def refusal(self, request: Request) -> Answer:
        """401. With a token, a browser gets the page all the same, which holds no data and asks for it."""
        challenge = {"WWW-Authenticate": self.gate.challenge}
        is_browser = request.method in READING and b"text/html" in request.tokens(b"accept")
        if self._page is not None and request.path == "/" and self.gate.takes_token and is_browser:
            asking = self._page.document(replace(request, headers={}))
            return replace(asking, status=401, headers={**asking.headers, **challenge, "Cache-Control": "no-store"})
        return as_json(401, {"error": "credentials are needed"}, **{"WWW-Authenticate": self.gate.challenge})

    def document(self, request: Request) -> Answer:
        """The page; with it, where credentials are asked for, the ticket to its WebSocket."""
        assert self._page is not None
        answer = self._page.document(request)
        if self.gate.is_open:
            return answer
        is_secure = self._tls is not None or request.header(b"x-forwarded-proto") == b"https"
        cookie = f"{TICKET.decode()}={self.gate.ticket(time.time())}; Path=/ws; Max-Age={TICKET_S}; HttpOnly"
        cookie += "; SameSite=Strict" + ("; Secure" if is_secure else "")
        return replace(answer, headers={**answer.headers, "Set-Cookie": cookie})

    def api_route(self, path: str) -> Route | None:
        answered = self._api.answer(path) if self._api is not None else None
        return None if answered is None else lambda request: as_json(*answered)


def failure(path: str) -> Answer:
    log.exception("no answer to %s", path)
    return as_json(500, {"error": "internal error"})


async def is_mdfeed(host: str, port: int) -> bool:
    """Whether the holder of a taken port answers /health as mdfeed does."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(LOCAL.get(host, host), port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = await reader.read(4096)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b'"service":"market-data"' in text.replace(b" ", b"")
