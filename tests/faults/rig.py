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
from mdfeed.exchange.garbling import Meaning
from mdfeed.exchange.market import Market
from mdfeed.exchange.script import Fault, Script
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.exchange.weight import WEIGHT_MAX
from tests.faults.consumer import Consumer
from tests.faults.matrix import Case
from tests.faults.network import Trouble
from tests.faults.stir import Stirred
from tests.faults.trial import HEAL_S, faults_of
from tests.faults.world import busy
from tests.integration.daemon import Daemon, serving
from tests.proxy import Proxy, until
from tests.wire import certificate

LONGEST_S = 75.0  # a 403 keeps the daemon away for a minute
WEIGHT_A_SYMBOL = 4  # of a check, and of the snapshot that seats a book
URGENT_SHARE = 0.85  # of the venue's weight, that checks may use
SCARCE_SHARE = 0.84  # from here on they wait
MINUTE_GRACE_S = 1.5  # after which the daemon trusts that a new minute has begun
MEET_S = 20.0  # what is done to REST is met when something is asked there, which a machine that is busy may delay


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

    def called(self, text: str) -> None:
        """A WS-API request, which no fault sees as one."""
        asked = json.loads(text)
        if asked["method"] == "depth":
            self.snapshots[asked["params"]["symbol"]].append(time.monotonic())

    def forget(self) -> None:
        self.upgrades.clear()
        self.snapshots.clear()


