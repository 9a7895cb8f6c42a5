"""kill -9 of Redis and of the daemon at random moments: `python -m tests.faults.chaos --times 100`.

After each: nothing wrong was published, every key is fresh within a second of recovery, and no process and no socket
is left. Recovery is the moment from which a fresh key is possible: Redis answers again; for a killed daemon, the new
one's books are LIVE.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio as redis

from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.market import Market
from mdfeed.exchange.profiles import symbol_names
from mdfeed.exchange.server import SimulatedExchange
from tests.faults.consumer import Consumer
from tests.faults.rig import Attempts, write_config
from tests.faults.stir import Stirred
from tests.faults.world import busy
from tests.integration.daemon import Daemon, serving

FRESH_S = 1.0


@dataclass
class Figures:
    """Sums, for people."""

    redis_kills: int = 0
    daemon_kills: int = 0
    worst_redis_s: float = 0.0
    worst_daemon_s: float = 0.0
    consumer: Consumer | None = None
    transport: str = ""

    def __str__(self) -> str:
        return (
            f"{self.transport}: Redis killed {self.redis_kills} times, all keys fresh at most {self.worst_redis_s:.2f} "
            f"s after it answered; daemon killed {self.daemon_kills} times, all keys fresh at most "
            f"{self.worst_daemon_s:.2f} s after its books were live; {self.consumer}"
        )


async def fresh_keys(client: redis.Redis, symbols: Sequence[str], since_id: dict[str, int]) -> bool:
    """Every symbol's data and state are there, the state is good, and is of an update later than `since_id`."""
    data = await client.mget([f"market_data:{symbol}" for symbol in symbols])
    states = await client.mget([f"mdfeed:state:{symbol}" for symbol in symbols])
    if not all(data) or not all(states):
        return False
    said = {symbol: json.loads(text) for symbol, text in zip(symbols, states, strict=True)}
    books = await client.mget([f"mdfeed:book:{symbol}" for symbol in symbols])
    return all(
        said[symbol]["state"] in ("LIVE", "PROVED") and book and json.loads(book)["last_update_id"] > since_id[symbol]
        for symbol, book in zip(symbols, books, strict=True)
    )


async def until_fresh(url: str, symbols: Sequence[str], since_id: dict[str, int], within_s: float) -> float:
    """Seconds until all keys are fresh."""
    start_s = time.monotonic()
    async with redis.Redis.from_url(url) as client:
        while not await fresh_keys(client, symbols, since_id):
            assert time.monotonic() - start_s < within_s, f"no fresh keys after {within_s} s"
            await asyncio.sleep(0.02)
    return time.monotonic() - start_s


def newest_ids(market: Market, symbols: Sequence[str]) -> dict[str, int]:
    """What the books stand at now: whatever is later was published since."""
    return {symbol: market.truth(symbol).last_id for symbol in symbols}


async def kill_redis(
    server: EmbeddedRedis, daemon: Daemon, market: Market, symbols: Sequence[str], away_s: float, slack_s: float
) -> float:
    """kill -9, gone for a while, back: seconds from its first answer until every key is fresh."""
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(server.start)
    took_s = await until_fresh(server.url, symbols, dict.fromkeys(symbols, 0), FRESH_S + slack_s)
    assert daemon.process.returncode is None, daemon.log[-10:]
    if took_s > FRESH_S:
        print(f"keys were fresh after {took_s:.2f} s only: {daemon.log[-8:]}", flush=True)
    return took_s


