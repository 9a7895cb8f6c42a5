"""The newest trade of an earlier daemon, read from its stream: the hole across a restart, and never a double."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio as redis

from mdfeed._encode import Collector
from mdfeed._valve import Valve
from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.resume import NEWEST, Resume
from tests.integration.daemon import serving
from tests.integration.sink_rig import needs_server, until
from tests.integration.test_serve import write_config

pytestmark = needs_server
OURS, DEAD = 9, 5
KEY = "mdfeed:trades:BTCUSDT"
S = 10**9


class Told:
    """Stands for the feed: past ids by symbol."""

    def __init__(self, *symbols: str) -> None:
        self.past: dict[str, int] = {}
        self.tracks = {symbol: SimpleNamespace(resume_trades=self.note(symbol)) for symbol in symbols}

    def note(self, symbol: str) -> Any:
        return lambda past_id, now_ns: self.past.update({symbol: past_id} if past_id else {})


@pytest.fixture
async def client() -> AsyncIterator[redis.Redis]:
    with EmbeddedRedis() as server:
        async with redis.Redis.from_url(server.url) as client:
            client.url = server.url
            yield client


async def publish(client: redis.Redis, *ids: int, epoch: int = DEAD, late_s: float = 0.0, key: str = KEY) -> None:
    for trade_id in ids:
        said = {"epoch": epoch, "trade_id": trade_id, "ts_event": 100 * S, "recv_ns": int((100 + late_s) * S)}
        await client.xadd(key, {"data": json.dumps(said)})


async def past(client: redis.Redis, *symbols: str, url: str = "") -> dict[str, int]:
    told = Told(*symbols)
    resume = Resume(url or client.url, told, symbols, epoch=OURS, maxlen=3000, now_ns=lambda: 1)  # type: ignore[arg-type]
    task = asyncio.create_task(resume.run())
    resume.ask(symbols)
    try:
        await asyncio.wait_for(resume.done.wait(), 5)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return told.past


async def test_the_newest_of_each_symbol(client: redis.Redis) -> None:
    await publish(client, 7, 8, 9)
    await publish(client, 100, key="mdfeed:trades:ETHUSDT")
    await client.set("mdfeed:trades:SOLUSDT", "not a stream")
    assert await past(client, "BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT") == {"BTCUSDT": 9, "ETHUSDT": 100}


async def test_what_we_have_published_ourselves_is_passed_over(client: redis.Redis) -> None:
    await publish(client, 7, 8, 9)
    await publish(client, *range(20, 20 + 2 * NEWEST), epoch=OURS)
    assert await past(client, "BTCUSDT") == {"BTCUSDT": 9}


@pytest.mark.parametrize("fetched", [[3], [3, 4, 5], list(range(1, 1100))])
async def test_the_newest_entry_may_be_an_old_trade_that_was_fetched(client: redis.Redis, fetched: list[int]) -> None:
    await publish(client, 1998, 1999, 2000)
    await publish(client, *fetched, late_s=4.0)
    assert await past(client, "BTCUSDT") == {"BTCUSDT": 2000}


async def test_entries_that_are_none_of_ours(client: redis.Redis) -> None:
    await publish(client, 7)
    for junk in ({"data": "x"}, {"data": "[]"}, {"other": "1"}, {"data": '{"epoch":1,"trade_id":-5}'}):
        await client.xadd(KEY, junk)
    assert await past(client, "BTCUSDT") == {"BTCUSDT": 7}


async def test_a_user_that_may_not_read_streams_knows_nothing(client: redis.Redis) -> None:
    await publish(client, 7)
    await client.execute_command("ACL", "SETUSER", "blind", "on", ">x", "~*", "+@all", "-xrevrange")
    assert await past(client, "BTCUSDT", url=client.url.replace("unix://", "unix://blind:x@")) == {}


async def test_a_server_that_comes_later_is_asked_then() -> None:
    told = Told("BTCUSDT")
    with EmbeddedRedis() as server:
        async with redis.Redis.from_url(server.url) as client:
            await publish(client, 7)
            server.kill()
            resume = Resume(server.url, told, ["BTCUSDT"], epoch=OURS, maxlen=10, now_ns=lambda: 1)  # type: ignore[arg-type]
            task = asyncio.create_task(resume.run())
            resume.ask(["BTCUSDT", "OTHER"])
            await asyncio.sleep(0.2)
            assert not resume.done.is_set()
            server.start()
            await until(resume.done.is_set)
            assert told.past == {}, "it keeps nothing over its own end"
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_kill_9_leaves_no_hole_and_no_double(tmp_path: Any) -> None:
    async with SimulatedExchange(["BTCUSDT"], rate=120) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT"])
            async with redis.Redis.from_url(server.url) as client:

                async def ids() -> list[int]:
                    return [json.loads(entry[b"data"])["trade_id"] for _, entry in await client.xrange(KEY)]

                async with serving("-c", config) as daemon:
                    await daemon.until_ready()
                    await asyncio.sleep(1.0)
                    await daemon.end(signal.SIGKILL)
                before = await ids()
                await asyncio.sleep(1.0)
                async with serving("-c", config) as daemon:
                    await daemon.until_ready()

                    def is_filled(status: int, text: Any) -> bool:
                        filled = 'mdfeed_backfill_trades_total{result="filled",venue="binance-usdm"}'
                        return any(
                            line.startswith(filled) and float(line.split()[-1]) for line in str(text).splitlines()
                        )

                    await daemon.until("/metrics", is_filled)
                    after = await ids()
                    events = [json.loads(entry[b"data"]) for _, entry in await client.xrange("mdfeed:events")]
                assert len(after) == len(set(after))
                assert sorted(after) == list(range(before[0], max(after) + 1))
                (gap,) = [event for event in events if event["kind"] == "trade_gap"]
                assert gap["first_id"] == before[-1] + 1
                assert "trades_filled" in [event["kind"] for event in events]


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_our_own_end_is_believed_of_the_same_server_only(client: redis.Redis, is_restarted: bool) -> None:
    """What was in flight to a frozen server is in its streams or is not; one that died may have forgotten more."""
    told: list[tuple[int, int, bool]] = []
    track = SimpleNamespace(
        resume_trades=lambda past_id, _, own_id, is_doubted: told.append((past_id, own_id, is_doubted))
    )
    feed = SimpleNamespace(tracks={"BTCUSDT": track}, instruments=SimpleNamespace(index=lambda symbol: 0))
    valve = Valve(Collector(), owes_trades=True)
    valve.open(0, 1 << 62)
    await publish(client, 7)
    resume = Resume(client.url, feed, ["BTCUSDT"], epoch=OURS, maxlen=10, now_ns=lambda: 1, valve=valve)  # type: ignore[arg-type]
    task = asyncio.create_task(resume.run())
    resume.ask(["BTCUSDT"])
    try:
        await until(lambda: len(told) == 1)
        await publish(client, 8, 9, epoch=OURS)
        resume._run_id = "another" if is_restarted else resume._run_id
        resume.doubt()
        resume.ask(["BTCUSDT"])
        await until(lambda: len(told) == 2)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert told == [(7, 0, False), (7, 9, not is_restarted)]