@dataclass
class Rig:
    """What a test of the socket form has in its hands."""

    symbols: Sequence[str]
    exchange: SimulatedExchange
    script: Script
    attempts: Attempts
    proxies: dict[str, Proxy]  # "venue", "redis"
    consumer: Consumer
    daemon: Daemon
    faults: int = 0
    worst_heal_s: float = 0.0
    slowest: str = ""
    unmet: list[str] = field(default_factory=list)  # faults that met nothing, as REST ones while it is left alone

    async def unproved(self) -> list[str]:
        states = await self.consumer.read_states()
        return [symbol for symbol in self.symbols if states.get(symbol) != "PROVED"]

    async def settle(self, within_s: float = 30.0) -> None:
        """From a start to all books proved."""
        end_s = time.monotonic() + within_s
        while unproved := await self.unproved():
            assert time.monotonic() < end_s, f"never proved: {unproved}; log: {self.daemon.log[-10:]}"
            await asyncio.sleep(0.1)

    async def afford(self) -> None:
        """Wait until the venue's minute has weight for a check and a resync of every symbol: its limit is no fault."""
        while self.weight_used() + WEIGHT_A_SYMBOL * len(self.symbols) > URGENT_SHARE * WEIGHT_MAX:
            await asyncio.sleep(0.5)

    def weight_used(self) -> int:
        return self.exchange.scales.used("127.0.0.1", time.time_ns() // 10**6)

    async def _spent(self) -> list[str]:
        """What the daemon takes the venue's weight for: a wait that only the daemon sees is its fault."""
        lines = str((await self.daemon.get("/metrics"))[1]).splitlines()
        return [line for line in lines if line.startswith("mdfeed_rest_weight")]

    async def suffer(self, one: Case | Trouble, symbol: str, shows_s: float | None = None) -> None:
        """One fault, and its healing within 5 s of the first attempt after its end. `shows_s`: how long it may show."""
        await self.afford()
        if isinstance(one, Trouble):
            await one.happen(self.proxies[one.side])
            await self._heal(one.name, 1.0 if shows_s is None else shows_s)
            return
        faults = faults_of(one, symbol)
        self.consumer.comparer.is_bbo_foreign = any(isinstance(fault, Meaning) for fault in faults)
        for fault in faults:
            self.script.add(fault)
        await asyncio.sleep(one.lasts_s)
        if one.costs != "nothing":
            with suppress(TimeoutError):
                await until(lambda: faults[0].count > 0, MEET_S)
        for fault in faults:
            fault.stop()
        await self._heal(one.name, one.shows_s if shows_s is None else shows_s, one.symbol_lost.format(SYM=symbol))
        for fault in faults:
            self.script.remove(fault)
        self.consumer.comparer.is_bbo_foreign = False
        if not faults[0].count and one.costs != "nothing":
            self.unmet.append(one.name)

    async def _heal(self, name: str, shows_s: float, lost: str = "") -> None:
        """What has ended just now shows for a while, and then all books are proved again."""
        ended_s = time.monotonic()
        permitted_s, is_scarce, heaviest = ended_s, False, 0
        healed: dict[str, float] = {}
        while True:
            await asyncio.sleep(0.05)
            asked_s = time.monotonic()
            # What waits for the venue's next minute is not permitted before it has begun.
            heaviest = max(heaviest, self.weight_used())
            was_scarce, is_scarce = is_scarce, self.weight_used() > SCARCE_SHARE * WEIGHT_MAX
            if was_scarce and not is_scarce:
                permitted_s = asked_s + MINUTE_GRACE_S
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
            first_s = max(permitted_s, reconnected[0] if reconnected else 0.0)
            first_s = next((at_s for at_s in self.attempts.snapshots[symbol] if at_s >= first_s), first_s)
            took_s = healed_s - first_s
            if took_s > self.worst_heal_s:
                self.worst_heal_s, self.slowest = took_s, name
            assert took_s <= HEAL_S, (
                f"{name}: {symbol} took {took_s:.2f} s; asked for at {self._asked_for(symbol, ended_s)}; "
                f"weight {heaviest} at most by the venue; {await self._spent()}; {self.daemon.log[-30:]}"
            )
        await self.consumer.judge_keys()
        assert not self.consumer.comparer.wrong, (
            name,
            len(self.consumer.comparer.wrong),
            self.consumer.comparer.wrong[:3],
        )
        self.attempts.forget()

    def _asked_for(self, symbol: str, ended_s: float) -> list[float]:
        """Seconds after the fault's end."""
        return [round(at_s - ended_s, 2) for at_s in self.attempts.snapshots[symbol]]

    def __str__(self) -> str:
        return (
            f"{self.faults} faults; {self.consumer}; longest from first attempt to proof {self.worst_heal_s:.2f} s "
            f"({self.slowest})" + (f"; {len(self.unmet)} met nothing: {', '.join(self.unmet)}" if self.unmet else "")
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
async def rigged(
    folder: Path,
    transport: str,
    symbols: Sequence[str],
    *,
    seed: int,
    rate: float,
    lines: int = 1,
    is_tls: bool = False,
    late_s: float = 0.0,
    **environment: str,
) -> AsyncIterator[Rig]:
    """Everything started and all books proved; nothing of it stays.

    The venue speaks TLS with `is_tls`, and comes up `late_s` after the daemon; `environment` is the daemon's.
    """
    attempts = Attempts()
    script = Stirred([attempts])
    market = Market(
        symbols, seed=seed, rate=rate, start_ns=time.time_ns(), levels=150, profiles=[busy(name) for name in symbols]
    )
    context, more = None, {}
    if is_tls:
        context, trusted = certificate(folder, "IP:127.0.0.1")
        environment["SSL_CERT_FILE"] = str(trusted)
    async with (
        SimulatedExchange(symbols, source=market, seam=script, ssl=context) as exchange,
        EmbeddedRedis(port=0, unix=False) as server,
        Proxy("127.0.0.1", exchange.port) as venue,
        Proxy("127.0.0.1", server.port or 0) as sink,
    ):
        exchange.on_call = attempts.called
        if is_tls:
            more["exchange_ws_url"] = f"wss://127.0.0.1:{venue.port}/stream"
            more["exchange_rest_url"] = f"https://127.0.0.1:{venue.port}"
        config = write_config(
            folder, venue.port, sink.port, symbols, transport=transport, lines={"redundancy": lines}, **more
        )
        consumer = Consumer(server.url, market, symbols)
        consuming = asyncio.create_task(consumer.run())
        try:
            if late_s:
                venue.refuse()
            async with serving("-c", str(config), **environment) as daemon:
                rig = Rig(symbols, exchange, script, attempts, {"venue": venue, "redis": sink}, consumer, daemon)
                if late_s:
                    await daemon.until("/health", lambda status, body: status == 200)
                    await asyncio.sleep(late_s)
                    assert daemon.process.returncode is None, daemon.log[-10:]
                    await venue.listen()
                await rig.settle()
                yield rig
                code = await daemon.end()
                assert code == 0, (code, daemon.log[-10:])
                assert consumer.comparer.wrong == []
        finally:
            consuming.cancel()
            with suppress(asyncio.CancelledError):
                await consuming
