"""A WebSocket server for tests that sends exactly the bytes it is told to, segment by segment.

It knows RFC 6455 framing and the upgrade, and nothing of an exchange: what a peer does is the test's script.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(payload: bytes | str, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0) -> bytes:
    """One server frame (unmasked)."""
    data = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if len(data) < 126:
        return bytes((first, len(data))) + data
    if len(data) < 65536:
        return struct.pack("!BBH", first, 126, len(data)) + data
    return struct.pack("!BBQ", first, 127, len(data)) + data


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(struct.pack("!H", code) + reason.encode(), CLOSE)


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head
        self.path = head.split(b" ", 2)[1].decode()

    async def upgrade(self, *, behind: bytes = b"", extra: bytes = b"") -> None:
        """Answers the upgrade; `behind` goes out in the same segment."""
        fields = {
            line.split(b":", 1)[0].lower(): line.split(b":", 1)[1].strip() for line in self.head.split(b"\r\n")[1:-2]
        }
        accept = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + GUID).digest())
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        await self.send(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n" + extra + b"\r\n" + behind)

    async def send(self, data: bytes) -> None:
        """One write, flushed; with TCP_NODELAY a segment of its own as far as it fits."""
        self.writer.write(data)
        await self.writer.drain()

    async def dribble(self, data: bytes) -> None:
        """A byte at a time, each in a turn of its own."""
        for i in range(len(data)):
            await self.send(data[i : i + 1])
            await asyncio.sleep(0)

    async def receive(self) -> tuple[int, bytes]:
        """The client's next frame, unmasked: (opcode, payload)."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        assert second & 0x80, "a client's frames are masked"
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(size)
        return first & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(data))

    async def receive_close(self) -> int:
        """Reads on until CLOSE and returns its code."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")

    def reset(self) -> None:
        """Ends with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def wait_gone(self) -> None:
        """Until the client has closed its side."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class WireServer:
    """Runs `scripts` one a connection, in order; the last one serves all further connections."""

    def __init__(self, *scripts: Callable[[Peer], Awaitable[None]]) -> None:
        self._scripts = scripts
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.failures: list[BaseException] = []
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await script(Peer(reader, writer, head))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went first; the test judges that from its side
        except asyncio.CancelledError:
            pass
        except BaseException as exc:
            self.failures.append(exc)
        finally:
            self._tasks.discard(task)
            writer.close()

    @asynccontextmanager
    async def running(self, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[WireServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=ssl_context)
        port = server.sockets[0].getsockname()[1]
        self.url = f"{'wss' if ssl_context else 'ws'}://127.0.0.1:{port}/stream?streams=a@x/b@x"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.failures:
            raise self.failures[0]


def certificate(folder: Path, host_names: str) -> tuple[ssl.SSLContext, Path]:
    """(server context, its self-signed certificate) for names such as "IP:127.0.0.1"; skips without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    key, cert = folder / "key.pem", folder / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    out = ["-addext", f"subjectAltName={host_names}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*request, *out], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context, cert


def reply(status: str = "200 OK", body: bytes = b"{}", *, size: int | None = None, **headers: object) -> bytes:
    """An HTTP answer; `size` lies about the body's."""
    fields = {"Content-Length": len(body) if size is None else size}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class HttpServer:
    """Answers each GET with the bytes that `answer(path)` gives, now or later; b"" hangs up."""

    def __init__(self, answer: Callable[[str], bytes | Awaitable[bytes]]) -> None:
        self.answer = answer
        self.paths: list[str] = []
        self.connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.paths.append(head.split(b" ", 2)[1].decode())
                data = self.answer(self.paths[-1])
                data = data if isinstance(data, bytes) else await data
                writer.write(data)
                await writer.drain()
                # A lie about the size, or hanging up, ends the connection.
                if not data or b"\r\nConnection: close" in data or "size" in self.paths[-1]:
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    @asynccontextmanager
    async def running(self, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[HttpServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=ssl_context)
        self.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
