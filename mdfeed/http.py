"""HTTP/1.1 for /health, /ready, /metrics and the gateway API, as one small asyncio protocol.

Answers for: every method and path gets its JSON answer (CONTRACT 5), bodies and pipelining included; heads, bodies,
connections and time are bounded. Refuses to know: what healthy or ready means (callables say), who may ask (the gate
says), and WebSocket: a later page takes over the transport where `advance` has a parsed head
(docs/adr/0001-http-server.md).
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol, cast

from mdfeed.errors import MdfeedError
from mdfeed.gate import Gate
from mdfeed.handshakes import TlsServer
from mdfeed.httphead import BadRequest, Request, parse_head
from mdfeed.settings import Auth

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 8192
MAX_BODY_BYTES = 65536  # read and thrown away, so that the connection can go on; a longer one ends it
# The longest idle one makes room. At most half of the descriptors: the other half is the feed's.
MAX_CONNECTIONS = 2048
METRICS_AGE_S = 1.0
HANDSHAKES = 8  # with TLS, one in so many of them may be half-open
# How long a connection may stay in a phase: between requests, in a head, in a body, with its answers unread, waiting
# for ours, and after our last answer (RFC 9112 9.6: closing at once would destroy the answer on its way).
PHASE_S = {"idle": 75.0, "head": 5.0, "body": 5.0, "blocked": 10.0, "waiting": 10.0, "linger": 5.0}
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


Answer = tuple[int, str, bytes]  # status, content type, body
Route = Callable[[], "Answer | asyncio.Future[Answer]"]


class Api(Protocol):
    """The paths below a prefix; `answer` gives None where there is no such path."""

    @property
    def paths(self) -> list[str]: ...
    def answer(self, path: str, /) -> tuple[int, dict[str, Any]] | None: ...


class HttpServer:
    """Serves the three paths and the API's. `health` and `ready` give (status, JSON object), `metrics` the Prometheus
    text once it is rendered. `gate` says who may ask (default: everybody), `tls` makes it https."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        health: Callable[[], tuple[int, dict[str, Any]]],
        ready: Callable[[], tuple[int, dict[str, Any]]],
        metrics: Callable[[], Awaitable[bytes]],
        api: Api | None = None,
        gate: Gate | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.gate = Gate(Auth()) if gate is None else gate
        self.routes: dict[str, Route] = {
            "/health": lambda: as_json(*health()),
            "/ready": lambda: as_json(*ready()),
            "/metrics": self.fresh_metrics,
        }
        # In the order of their last request.
        self.connections: dict[Connection, None] = {}
        self._half_of_descriptors = MAX_CONNECTIONS
        self._port = port
        self._metrics = metrics
        self._api = api
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
            return 200, PROMETHEUS, self._rendered[1]
        if self._rendering is None:
            self._rendering = loop.create_task(self.render(), name="metrics")
        return self._rendering

    async def render(self) -> Answer:
        started = asyncio.get_running_loop().time()
        try:
            self._rendered = (started, await self._metrics())
            return 200, PROMETHEUS, self._rendered[1]
        except Exception:
            return failure("/metrics")
        finally:
            self._rendering = None

    def answer(self, request: Request) -> Answer | asyncio.Future[Answer]:
        """What one request gets; HEAD's body is GET's, left out by the writer."""
        path = request.path
        if not self.gate.lets_in(path, request.authorization):
            log.warning("http: requests without valid credentials are refused")
            return as_json(401, {"error": "credentials are needed"})
        try:
            route = self.routes.get(path) or self.api_route(path)
            if route is None and path != "*":
                paths = [*self.routes, *(self._api.paths if self._api else ())]
                return as_json(404, {"error": "not found", "paths": paths})
            if route is None or request.method not in ("GET", "HEAD"):
                return as_json(405, {"error": "method not allowed", "allow": ["GET", "HEAD"]})
            return route()
        except Exception:
            return failure(path)

    def api_route(self, path: str) -> Route | None:
        answered = self._api.answer(path) if self._api is not None else None
        return None if answered is None else lambda: as_json(*answered)


def failure(path: str) -> Answer:
    log.exception("no answer to %s", path)
    return as_json(500, {"error": "internal error"})


