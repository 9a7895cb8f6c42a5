"""The page's WebSocket: who looks on, what each has seen last, and how little a slow one may cost.

Answers for: the upgrade (RFC 6455, by websockets' protocol without I/O), one tick for all viewers, newest value only,
bounds in number, bytes and time. While nobody looks on no timer runs and nothing is encoded. Refuses to know: what the
messages say (view.py), and credentials (http.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

import msgspec
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from mdfeed.httphead import Answer, Request, as_json

TICK_S = 0.1
MAX_VIEWERS = 64
VIEWERS_A_TURN = 4
MAX_SYMBOLS = 8  # that one viewer may follow
MAX_MESSAGE_BYTES = 1024  # of a viewer's
MAX_FRAMES_A_S = 20  # of a viewer's, PINGs and fragments included
BACKLOG_BYTES = 65536  # unread by a viewer; above it nothing more is read from it
SEND_BUFFER_BYTES = 65536  # asked of the kernel, which would hold minutes of it otherwise
BEHIND_S = 10.0  # not reading for so long ends it
PING_S = 20.0
SILENCE_S = 50.0  # without a byte, our PINGs' answers included
LINGER_S = 2.0  # for the other side's end of a close

log = logging.getLogger(__name__)
quiet = logging.getLogger(f"{__name__}.protocol")
quiet.setLevel(logging.CRITICAL)  # a broken peer is no news


class Topic(Protocol):
    """Something that is told: `version` rises with each new `frame`."""

    version: int
    frame: bytes


class View(Protocol):
    """What is told. `follow` takes the symbols that viewers follow now; `renew` brings topics up to date."""

    def hello(self) -> bytes: ...
    def follow(self, symbols: Iterable[str], /) -> None: ...
    def unknown(self, symbols: list[str], /) -> bytes | None: ...
    def renew(self, now_s: float, /) -> None: ...
    def topics(self, symbols: Iterable[str], /) -> Iterable[tuple[str, Topic]]: ...


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """The one message of a viewer: the symbols that it follows from now on."""

    subscribe: list[str]


def frame_of(payload: bytes) -> bytes:
    """A whole text frame: the same bytes for every viewer."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class Viewers:
    """All viewers, and the tick that serves them. `origins` are others than our own whose pages may look on."""

    def __init__(self, view: View, origins: Iterable[str] = ()) -> None:
        self.view = view
        self.viewers: dict[Viewer, None] = {}
        self.is_closed = False
        self._origins = frozenset(origin.encode() for origin in origins)
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, request: Request) -> Answer | Opening:
        """An upgrade, or why there is none."""
        if b"websocket" not in request.tokens(b"upgrade"):
            return as_json(426, {"error": "this is a WebSocket"}, Upgrade="websocket", Connection="Upgrade")
        origin = request.header(b"origin")
        if origin is not None and origin not in self._origins and not request.is_from_own_page:
            return as_json(403, {"error": "pages of another origin may not look on"})
        protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES, logger=quiet)
        protocol.receive_data(request.head + b"\r\n\r\n")
        handshake = next(iter(protocol.events_received()), None)
        if request.body_bytes != 0 or request.method != "GET" or not isinstance(handshake, Handshake):
            return as_json(400, {"error": "malformed handshake"})
        response = protocol.accept(handshake)
        if response.status_code != 101:
            return as_json(400, {"error": "malformed handshake"}, Sec_WebSocket_Version="13")
        if self.is_closed or len(self.viewers) >= MAX_VIEWERS:
            return as_json(503, {"error": f"{MAX_VIEWERS} viewers at most"}, Retry_After="10")
        protocol.send_response(response)
        return Opening(self, protocol)

    def enter(self, viewer: Viewer) -> None:
        self.viewers[viewer] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self.tick)

    def leave(self, viewer: Viewer) -> None:
        self.viewers.pop(viewer, None)
        self.refollow()

    def refollow(self) -> None:
        self.view.follow({symbol for viewer in self.viewers for symbol in viewer.symbols})

    def tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_S, self.tick) if self.viewers else None
        if self._timer is None:
            return
        now_s = loop.time()
        try:
            self.view.renew(now_s)
        except Exception:
            log.exception("what the page shows cannot be told")
            for viewer in list(self.viewers):
                viewer.end(1011, "internal error")
        self.push(list(self.viewers), now_s)

    def push(self, viewers: list[Viewer], now_s: float) -> None:
        """A few in each turn of the loop: a write takes its time, and frames wait meanwhile."""
        for viewer in viewers[:VIEWERS_A_TURN]:
            viewer.push(now_s)
        if viewers[VIEWERS_A_TURN:]:
            asyncio.get_running_loop().call_soon(self.push, viewers[VIEWERS_A_TURN:], now_s)

    def close(self) -> None:
        """Going away: says so to everybody, and lets nobody in any more."""
        self.is_closed = True
        for viewer in list(self.viewers):
            viewer.end(1001, "the daemon stops")


