"""A TCP proxy that does to a connection what networks do: refuse, cut, stall, throttle, dribble, break TLS.

It stands between the daemon and Redis or the venue and knows neither: bytes come in and go out, or not.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

CHUNK_BYTES = 64 << 10
# alert, TLS 1.2, two bytes: fatal, handshake_failure (RFC 5246, 7.2)
TLS_ALERT = bytes((0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28))


class Proxy:
    """`async with Proxy("127.0.0.1", 6379) as proxy: proxy.port`. Given a `path`, it leads to a unix socket.

    What is set holds for what passes from then on, old connections included: `is_stalled` (nothing passes, nothing is
    read), `bytes_per_s` (0: no limit), `piece` (bytes a write, 0: as they come), `breaks_tls` (each ClientHello is
    answered with an alert). `connections` counts all there ever were.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, path: str | None = None) -> None:
        self.connections = 0
        self.bytes_passed = 0
        self.bytes_per_s = 0.0
        self.piece = 0
        self.breaks_tls = False
        self.port = 0
        self._target = (host, port, path)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def is_stalled(self) -> bool:
        return not self._flowing.is_set()

    @is_stalled.setter
    def is_stalled(self, is_stalled: bool) -> None:
        (self._flowing.clear if is_stalled else self._flowing.set)()

    async def listen(self) -> None:
        """Accept connections (again), on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Close the listening socket: connection refused. Open connections stay."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def cut(self) -> int:
        """Reset every open connection; how many there were."""
        for writer in self._open.values():
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                # No lingering: close() sends RST.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(self._open)

    async def __aenter__(self) -> Proxy:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.is_stalled = False
        self.cut()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._open[task] = writer
        far: asyncio.StreamWriter | None = None
        try:
            if self.breaks_tls:
                await reader.read(CHUNK_BYTES)
                writer.write(TLS_ALERT)
                await writer.drain()
                return
            host, port, path = self._target
            with suppress(OSError):
                far_reader, far = await (
                    asyncio.open_unix_connection(path) if path else asyncio.open_connection(host, port)
                )
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, far))
                    group.create_task(self._pump(far_reader, writer))
        except* (OSError, EOFError, asyncio.CancelledError):
            pass  # the stream protocol reports a cancelled callback as an error
        finally:
            del self._open[task]
            for end in (writer, far):
                if end is not None:
                    end.transport.abort() if end.transport.is_closing() else end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._flowing.wait()
            limit = max(1, int(self.bytes_per_s / 50)) if self.bytes_per_s else CHUNK_BYTES
            data = await reader.read(limit)
            await self._flowing.wait()
            if not data:
                raise EOFError  # one side has ended: the other goes too
            step = self.piece or len(data)
            for at in range(0, len(data), step):
                if writer.is_closing():
                    raise EOFError
                writer.write(data[at : at + step])
                if self.piece:
                    await asyncio.sleep(0)
            await writer.drain()
            self.bytes_passed += len(data)
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)


async def until(is_so: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for a state; TimeoutError when it never comes."""
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.005)
