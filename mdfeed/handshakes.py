"""A listening socket for TLS whose half-open handshakes are bounded, in time and in number.

Answers for: accepting, and for the longest waiting client making room for the newest. Refuses to know: HTTP.
`create_server(ssl=...)` shows a connection only once its handshake is over, so that strangers could hold any number of
descriptors half-open; here each handshake is a task that can be counted and ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial

HANDSHAKE_S = 5.0
SHUTDOWN_S = 1.0
BACKLOG = 100
# Accepting fails when the process has no descriptors left: they come back, and until then there is nothing to do.
OUT_OF_DESCRIPTORS_S = 1.0


class TlsServer:
    """Serves one `connection()` for each client that gets through its handshake; `limit` may be at it at once.

    Whoever is at it in earnest is through within a few round trips, so it is the oldest that has to go. Has of
    asyncio.Server what its users need: `sockets`, `close()`, `wait_closed()`.
    """

    def __init__(self, context: ssl.SSLContext, connection: Callable[[], asyncio.Protocol], limit: int) -> None:
        self.sockets: list[socket.socket] = []
        self.under_way: dict[asyncio.Task[None], None] = {}  # in the order of their coming
        self._context = context
        self._connection = connection
        self._limit = limit
        self._accepting: list[asyncio.Task[None]] = []

    async def listen(self, host: str, port: int) -> TlsServer:
        """Bind every address of `host` and accept from now on. OSError (socket.gaierror included) when it cannot."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
                bound = socket.create_server(address, family=family, backlog=BACKLOG)
                bound.setblocking(False)
                self.sockets.append(bound)
        except OSError:
            self.close()
            raise
        self._accepting = [loop.create_task(self._accept(bound), name="tls accept") for bound in self.sockets]
        return self

    def close(self) -> None:
        """Accept no more, and end what has not become a connection."""
        for task in (*self._accepting, *self.under_way):
            task.cancel()
        for bound in self.sockets:
            bound.close()
        self.sockets = []

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._accepting, *self.under_way, return_exceptions=True)

    async def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(bound)
            except OSError:
                await asyncio.sleep(OUT_OF_DESCRIPTORS_S)
                continue
            if len(self.under_way) >= self._limit:
                oldest = next(iter(self.under_way))
                del self.under_way[oldest]
                oldest.cancel()
            task = loop.create_task(self._shake_hands(client), name="tls handshake")
            self.under_way[task] = None
            task.add_done_callback(partial(self._end, client))
            await asyncio.sleep(0)  # a full backlog is accepted without waiting: the feed has its turns in between

    async def _shake_hands(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # refused, gone, or not in time: nobody's business but the client's
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection,
                client,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )

    def _end(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self.under_way.pop(task, None)
        if task.cancelled():
            client.close()  # no transport did it where the task had not begun; where one did, this is nothing
