"""One HTTP client's connection: heads in, answers out, in order; everything bounded in bytes and time.

Answers for: keep-alive and pipelining, bodies that are thrown away, the time each phase may take, and handing the
line over to a WebSocket. Refuses to know: what a path answers, who may ask (the host says both).
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Protocol, cast

from mdfeed.httphead import Answer, BadRequest, Request, as_json, parse_head

MAX_HEAD_BYTES = 8192
MAX_BODY_BYTES = 65536  # read and thrown away, so that the connection can go on; a longer one ends it
# How long a connection may stay in a phase: between requests, in a head, in a body, with its answers unread, waiting
# for ours, and after our last answer (RFC 9112 9.6: closing at once would destroy the answer on its way). A line that
# was taken over ("taken") watches itself.
PHASE_S = {"idle": 75.0, "head": 5.0, "body": 5.0, "blocked": 10.0, "waiting": 10.0, "linger": 5.0}


class Guest(Protocol):
    """Who has taken a line over: a WebSocket."""

    def receive(self, data: bytes, /) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def lost(self) -> None: ...


class Takeover(Protocol):
    """An accepted upgrade: it speaks next on the line, and is told everything from then on."""

    def open(self, transport: asyncio.Transport, /) -> Guest: ...


Reply = Answer | asyncio.Future[Answer] | Takeover


class Host(Protocol):
    """What of the server a connection needs; `connections` in the order of their last request."""

    @property
    def connections(self) -> dict[Connection, None]: ...
    @property
    def max_connections(self) -> int: ...
    def answer(self, request: Request, /) -> Reply: ...


class Connection(asyncio.Protocol):
    """One client: heads in, answers out, in order."""

    transport: asyncio.Transport

    def __init__(self, host: Host) -> None:
        self.host = host
        self.buffer = bytearray()
        self.skip_bytes = 0
        self.phase = ""
        self.timer: asyncio.TimerHandle | None = None
        self.guest: Guest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        connections = self.host.connections
        connections[self] = None
        self.enter("idle")
        if len(connections) > self.host.max_connections:
            idle = next((other for other in connections if other.phase == "idle"), self)
            idle.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.host.connections.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()
        if self.guest is not None:
            self.guest.lost()

    def enter(self, phase: str) -> None:
        """Start the clock of a phase; staying in one does not start it again."""
        if phase == self.phase:
            return
        self.phase = phase
        if self.timer is not None:
            self.timer.cancel()
        if phase != "taken":
            self.timer = asyncio.get_running_loop().call_later(PHASE_S[phase], self.on_timeout)

    def on_timeout(self) -> None:
        if self.phase == "head":
            self.write(as_json(408, {"error": "the request did not come in time"}), is_last=True)
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.guest is not None:
            return self.guest.receive(data)
        if self.phase == "linger":
            return
        self.buffer += data
        self.advance()
        # While an answer is awaited only so much may be said in advance.
        if self.phase == "waiting" and len(self.buffer) > MAX_BODY_BYTES:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        if self.guest is not None:
            self.guest.pause()
        elif self.phase not in ("linger", "taken"):
            self.transport.pause_reading()
            self.enter("blocked")

    def resume_writing(self) -> None:
        if self.guest is not None:
            self.guest.resume()
        elif self.phase == "blocked":
            self.transport.resume_reading()
            self.enter("idle")
            self.advance()

    def advance(self) -> None:
        """Answer every whole head in the buffer, as long as the client reads the answers."""
        while self.phase not in ("blocked", "waiting", "linger", "taken") and not self.transport.is_closing():
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
                self.write(as_json(431, {"error": f"a request head has {MAX_HEAD_BYTES} bytes at most"}), is_last=True)
            else:
                return self.enter("head")

    def respond(self, head: bytes) -> None:
        self.enter("idle")
        self.host.connections.pop(self, None)
        self.host.connections[self] = None
        try:
            request = parse_head(head)
        except BadRequest as error:
            return self.write(as_json(error.status, {"error": str(error)}), is_last=True)
        answer = self.host.answer(request)
        if isinstance(answer, Answer):
            self.reply(request, answer)
        elif isinstance(answer, asyncio.Future):
            self.enter("waiting")
            answer.add_done_callback(lambda done: self.on_answer(request, done))
        else:
            self.enter("taken")
            self.guest = answer.open(self.transport)
            said, self.buffer = bytes(self.buffer), bytearray()
            self.guest.receive(said)

    def on_answer(self, request: Request, done: asyncio.Future[Answer]) -> None:
        if self.phase == "waiting" and not done.cancelled() and not self.transport.is_closing():
            self.transport.resume_reading()
            self.enter("idle")
            self.reply(request, done.result())
            self.advance()

    def reply(self, request: Request, answer: Answer) -> None:
        self.skip_bytes = request.body_bytes or 0
        is_last = not request.is_kept_alive or request.body_bytes is None or self.skip_bytes > MAX_BODY_BYTES
        self.write(answer, is_last=is_last, method=request.method)

    def write(self, answer: Answer, *, is_last: bool, method: str = "") -> None:
        if is_last:
            self.buffer.clear()
            self.enter("linger")
        self.transport.write(answer.encode(formatdate(usegmt=True), method=method, is_last=is_last))
        if is_last and self.transport.can_write_eof():
            self.transport.write_eof()
        elif is_last:
            self.transport.close()
