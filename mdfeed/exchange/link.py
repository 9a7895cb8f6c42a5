"""One client's WebSocket: what it asked for, what it is sent, and the venue's limits on it.

Frames are framed once and written to the transport directly, many in one write, as they come packed from the real
venue; each passes the seam first. Refuses to know the market: a hub says which streams exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

from mdfeed.exchange import streams
from mdfeed.exchange.faults import Seam

_BACKLOG_MAX_BYTES = 32 << 20  # unsent to one client; beyond it the venue cuts the connection
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


@dataclass(frozen=True)
class Limits:
    """What the venue allows one connection."""

    incoming_per_s: int = 10
    streams_max: int = 1024
    max_age_s: float = 86_400.0
    ping_interval_s: float = 180.0
    pong_timeout_s: float = 600.0


class Hub(Protocol):
    """Where links say what they listen to."""

    def listen(self, link: Link, name: str) -> None: ...

    def unlisten(self, link: Link, name: str) -> None: ...


class Caller(ServerConnection):
    """A connection that counts what comes in, control frames too: PING and PONG are messages to the venue's limit."""

    incoming_per_s = 0  # 0: not limited
    is_frozen = False
    _times: deque[float]

    def data_received(self, data: bytes) -> None:
        if not self.is_frozen:
            super().data_received(data)

    def mute_pongs(self) -> None:
        """Answer no PING from now on."""
        send = self.protocol.send_frame

        def send_others(frame: Frame) -> None:
            if frame.opcode is not Opcode.PONG:
                send(frame)

        self.protocol.send_frame = send_others  # type: ignore[method-assign]

    def process_event(self, event: Event) -> None:
        super().process_event(event)
        if self.incoming_per_s and isinstance(event, Frame) and event.opcode is not Opcode.CLOSE:
            now_s = time.monotonic()
            self._times.append(now_s)
            while self._times[0] <= now_s - 1.0:
                self._times.popleft()
            if len(self._times) > self.incoming_per_s and self.state is State.OPEN:
                self.end(1008, "Too many requests")

    def limit(self, incoming_per_s: int) -> None:
        self._times = deque()
        self.incoming_per_s = incoming_per_s

    def end(self, code: int, reason: str) -> None:
        """Begin the closing handshake without waiting for it."""
        self.ending = self.loop.create_task(self.close(code, reason))