class Opening:
    """An accepted handshake."""

    def __init__(self, viewers: Viewers, protocol: ServerProtocol) -> None:
        self.viewers = viewers
        self.protocol = protocol

    def open(self, transport: asyncio.Transport) -> Viewer:
        return Viewer(self.viewers, self.protocol, transport)


class Viewer:
    """One viewer's connection, from the upgrade on."""

    def __init__(self, viewers: Viewers, protocol: ServerProtocol, transport: asyncio.Transport) -> None:
        self.viewers = viewers
        self.protocol = protocol
        self.transport = transport
        self.symbols: tuple[str, ...] = ()
        self.seen: dict[str, int] = {}  # version by topic
        self._parts = b""
        self._behind_since_s: float | None = None
        self._heard_s = self._pinged_s = self._second_s = asyncio.get_running_loop().time()
        self._frames = 0  # in the second under way
        self._deadline: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=BACKLOG_BYTES)
        shrink_send_buffer(transport)
        viewers.enter(self)
        self.flush()
        transport.write(frame_of(viewers.view.hello()))

    @property
    def is_open(self) -> bool:
        return self.protocol.state is State.OPEN and not self.transport.is_closing()

    # ---- what the line tells

    def receive(self, data: bytes) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        try:
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                if isinstance(event, Frame) and self.is_open:
                    self.on_frame(event)
        except (WebSocketException, EOFError):
            self.transport.abort()
        self.flush()

    def pause(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()  # or its PINGs would be answered into memory

    def resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def lost(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.viewers.leave(self)

    # ---- what it says

    def on_frame(self, frame: Frame) -> None:
        if self._heard_s - self._second_s >= 1.0:
            self._second_s, self._frames = self._heard_s, 0
        self._frames += 1
        if self._frames > MAX_FRAMES_A_S:
            self.end(1008, "too many messages")
        elif frame.opcode is Opcode.BINARY:
            self.end(1003, "text only")
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._parts += frame.data
            if frame.fin:
                text, self._parts = self._parts, b""
                self.on_message(text)

    def on_message(self, text: bytes) -> None:
        try:
            wish = msgspec.json.decode(text, type=Wish)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self.end(1007, 'expected {"subscribe": [symbols]}')
        if len(wish.subscribe) > MAX_SYMBOLS:
            return self.end(1008, f"{MAX_SYMBOLS} symbols at most")
        self.symbols = tuple(dict.fromkeys(symbol.upper() for symbol in wish.subscribe))
        for symbol in self.symbols:
            self.seen.pop(symbol, None)  # whoever asks again is told again
        self.viewers.refollow()
        complaint = self.viewers.view.unknown(list(self.symbols))
        if complaint is not None:
            self.transport.write(frame_of(complaint))

    # ---- what it is told

    def push(self, now_s: float) -> None:
        """All that is newer than what it has seen, in one write; nothing while it has not taken the last."""
        if not self.is_open:
            return
        if self.transport.get_write_buffer_size():
            self._behind_since_s = self._behind_since_s or now_s
            if now_s - self._behind_since_s > BEHIND_S:
                self.transport.abort()
            return
        self._behind_since_s = None
        if now_s - self._heard_s > SILENCE_S:
            return self.transport.abort()
        if now_s - self._pinged_s > PING_S:
            self._pinged_s = now_s
            self.protocol.send_ping(b"")
            self.flush()
        fresh = []
        for name, topic in self.viewers.view.topics(self.symbols):
            if topic.version != self.seen.get(name):
                self.seen[name] = topic.version
                fresh.append(topic.frame)
        if fresh:
            self.transport.write(b"".join(fresh))

    def end(self, code: int, reason: str) -> None:
        """Close with a code; what it says from now on is not heard."""
        if self.is_open:
            self.protocol.fail(code, reason)
        self.flush()

    def flush(self) -> None:
        """Write what the protocol wants said, and end the line when it says so."""
        for data in self.protocol.data_to_send():
            if data:
                self.transport.write(data)
            elif not self.transport.is_closing():
                if self.transport.can_write_eof():
                    self.transport.write_eof()
                    # An end at once would destroy the close frame on its way.
                    self._deadline = asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)
                else:
                    self.transport.close()


def shrink_send_buffer(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
