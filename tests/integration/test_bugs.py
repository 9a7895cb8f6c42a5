"""A bug in any one task of the daemon: the others go on, it is begun anew, and all books are proved again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from mdfeed import lasting, snapshots
from mdfeed.backfill import Backfill
from mdfeed.clock import ClockWatch
from mdfeed.config import load_config
from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.figures import Figures
from mdfeed.forensics import Forensics
from mdfeed.lasting import faults
from mdfeed.lines import Lines
from mdfeed.roster import Roster
from mdfeed.service import Service
from mdfeed.sinks.redis import RedisSink
from mdfeed.stream import Stream
from tests.proxy import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")
# Where each task's bug is: a method that it calls again and again.
BUGS = {
    "snapshots": (snapshots.Snapshots, "_start_wanted"),
    "24 h figures": (Figures, "_next"),
    "missed trades": (Backfill, "_due"),
    "forensics": (Forensics, "write_all"),
    "symbols": (Roster, "run"),
    "clocks": (ClockWatch, "look"),
    "watch over lines": (Lines, "_heed_alarms"),
    "line": (Stream, "_until_due"),
    "sink": (RedisSink, "_watch"),
    "tick": (Service, "_log_events"),
    "watchdog": (Service, "ready"),
}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.mark.parametrize("name", BUGS)
async def test_a_bug_in_one_task_ends_no_daemon(name, redis_url, tmp_path, monkeypatch, caplog):
    kind, method = BUGS[name]
    honest, bugs = getattr(kind, method), 1

    def buggy(self, *arguments):
        nonlocal bugs
        if bugs:
            bugs -= 1
            raise RuntimeError("for the test")
        return honest(self, *arguments)

    faults.clear()
    monkeypatch.setattr(lasting, "FIRST_PAUSE_S", 0.05)
    async with SimulatedExchange(SYMBOLS, seed=31, rate=80) as exchange:
        options = {
            "symbols": list(SYMBOLS),
            "exchange_ws_url": f"{exchange.ws_url}/stream",
            "exchange_rest_url": exchange.rest_url,
            "redis_url": redis_url,
            "health_port": 0,
            "http.host": "127.0.0.1",
            "state_dir": str(tmp_path),
            "reconnect_delay_ms": 50,
        }
        service = Service(load_config(None, options))
        monkeypatch.setattr(kind, method, buggy)
        serving = asyncio.create_task(service.run())
        try:
            await until(lambda: serving.done() or sum(faults.values()) > 0, 30)
            await until(lambda: serving.done() or service.ready()[0] == 200, 30)
            before = {symbol: track.applied for symbol, track in service.feed.tracks.items()}
            await until(
                lambda: (
                    serving.done()
                    or all(track.applied > before[track.symbol] for track in service.feed.tracks.values())
                )
            )
            assert not serving.done()
            assert [task.startswith(name) for task in faults] == [True]
            assert "a fault of ours; begun anew" in caplog.text
        finally:
            service.stop()
            with contextlib.suppress(RuntimeError):
                await serving
