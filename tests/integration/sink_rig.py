"""What the tests of the Redis sink share: servers, a running sink, a patient look."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mdfeed._encode import Market
from mdfeed.embedded import find_servers
from mdfeed.sinks.redis import RedisSink

BTC = Market("BTCUSDT", 0, 2, 3)
SERVERS = find_servers()
each_server = pytest.mark.parametrize("path", [pytest.param(path, id=label) for label, path in SERVERS])
needs_server = pytest.mark.skipif(not SERVERS, reason="no Redis-compatible server on this machine")


class Source:
    """Stands for the heart: one book whose seq rises by one a publication."""

    def __init__(self, sink: RedisSink, levels: int = 2) -> None:
        self.sink = sink
        self.seq = 0
        self.refreshes = 0
        self._bids = [(6180020 - i, 2507) for i in range(levels)]
        self._asks = [(6180030 + i, 5) for i in range(levels)]
        sink.on_ready = self.refresh

    def refresh(self) -> None:
        self.refreshes += 1
        self.publish()

    def publish(self) -> None:
        self.seq += 1
        self.sink.outbox.put_book(
            BTC, self._bids, self._asks, seq=self.seq, last_id=self.seq, recv_ns=time.time_ns(), last_price=6180020
        )
        self.sink.flush()


@asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[RedisSink]:
    """A sink that runs, and is closed at the end; anything that its task raises is raised here."""
    sink = RedisSink(url, None, epoch=7, **options)
    task = asyncio.create_task(sink.run())
    try:
        yield sink
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await sink.close(1)


async def until(is_so: Callable[[], object], within_s: float = 10.0) -> float:
    """Waits until it is so; returns the seconds that took. Fails after `within_s`."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < within_s, "did not become so in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - started


def seq_of(payload: bytes | None) -> int:
    return int(json.loads(payload)["seq"]) if payload else 0
