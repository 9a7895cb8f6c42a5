"""SIGHUP: symbols come and go in a running daemon; wrong symbols are told, at start and later."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket

import redis.asyncio as redis

from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.faults import Answer, Seam
from mdfeed.exchange.server import SimulatedExchange
from tests.integration.daemon import serving
from tests.integration.sink_rig import until
from tests.integration.test_serve import write_config

LISTED = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


async def collect_seqs(client: redis.Redis, symbol: str, seqs: list[tuple[int, int]]) -> None:
    """(epoch, seq) of each publication of a book."""
    async with client.pubsub() as subscriber:
        await subscriber.subscribe(f"mdfeed:book:{symbol}")
        async for message in subscriber.listen():
            if message["type"] == "message":
                book = json.loads(message["data"])
                seqs.append((book["epoch"], book["seq"]))


async def test_reload_adds_and_removes_without_touching_the_others(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        async with SimulatedExchange(LISTED, rate=80) as exchange:
            with EmbeddedRedis() as server:
                config = write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT", "ETHUSDT"])
                async with (
                    serving("-c", config, NOTIFY_SOCKET=str(tmp_path / "notify")) as daemon,
                    redis.Redis.from_url(server.url) as client,
                ):
                    await daemon.until_ready()
                    seqs: list[tuple[int, int]] = []
                    listener = asyncio.create_task(collect_seqs(client, "BTCUSDT", seqs))
                    assert await client.get("market_data:ETHUSDT")
                    write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT", "SOLUSDT"], order_book_depth=10)
                    daemon.process.send_signal(signal.SIGHUP)
                    async with asyncio.timeout(15):
                        while not await client.get("market_data:SOLUSDT"):
                            await asyncio.sleep(0.05)
                    await daemon.until_ready()
                    assert await client.get("market_data:ETHUSDT") is None
                    async with asyncio.timeout(15):
                        while any(name.startswith("eth") for link in exchange.links for name in link.streams):
                            await asyncio.sleep(0.05)
                    # A file with a mistake, and one with a symbol that there is not: told, and nothing changes.
                    for symbols, said in ((["BTCUSD"], "did you mean BTCUSDT?"), ("", "symbols")):
                        write_config(tmp_path, exchange, server.url, symbols=symbols)
                        count = len(daemon.log)
                        daemon.process.send_signal(signal.SIGHUP)
                        async with asyncio.timeout(5):
                            while not any(said in line for line in daemon.log[count:] if "nothing is reloaded" in line):
                                await asyncio.sleep(0.02)
                    await asyncio.sleep(0.5)
                    assert (await daemon.get("/ready"))[0] == 200
                    listener.cancel()
                    assert len(seqs) > 10
                    epochs, numbers = {epoch for epoch, _ in seqs}, [seq for _, seq in seqs]
                    assert len(epochs) == 1
                    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "not one publication skipped"
                    assert any("by a restart only: order_book_depth" in line for line in daemon.log)
                    assert await daemon.end() == 0
        told = []
        while True:
            try:
                told.append(manager.recv(4096).decode())
            except BlockingIOError:
                break
    reloads = [text for text in told if text.startswith("RELOADING=1\nMONOTONIC_USEC=")]
    assert len(reloads) == 3
    assert told[told.index(reloads[0]) :].count("READY=1") == 3


async def test_a_symbol_that_the_venue_does_not_list_ends_the_start_with_78(tmp_path):
    async with SimulatedExchange(LISTED) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT", "ETHUST"])
            async with serving("-c", config) as daemon:
                async with asyncio.timeout(10):
                    assert await daemon.process.wait() == 78
                await daemon.end()
                assert (
                    "config.yaml:1: symbols: binance-usdm does not list ETHUST; did you mean ETHUSDT?" in daemon.log[-1]
                )
                async with redis.Redis.from_url(server.url) as client:
                    assert not await client.keys("market_data:*")


async def test_without_the_venues_list_the_check_comes_later(tmp_path):
    class NoList(Seam):
        is_away = True

        def asked(self, asked):
            return Answer(503, b"") if self.is_away and "exchangeInfo" in asked.path else None

    seam = NoList()
    async with SimulatedExchange(LISTED, rate=80, seam=seam) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT", "NOSUCHUSDT"])
            async with serving("-c", config) as daemon, redis.Redis.from_url(server.url) as client:
                async with asyncio.timeout(15):
                    while not await client.get("market_data:BTCUSDT"):
                        await asyncio.sleep(0.05)
                seam.is_away = False
                body = await daemon.until(
                    "/ready",
                    lambda status, body: any("does not list NOSUCHUSDT" in reason for reason in body["reasons"]),
                )
                assert not any("BTCUSDT:" in reason and "NOSUCH" not in reason for reason in body["reasons"])
                assert sum("does not list NOSUCHUSDT" in line for line in daemon.log) == 1
                assert await daemon.end() == 0


async def test_a_delisted_symbol_stops_neither_a_reload_nor_a_start(tmp_path):
    async with SimulatedExchange((*LISTED, "BNBUSDT"), rate=80) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT", "SOLUSDT"])
            async with serving("-c", config) as daemon, redis.Redis.from_url(server.url) as client:
                await daemon.until_ready()
                exchange.market.delist("SOLUSDT")
                write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT", "SOLUSDT", "BNBUSDT"])
                daemon.process.send_signal(signal.SIGHUP)
                async with asyncio.timeout(15):
                    while not await client.get("market_data:BNBUSDT"):
                        await asyncio.sleep(0.05)
                await daemon.until("/ready", lambda status, body: "SOLUSDT: not listed any more" in str(body))
                assert any("SOLUSDT delisted" in line for line in daemon.log)
                assert await daemon.end() == 0
            async with serving("-c", config) as daemon:
                await daemon.until(
                    "/ready",
                    lambda status, body: status == 503 and all("SOLUSDT" in reason for reason in body["reasons"]),
                )
                assert await daemon.end() == 0


async def test_a_symbol_removed_while_redis_is_frozen_is_withdrawn_at_its_return(tmp_path):
    async with SimulatedExchange(LISTED, rate=80) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT", "ETHUSDT"])
            async with serving("-c", config) as daemon, redis.Redis.from_url(server.url) as client:
                await daemon.until_ready()
                os.kill(server.pid, signal.SIGSTOP)
                await until(lambda: any("no reply" in line for line in daemon.log), 10)
                write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT"])
                daemon.process.send_signal(signal.SIGHUP)
                await until(lambda: any("removed ETHUSDT" in line for line in daemon.log), 10)
                await asyncio.sleep(1.5)
                os.kill(server.pid, signal.SIGCONT)
                async with asyncio.timeout(10):
                    while await client.get("market_data:ETHUSDT") or await client.get("mdfeed:book:ETHUSDT"):
                        await asyncio.sleep(0.05)
                state = json.loads(await client.get("mdfeed:state:ETHUSDT"))
                assert (state["state"], state["reason"]) == ("COLD", "removed")
