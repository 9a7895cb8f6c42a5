"""The sink that keeps publications for whoever iterates over it, in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from mdfeed._encode import OUTPUTS, Collector
from mdfeed.sinks import Sink

SCHEMES = ("memory",)


class MemorySink(Sink):
    """Iterate over it, `async for kind, symbol, payload in sink`: what was flushed, in order.

    Unread publications are bounded by `maxlen`: the oldest go first, counted as dropped["full"].
    """

    name = "memory"
    outbox: Collector

    def __init__(
        self,
        url: str = "memory:",
        instruments: object = None,
        *,
        epoch: int = 0,
        outputs: Iterable[str] = OUTPUTS,
        maxlen: int = 100_000,
    ) -> None:
        self.outbox = Collector(epoch=epoch, outputs=outputs, maxlen=maxlen)
        self._unread: deque[tuple[str, str, bytes]] = deque()
        self._dropped = 0
        self._arrived = asyncio.Event()
        self._is_closed = False

    async def run(self) -> None:
        self.say_ready()
        await asyncio.Event().wait()

    def flush(self) -> None:
        self._unread.extend(self.outbox.take())
        while len(self._unread) > self.outbox.maxlen:
            self._unread.popleft()
            self._dropped += 1
        if self._unread:
            self._arrived.set()

    async def close(self, timeout_s: float) -> None:
        """As the base; the iteration ends when everything has been read."""
        self.flush()
        self._is_closed = True
        self._arrived.set()

    def counters(self) -> dict[str, Any]:
        counters = super().counters()
        counters["dropped"] = {**self.outbox.dropped, "full": self.outbox.dropped["full"] + self._dropped}
        counters["buffer_bytes"] = sum(len(payload) for _, _, payload in self._unread)
        return counters

    def take(self) -> list[tuple[str, str, bytes]]:
        """Everything unread, without waiting; flushed first."""
        self.flush()
        items = list(self._unread)
        self._unread.clear()
        return items

    def __aiter__(self) -> MemorySink:
        return self

    async def __anext__(self) -> tuple[str, str, bytes]:
        while not self._unread:
            if self._is_closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._unread.popleft()


SINK = MemorySink