def sockets_of(pid: int) -> int:
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(link).startswith("socket:")
    return found


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def run(
    folder: Path,
    kills: int,
    seed: int,
    *,
    count: int = 6,
    transport: str = "picows",
    lines: int = 1,
    slack_s: float = 0.0,
    is_told: bool = False,
) -> Figures:
    """`kills` of each. `slack_s` is what a loaded machine may add to the second."""
    draw = random.Random(seed)
    symbols = symbol_names(count)
    figures = Figures(transport=transport)
    attempts = Attempts()
    market = Market(symbols, seed=seed, rate=40.0, start_ns=time.time_ns(), levels=150, profiles=map(busy, symbols))
    async with (
        SimulatedExchange(symbols, source=market, seam=Stirred([attempts])) as exchange,
        EmbeddedRedis(port=0, unix=False) as server,
    ):
        config = write_config(
            folder, exchange.port, server.port or 0, symbols, transport=transport, lines={"redundancy": lines}
        )
        files = set(folder.iterdir())
        consumer = figures.consumer = Consumer(server.url, market, symbols)
        consuming = asyncio.create_task(consumer.run())
        before = set(children_of(os.getpid()))
        try:
            while figures.redis_kills < kills or figures.daemon_kills < kills:
                async with serving("-c", str(config)) as daemon:
                    await daemon.until_ready(60.0)
                    # Fresh within a second of the books being live, whatever the last daemon has left in Redis.
                    took_s = await until_fresh(server.url, symbols, newest_ids(market, symbols), FRESH_S + slack_s)
                    figures.worst_daemon_s = max(figures.worst_daemon_s, took_s)
                    sockets = sockets_of(daemon.process.pid)
                    for _ in range(draw.randrange(1, 4)):
                        if figures.redis_kills < kills:
                            await asyncio.sleep(draw.random() * 0.5)
                            away_s = draw.random() * 1.5
                            took_s = await kill_redis(server, daemon, market, symbols, away_s, slack_s)
                            figures.worst_redis_s = max(figures.worst_redis_s, took_s)
                            figures.redis_kills += 1
                    assert sockets_of(daemon.process.pid) <= sockets + 2, "sockets leak"
                    await asyncio.sleep(draw.random() * 0.5)
                    assert consumer.comparer.wrong == []
                    if figures.daemon_kills < kills:
                        daemon.process.send_signal(signal.SIGKILL)
                        await daemon.process.wait()
                        figures.daemon_kills += 1
                    else:
                        assert await daemon.end() == 0
                links = [link for link in exchange.links if link in attempts.wires]
                async with asyncio.timeout(5):
                    while exchange.links & set(links):
                        await asyncio.sleep(0.02)
                assert set(children_of(os.getpid())) - before <= {server_guard(server)}, "a process is left"
                assert set(folder.iterdir()) == files, "a file is left"
                if is_told and figures.daemon_kills % 10 == 0:
                    print(figures, flush=True)
        finally:
            consuming.cancel()
            with suppress(asyncio.CancelledError):
                await consuming
    assert consumer.comparer.wrong == []
    return figures


def server_guard(server: EmbeddedRedis) -> int:
    """The process that stands between this one and the server."""
    stat = Path(f"/proc/{server.pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=int, default=100, help="kills of each, over all transports")
    options.add_argument("--transport", choices=("picows", "websockets", "both"), default="both")
    options.add_argument("--lines", type=int, choices=(1, 2), default=1, help="redundant lines")
    options.add_argument("--slack", type=float, default=0.0, help="seconds that a loaded machine may add to the one")
    options.add_argument("--symbols", type=int, default=6)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    transports = ("picows", "websockets") if given.transport == "both" else (given.transport,)
    found = []
    for transport in transports:
        with tempfile.TemporaryDirectory() as folder:
            figures = asyncio.run(
                run(
                    Path(folder),
                    given.times // len(transports),
                    given.seed,
                    count=given.symbols,
                    transport=transport,
                    lines=given.lines,
                    slack_s=given.slack,
                    is_told=True,
                )
            )
        print(figures, flush=True)
        found.append(figures)
    compared = [figures.consumer.comparer for figures in found if figures.consumer is not None]
    redis_kills, daemon_kills = sum(one.redis_kills for one in found), sum(one.daemon_kills for one in found)
    books, levels, trades = (sum(getattr(one, name) for one in compared) for name in ("books", "levels", "trades"))
    print(
        f"chaos: Redis killed {redis_kills} times, the daemon {daemon_kills} times; {books:,} books and tops compared "
        f"on {levels:,} levels, none wrong; {trades:,} trades, none twice; keys fresh at most "
        f"{max(one.worst_redis_s for one in found):.2f} s after Redis answered and "
        f"{max(one.worst_daemon_s for one in found):.2f} s after the books of a new daemon were live"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
