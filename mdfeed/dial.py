"""Two ways to open a WebSocket, picows and websockets' sans-I/O protocol, behind one seam: `dial` gives a Connection.

Answers for TCP, TLS, the upgrade and its refusals, and for closing without hanging. What arrives goes to the Line,
which the caller makes once the upgrade has succeeded. Knows no subscription and no retry; offers no extension.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Protocol, cast

import picows
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from mdfeed._line import MAX_MESSAGE_BYTES, Line
from mdfeed.refusals import Refusal, Refused, of_status

log = logging.getLogger(__name__)

TRANSPORTS = ("picows", "websockets")
CLOSE_S = 1.0  # for a close handshake; then the socket is cut

# Both libraries log what is reported here anyway, once for each frame or attempt.
QUIET = logging.Logger("mdfeed.dial.quiet", logging.CRITICAL + 1)

MakeLine = Callable[[], Line]


class Connection(Protocol):
    """An open WebSocket. `line.over` is done when nothing comes any more, for whatever reason."""

    line: Line

    def send(self, text: bytes) -> None:
        """Queues one text frame. Does nothing when the connection is over."""

    def ping(self) -> None:
        """Queues a PING; the PONG shows in `line.silence_s`."""

    async def close(self) -> None:
        """Sends CLOSE, waits at most CLOSE_S for the socket to end, then cuts it. Never raises for the far side."""


async def dial(
    transport: str,
    url: str,
    make_line: MakeLine,
    *,
    ssl_context: ssl.SSLContext | None = None,
    timeout_s: float = 10.0,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Connection:
    """Opens `url` within `timeout_s`, name resolution, TCP, TLS and upgrade included.

    Raises Refused (an answer that is not an upgrade), TimeoutError, OSError, ssl.SSLError. `make_line` is called
    once the upgrade has succeeded, before any frame, and not at all after an error.
    """
    opener = {"picows": _dial_picows, "websockets": _dial_websockets}[transport]
    if url.startswith("wss:") and ssl_context is None:
        ssl_context = ssl.create_default_context()
    async with asyncio.timeout(timeout_s):
        return await opener(url, make_line, ssl_context, timeout_s, max_message_bytes)


async def _dial_picows(
    url: str, make_line: MakeLine, ssl_context: ssl.SSLContext | None, timeout_s: float, max_message_bytes: int
) -> Connection:
    is_abandoned = False
    made: Line | None = None

    # picows wants exactly these parameters: it retries without any when the call raises TypeError.
    def listen(request: picows.WSUpgradeRequest, response: picows.WSUpgradeResponse) -> Line:
        nonlocal made
        if is_abandoned:
            raise Refused(Refusal("timeout", "the upgrade came too late"))
        if "sec-websocket-extensions" in response.headers:
            raise Refused(Refusal("handshake", "the venue forces an extension that was not offered"))
        made = make_line()
        return made

    try:
        # The outer timeout does not end picows' own attempt once TCP stands: its handshake timeout closes the socket.
        transport, line = await picows.ws_connect(
            listen,
            url,
            ssl_context=ssl_context,
            websocket_handshake_timeout=timeout_s,
            enable_auto_pong=False,
            max_frame_size=max_message_bytes,
            max_redirects=0,
            logger_name=QUIET,
        )
    except picows.WSHandshakeError as exc:
        if isinstance(exc, picows.WSInvalidStatusError) and exc.response is not None:
            headers = {name.lower(): value for name, value in exc.response.headers.items()}
            raise Refused(of_status(int(exc.response.status), headers, exc.raw_body or b"")) from exc
        raise Refused(Refusal("handshake", f"the answer is no WebSocket upgrade: {exc}")) from exc
    except asyncio.CancelledError:
        is_abandoned = True
        if made is not None:  # the upgrade and the cancelling came in one turn of the loop
            made.hang_up()
        raise
    if line is None:
        raise ConnectionResetError("closed before the upgrade was answered")
    return _PicowsConnection(transport, cast(Line, line))


class _PicowsConnection:
    def __init__(self, transport: picows.WSTransport, line: Line) -> None:
        self.line = line
        self._transport = transport

    def send(self, text: bytes) -> None:
        if not self._transport.is_disconnected:
            self._transport.send(picows.WSMsgType.TEXT, text)

    def ping(self) -> None:
        if not self._transport.is_disconnected:
            self._transport.send_ping()

    async def close(self) -> None:
        if not self._transport.is_disconnected:
            if not self._transport.is_close_frame_sent:
                self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect()
        self.line.end("stopped", "closed by us")
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._transport.wait_disconnected()
        except TimeoutError:
            self._transport.disconnect(graceful=False)
        except Exception as exc:  # picows' own protocol error, which the line has told already
            log.debug("closed with %r", exc)


async def _dial_websockets(
    url: str, make_line: MakeLine, ssl_context: ssl.SSLContext | None, timeout_s: float, max_message_bytes: int
) -> Connection:
    loop = asyncio.get_running_loop()
    uri = parse_uri(url)
    _, connection = await loop.create_connection(
        lambda: _WebsocketsConnection(ClientProtocol(uri, max_size=max_message_bytes, logger=QUIET), make_line),
        uri.host,
        uri.port,
        ssl=ssl_context if uri.secure else None,
    )
    try:
        await connection.opened
    except BaseException:
        connection.hang_up()
        raise
    return connection


class _WebsocketsConnection(asyncio.Protocol):
    """websockets' sans-I/O protocol on an asyncio transport: frames arrive in the read's own turn, without tasks."""

    line: Line

    def __init__(self, protocol: ClientProtocol, make_line: MakeLine) -> None:
        self._protocol = protocol
        self._make_line = make_line
        self._is_open = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            self.line.begin_read()
        self._protocol.receive_data(data)
        self._write()
        events = self._protocol.events_received()
        if not self._is_open:
            if not self._finish_upgrade():
                return
            self.line.begin_read()
        frames = [event for event in events if isinstance(event, Frame)]  # the upgrade's answer is an event too
        code = self.line.end_read(frames)
        if code:
            self._protocol.fail(code)
            self._write()
        close = self._protocol.close_rcvd
        if close is not None:
            self.line.end_by_close(close.code, close.reason)
        if self._protocol.parser_exc is not None:
            sent = self._protocol.close_sent
            said = f"{sent.code} {sent.reason}" if sent is not None else str(self._protocol.parser_exc)
            self.line.end("protocol", f"the venue broke the protocol: {said}")
        if self._protocol.close_expected():
            self._transport.close()

    def _finish_upgrade(self) -> bool:
        # True once the line exists. The caller of dial() may have gone meanwhile: then no line is made.
        if self.opened.done():
            return False
        exc = self._protocol.handshake_exc
        if exc is not None:
            self.opened.set_exception(_refused(exc))
            self._transport.close()
            return False
        if self._protocol.state is State.CONNECTING:
            return False
        try:
            self.line = self._make_line()
        except Exception as failure:
            self.opened.set_exception(failure)
            self._transport.close()
            return False
        self._is_open = True
        self.opened.set_result(None)
        return True

    def eof_received(self) -> None:
        self._protocol.receive_eof()  # an HTTP answer without a length ends here
        if not self._is_open:
            self._finish_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_open:
            self.line.end("reset", "the connection ended without a close handshake")
        elif not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("closed before the upgrade was answered"))
        if not self._closed.done():
            self._closed.set_result(None)

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self._transport.is_closing():
                self._transport.write(data)

    def send(self, text: bytes) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text)
            self._write()

    def ping(self) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._write()

    def hang_up(self) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._write()
        if self._is_open:
            self.line.end("stopped", "closed by us")
        self._transport.close()

    async def close(self) -> None:
        self.hang_up()
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.shield(self._closed)
        except TimeoutError:
            self._transport.abort()


def of_response(response: Response) -> Refusal:
    """What an answer that is no upgrade means."""
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    return of_status(response.status_code, headers, bytes(response.body or b""))


def _refused(exc: Exception) -> Refused:
    if isinstance(exc, InvalidStatus):
        return Refused(of_response(exc.response))
    said = exc.__cause__ if exc.__cause__ is not None and not isinstance(exc, InvalidHandshake) else exc
    return Refused(Refusal("handshake", f"the answer is no WebSocket upgrade: {said}"))
