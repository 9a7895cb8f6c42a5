"""The socket form: a real daemon between a simulated exchange and a real Redis, both behind proxies, and a consumer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.faults import Answer, Asked
from mdfeed.exchange.market import Market
from mdfeed.exchange.script import Fault, Script
from mdfeed.exchange.server import SimulatedExchange
from tests.faults.consumer import Consumer
from tests.faults.matrix import Case
from tests.faults.trial import HEAL_S, faults_of
from tests.faults.world import busy
from tests.integration.daemon import Daemon, serving
from tests.proxy import Proxy

LONGEST_S = 75.0  # a 403 keeps the daemon away for a minute


class Attempts(Fault):
    """Writes down what the daemon asks for, before any other fault answers it."""

    def __init__(self) -> None:
        super().__init__()
        self.upgrades: list[float] = []
        self.snapshots: dict[str, list[float]] = defaultdict(list)

    def asked(self, asked: Asked) -> Answer | None:
        now_s = time.monotonic()
        if asked.is_upgrade:
            self.upgrades.append(now_s)
        elif "/depth?" in asked.path:
            self.snapshots[asked.path.partition("symbol=")[2].partition("&")[0]].append(now_s)
        return None


@dataclass
class Rig:
    """What a test of the socket form has in its hands."""

    symbols: Sequence[str]
    exchange: SimulatedExchange
    script: Script
    attempts: Attempts
    redis: EmbeddedRedis
    venue_proxy: Proxy
    redis_proxy: Proxy
    config: Path
    consumer: Consumer
    daemon: Daemon
    faults: int = 0
    worst_heal_s: float = 0.0
    slowest: str = ""
    heals: dict[str, float] = field(default_factory=dict)

    async def unproved(self) -> list[str]:
        states = await self.consumer.read_keys(self.symbols)
        return [symbol for symbol in self.symbols if states.get(symbol) != "PROVED"]

    async def settle(self, within_s: float = 30.0) -> None:
        """From a start to all books proved."""
        end_s = time.monotonic() + within_s
        while unproved := await self.unproved():
            assert time.monotonic() < end_s, f"never proved: {unproved}; log: {self.daemon.log[-10:]}"
            await asyncio.sleep(0.1)

    async def inflict(self, case: Case, symbol: str, shows_s: float) -> None:
        """One fault of the venue, and its healing within 5 s of the first attempt after its end."""
        faults = faults_of(case, symbol)
        for fault in faults:
            self.script.add(fault)
        await asyncio.sleep(case.lasts_s)
        for fault in faults:
            fault.stop()
        await self.heal(case.name, shows_s, case.symbol_lost.format(SYM=symbol))
        for fault in faults:
            self.script.remove(fault)
        assert faults[0].count or case.costs == "nothing", f"{case.name}: nothing happened"

    async def heal(self, name: str, shows_s: float, lost: str = "") -> None:
        """What has ended just now shows for a while, and then all books are proved again."""
        ended_s = time.monotonic()
        healed: dict[str, float] = {}
        while True:
            await asyncio.sleep(0.05)
            asked_s = time.monotonic()
            unproved = set(await self.unproved()) - {lost}
            for symbol in self.symbols:
                if symbol in unproved:
                    healed.pop(symbol, None)
                else:
                    healed.setdefault(symbol, asked_s)
            if not unproved and asked_s - ended_s >= shows_s:
                break
            assert asked_s - ended_s < LONGEST_S, f"{name}: still {sorted(unproved)[:5]}; {self.daemon.log[-5:]}"
        self.faults += 1
        reconnected = [at_s for at_s in self.attempts.upgrades if at_s >= ended_s]
        for symbol, healed_s in healed.items():
            first_s = max(ended_s, reconnected[0] if reconnected else 0.0)
            first_s = next((at_s for at_s in self.attempts.snapshots[symbol] if at_s >= first_s), first_s)
            took_s = healed_s - first_s
            if took_s > self.worst_heal_s:
                self.worst_heal_s, self.slowest = took_s, name
            assert took_s <= HEAL_S, f"{name}: {symbol} took {took_s:.2f} s; {self.daemon.log[-10:]}"
        assert self.consumer.wrong == [], name

    def __str__(self) -> str:
        return (
            f"{self.faults} faults; {self.consumer}, {self.consumer.trades_missing()} lost to faults; longest from "
            f"first attempt to proof {self.worst_heal_s:.2f} s ({self.slowest})"
        )


def write_config(folder: Path, venue_port: int, redis_port: int, symbols: Sequence[str], **more: object) -> Path:
    keys = {
        "symbols": list(symbols),
        "exchange_ws_url": f"ws://127.0.0.1:{venue_port}/stream",
        "exchange_rest_url": f"http://127.0.0.1:{venue_port}",
        "redis_url": f"redis://127.0.0.1:{redis_port}",
        "reconnect_delay_ms": 100,
        "max_reconnect_delay_ms": 400,
        "book": {"snapshot_limit": 100},
        **more,
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(keys))
    return path


@asynccontextmanager
async def rigged(folder: Path, transport: str, symbols: Sequence[str], *, seed: int, rate: float) -> AsyncIterator[Rig]:
    """Everything started and all books proved; nothing of it stays."""
    attempts = Attempts()
    script = Script([attempts])
    market = Market(
        symbols, seed=seed, rate=rate, start_ns=time.time_ns(), levels=150, profiles=[busy(name) for name in symbols]
    )
    async with (
        SimulatedExchange(symbols, source=market, seam=script) as exchange,
        EmbeddedRedis(port=0, unix=False) as server,
        Proxy("127.0.0.1", exchange.port) as venue_proxy,
        Proxy("127.0.0.1", server.port or 0) as redis_proxy,
    ):
        config = write_config(folder, venue_proxy.port, redis_proxy.port, symbols, transport=transport)
        consumer = Consumer(server.url, market)
        consuming = asyncio.create_task(consumer.run())
        try:
            async with serving("-c", str(config)) as daemon:
                rig = Rig(
                    symbols, exchange, script, attempts, server, venue_proxy, redis_proxy, config, consumer, daemon
                )
                await rig.settle()
                yield rig
                assert await daemon.end() == 0, daemon.log[-10:]
        finally:
            consuming.cancel()
            with suppress(asyncio.CancelledError):
                await consuming