class Link:
    """A stream connection. `route` is None for one that carries every stream (an unsplit venue)."""

    def __init__(
        self, connection: Caller, path: str, route: str | None, is_combined: bool, hub: Hub, seam: Seam, limits: Limits
    ) -> None:
        self.path = path
        self.route = route
        self.is_combined = is_combined
        self.streams: dict[str, None] = {}  # asked for, in order, whether or not they carry anything
        self._connection = connection
        self._hub = hub
        self._seam = seam
        self._limits = limits
        self._out: list[bytes] = []
        connection.limit(limits.incoming_per_s)

    async def run(self, names: list[str]) -> None:
        """Serve the connection until it ends."""
        loop = asyncio.get_running_loop()
        end = loop.call_later(self._limits.max_age_s, self.close, 1001, "24 hours")
        alive = loop.create_task(self._keep_alive())
        try:
            self._seam.opened(self)
            self.subscribe(names)
            async for message in self._connection:
                self._take(message)
        except ConnectionClosed:
            pass
        finally:
            end.cancel()
            alive.cancel()
            self._seam.closed(self)
            self.unsubscribe(list(self.streams))
            with contextlib.suppress(asyncio.CancelledError):
                await alive

    def subscribe(self, names: list[str]) -> None:
        for name in names:
            if name not in self.streams:
                self.streams[name] = None
                self._hub.listen(self, name)

    def unsubscribe(self, names: list[str]) -> None:
        for name in names:
            if name in self.streams:
                del self.streams[name]
                self._hub.unlisten(self, name)

    def event(self, name: str, said: str, frame: bytes) -> bool:
        """Send the event of a combined frame of stream `said` to who asked for it as `name`; True if it is queued."""
        if not self.is_combined:
            frame = streams.data_of(frame, said)
        elif name != said:
            frame = b'{"stream":"%b","data":%b}' % (name.encode(), streams.data_of(frame, said))
        return self._pass(name, frame)

    def flush(self) -> None:
        """Write what is queued, in one piece."""
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._seam.write(self, data)

    def write(self, data: bytes) -> None:
        """Bytes to the socket, as they are."""
        if self._connection.state is not State.OPEN or self._connection.is_frozen:
            return
        transport: Any = self._connection.transport
        transport.write(data)
        if transport.get_write_buffer_size() > _BACKLOG_MAX_BYTES:
            transport.abort()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        self.flush()
        self._connection.end(code, reason)

    def abort(self) -> None:
        """Cut the connection without a word."""
        self._connection.transport.abort()

    def say(self, text: bytes) -> None:
        """`text` as a message, now and past the seam."""
        self.flush()
        self.write(framed(text))

    def freeze(self) -> None:
        """Nothing passes in either direction any more; the socket stays open."""
        self._connection.is_frozen = True

    def mute_pongs(self) -> None:
        """Answer no PING from now on."""
        self._connection.mute_pongs()

    def _pass(self, name: str, text: bytes) -> bool:
        for delay_s, passed in self._seam.frame(self, name, text):
            if delay_s > 0.0:
                asyncio.get_running_loop().call_later(delay_s, self._late, passed)
            else:
                self._out.append(framed(passed))
        return bool(self._out)

    def _late(self, text: bytes) -> None:
        self._out.append(framed(text))
        self.flush()

    def send(self, name: str, text: bytes) -> None:
        """Send `text` now, as of stream `name` ("" for an answer to the client)."""
        self._pass(name, text)
        self.flush()

    def _reply(self, document: dict[str, Any]) -> None:
        self.send("", json.dumps(document, separators=(",", ":")).encode())

    def _take(self, message: str | bytes) -> None:
        """One incoming message. Error texts are those of the venue's documentation."""
        try:
            asked = json.loads(message)
        except (ValueError, RecursionError):
            self._refuse(3, "Invalid JSON: expected value at line 1 column 1")
            return
        if not isinstance(asked, dict):
            self._refuse(2, "Invalid request: expected an object")
            return
        number = asked.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            self._refuse(2, "Invalid request: request ID must be an unsigned integer")
            return
        method = asked.get("method")
        if method not in _METHODS:
            what = "missing field `method`" if method is None else f"unknown variant `{method}`, expected one of "
            self._refuse(2, "Invalid request: " + what + (", ".join(_METHODS) if method is not None else ""), number)
            return
        params = asked.get("params", [])
        if not isinstance(params, list):
            self._refuse(2, "Invalid request: params must be a list", number)
        elif method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            self._change(method, params, number)
        elif method == "LIST_SUBSCRIPTIONS":
            self._reply({"result": list(self.streams), "id": number})
        else:
            self._property(method, params, number)

    def _change(self, method: str, names: list[Any], number: int) -> None:
        if not all(isinstance(name, str) for name in names):
            self._refuse(2, "Invalid request: stream names must be strings", number)
        elif method == "UNSUBSCRIBE":
            self.unsubscribe(names)
            self._reply({"result": None, "id": number})
        elif len(self.streams.keys() | set(names)) > self._limits.streams_max:
            self._refuse(2, "Invalid request: too many parameters", number)
        else:
            # The answer goes before the first event of the new streams.
            self._reply({"result": None, "id": number})
            self.subscribe(names)

    def _property(self, method: str, params: list[Any], number: int) -> None:
        if not params or params[0] != "combined":
            self._refuse(0, "Unknown property", number)
        elif method == "GET_PROPERTY":
            self._reply({"result": self.is_combined, "id": number})
        elif len(params) != 2 or not isinstance(params[1], bool):
            self._refuse(1, "Invalid value type: expected Boolean", number)
        else:
            self.flush()
            self.is_combined = params[1]
            self._reply({"result": None, "id": number})

    def _refuse(self, code: int, text: str, number: int | None = None) -> None:
        error: dict[str, Any] = {"error": {"code": code, "msg": text}}
        self._reply(error if number is None else error | {"id": number})

    async def _keep_alive(self) -> None:
        """Ping every `ping_interval_s`; cut when the oldest unanswered ping is `pong_timeout_s` old."""
        interval_s, patience_s = self._limits.ping_interval_s, self._limits.pong_timeout_s
        waiting: deque[tuple[float, asyncio.Future[float]]] = deque()
        next_ping_s = time.monotonic() + interval_s
        with contextlib.suppress(ConnectionClosed):
            while True:
                deadline_s = waiting[0][0] + patience_s if waiting else next_ping_s
                await asyncio.sleep(max(0.0, min(next_ping_s, deadline_s) - time.monotonic()))
                now_s = time.monotonic()
                while waiting and waiting[0][1].done():
                    waiting.popleft()
                if waiting and now_s >= waiting[0][0] + patience_s:
                    self.close(1008, "Pong timeout")
                    return
                if now_s >= next_ping_s:
                    next_ping_s = now_s + interval_s
                    if self._seam.pinged(self):
                        pong = await self._connection.ping(str(time.time_ns() // 1_000_000))
                        waiting.append((now_s, pong))  # type: ignore[arg-type]  # ping() is typed as any Awaitable


def framed(text: bytes) -> bytes:
    """One unmasked WebSocket text message (RFC 6455, 5.2)."""
    size = len(text)
    if size < 126:
        return bytes((0x81, size)) + text
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + text
    return struct.pack("!BBQ", 0x81, 127, size) + text