def as_json(status: int, body: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, JSON, json.dumps(body, separators=(",", ":")).encode() + b"\n"


async def is_mdfeed(host: str, port: int) -> bool:
    """Whether the holder of a taken port answers /health as mdfeed does."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(local, port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = await reader.read(4096)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b'"service":"market-data"' in text.replace(b" ", b"")


class Connection(asyncio.Protocol):
    """One client: heads in, answers out, in order."""

    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.buffer = bytearray()
        self.skip_bytes = 0
        self.phase = ""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        connections = self.server.connections
        connections[self] = None
        self.enter("idle")
        if len(connections) > self.server.max_connections:
            idle = next((other for other in connections if other.phase == "idle"), self)
            idle.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.server.connections.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()

    def enter(self, phase: str) -> None:
        """Start the clock of a phase; staying in one does not start it again."""
        if phase == self.phase:
            return
        self.phase = phase
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(PHASE_S[phase], self.on_timeout)

    def on_timeout(self) -> None:
        if self.phase == "head":
            self.write(*as_json(408, {"error": "the request did not come in time"}), is_last=True)
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.phase == "linger":
            return
        self.buffer += data
        self.advance()
        # While an answer is awaited only so much may be said in advance.
        if self.phase == "waiting" and len(self.buffer) > MAX_BODY_BYTES:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        if self.phase != "linger":
            self.transport.pause_reading()
            self.enter("blocked")

    def resume_writing(self) -> None:
        if self.phase == "blocked":
            self.transport.resume_reading()
            self.enter("idle")
            self.advance()

    def advance(self) -> None:
        """Answer every whole head in the buffer, as long as the client reads the answers."""
        while self.phase not in ("blocked", "waiting", "linger") and not self.transport.is_closing():
            dropped = min(self.skip_bytes, len(self.buffer))
            del self.buffer[:dropped]
            self.skip_bytes -= dropped
            if not self.buffer:
                return self.enter("body" if self.skip_bytes else "idle")
            if self.buffer.startswith(b"\r\n"):
                del self.buffer[:2]  # RFC 9112 2.2: an empty line before a request is passed over
                continue
            end = self.buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
            if end >= 0:
                head = bytes(self.buffer[:end])
                del self.buffer[: end + 4]
                self.respond(head)
            elif len(self.buffer) >= MAX_HEAD_BYTES:
                self.write(*as_json(431, {"error": f"a request head has {MAX_HEAD_BYTES} bytes at most"}), is_last=True)
            else:
                return self.enter("head")

    def respond(self, head: bytes) -> None:
        self.enter("idle")
        self.server.connections.pop(self, None)
        self.server.connections[self] = None
        try:
            request = parse_head(head)
        except BadRequest as error:
            return self.write(*as_json(error.status, {"error": str(error)}), is_last=True)
        answer = self.server.answer(request)
        if isinstance(answer, asyncio.Future):
            self.enter("waiting")
            answer.add_done_callback(lambda done: self.on_answer(request, done))
        else:
            self.reply(request, answer)

    def on_answer(self, request: Request, done: asyncio.Future[Answer]) -> None:
        if self.phase == "waiting" and not done.cancelled() and not self.transport.is_closing():
            self.transport.resume_reading()
            self.enter("idle")
            self.reply(request, done.result())
            self.advance()

    def reply(self, request: Request, answer: Answer) -> None:
        self.skip_bytes = request.body_bytes or 0
        is_last = not request.is_kept_alive or request.body_bytes is None or self.skip_bytes > MAX_BODY_BYTES
        self.write(*answer, is_last=is_last, method=request.method)

    def write(self, status: int, kind: str, body: bytes, *, is_last: bool, method: str = "") -> None:
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
        ]
        if method in ("GET", "HEAD"):
            lines.append("Access-Control-Allow-Origin: *")
        if status == 401:
            lines.append(f"WWW-Authenticate: {self.server.gate.challenge}")
        if status == 405:
            lines.append("Allow: GET, HEAD")
        if is_last:
            lines.append("Connection: close")
            self.buffer.clear()
            self.enter("linger")
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else body))
        if is_last and self.transport.can_write_eof():
            self.transport.write_eof()
        elif is_last:
            self.transport.close()
