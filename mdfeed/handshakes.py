"""Clients on their way through TLS: bounded in time, and in number as well.

Answers for: who came last stays, so that handshakes that never end cannot use up the descriptors that the feed needs.
(asyncio's own TLS server has no place to count them: a client's protocol is made after its handshake.) Refuses to
know: what is said afterwards, certificates.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import cast

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
MAX_HANDSHAKES = 128  # at once; the oldest makes room


class Handshakes:
    """Gives `factory`'s protocols to clients that have made it through. `room` is how many more there may be."""

    def __init__(
        self, context: ssl.SSLContext, factory: Callable[[], asyncio.Protocol], room: Callable[[], int]
    ) -> None:
        self.pending: dict[asyncio.Task[None], None] = {}
        self._context = context
        self._factory = factory
        self._room = room

    def begin(self, sock: socket.socket) -> None:
        """Take over an accepted socket."""
        task = asyncio.get_running_loop().create_task(self._shake(sock), name="tls handshake")
        self.pending[task] = None
        task.add_done_callback(lambda task: self.pending.pop(task, None))
        while len(self.pending) > max(1, min(MAX_HANDSHAKES, self._room())):
            oldest = next(iter(self.pending))
            del self.pending[oldest]
            oldest.cancel()

    async def stop(self) -> None:
        tasks = list(self.pending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _shake(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=1.0,
            )
        except Exception as error:  # whatever the other side did: it is not let in
            log.debug("no TLS: %r", error)


class Arrival(asyncio.Protocol):
    """A client that has just come: its socket goes to the handshakes before a byte of it is read."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes

    def connection_made(self, arrived: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, arrived)
        transport.pause_reading()
        # A second descriptor of the same connection: closing the first ends nothing.
        sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        transport.abort()
        self._handshakes.begin(sock)
