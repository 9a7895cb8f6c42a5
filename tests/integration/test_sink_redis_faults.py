"""What a server does to the sink: killed, frozen, slow, refusing, read-only, not a server at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import redis.asyncio

from mdfeed.embedded import EmbeddedRedis
from mdfeed.sinks.redis import RedisSink
from tests.integration.sink_rig import BTC, Source, each_server, needs_server, running, seq_of, until

pytestmark = needs_server
KEY = "mdfeed:book:BTCUSDT"


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mdfeed")


@asynccontextmanager
async def publishing(source: Source, every_s: float = 0.001) -> AsyncIterator[None]:
    async def publish() -> None:
        while True:
            source.publish()
            await asyncio.sleep(every_s)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_fresh(url: str, source: Source, within_s: float = 10.0) -> float:
    """Seconds until the server holds a book that was published after this call."""
    async with redis.asyncio.from_url(url) as reader:
        started, seq = time.monotonic(), source.seq
        while seq_of(await reader.get(KEY)) <= seq:
            assert time.monotonic() - started < within_s
            await asyncio.sleep(0.005)
        return time.monotonic() - started


def away_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "the feed goes on" in record.getMessage()]


async def rest_of(pubsub: redis.asyncio.client.PubSub) -> list[int]:
    """The seqs that had arrived before the server was killed."""
    seqs = []
    with contextlib.suppress(redis.ConnectionError):
        while True:
            if message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.01):
                seqs.append(seq_of(message["data"]))
    return seqs


@each_server
async def test_killed_and_started_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys are fresh within a second of the return, and no publication is seen twice by anyone."""
    seen: list[int] = []
    async with EmbeddedRedis(path) as server, running(server.url) as sink:
        source = Source(sink)
        async with publishing(source):
            for down_s in (0.0, 0.3, 1.2):
                await until(lambda: sink.is_connected)
                async with redis.asyncio.from_url(server.url) as reader, reader.pubsub() as pubsub:
                    await pubsub.subscribe(KEY)
                    goal = len(seen) + 50
                    async with asyncio.timeout(10):
                        while len(seen) < goal:
                            if message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1):
                                seen.append(seq_of(message["data"]))
                    server.kill()
                    await until(lambda: not sink.is_connected)
                    seen += await rest_of(pubsub)
                await asyncio.sleep(down_s)
                server.start()
                assert await until_fresh(server.url, source) < 1.0
        counters = sink.counters()
    assert len(seen) >= 150
    assert seen == sorted(set(seen))
    assert counters["reconnects"] == 3
    assert source.refreshes == 4
    assert counters["dropped"]["disconnected"] > 0
    assert counters["buffer_bytes"] < 100_000
    assert any("is back after" in record.getMessage() for record in caplog.records)
    assert 1 <= len(away_lines(caplog)) <= 3


@each_server
async def test_a_cut_connection_repeats_nothing(path: Path) -> None:
    """The subscriber's connection lives on while the sink's is killed again and again: seq only rises."""
    seen: list[int] = []
    async with EmbeddedRedis(path) as server, redis.asyncio.from_url(server.url) as reader, running(server.url) as sink:
        source = Source(sink)
        async with reader.pubsub() as pubsub, publishing(source, 0.0):
            await pubsub.subscribe(KEY)
            for _ in range(5):
                await until(lambda: sink.is_connected)
                goal = len(seen) + 200
                async with asyncio.timeout(10):
                    while len(seen) < goal:
                        if message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1):
                            seen.append(seq_of(message["data"]))
                (client,) = [c for c in await reader.client_list() if c["name"] == "mdfeed"]
                await reader.client_kill_filter(_id=client["id"])
                await until(lambda: not sink.is_connected)
        counters = sink.counters()
        waiting = sum(sink._ledger.unanswered(sink.outbox.pending_kinds).values())
    assert seen == sorted(set(seen))
    # What was in flight may have arrived or not; what never left is counted.
    published, dropped = sum(counters["published"].values()), counters["dropped"]
    # A machine that is busy makes the server slow as well.
    assert published + sum(dropped.values()) + waiting == source.seq * 3


@each_server
async def test_a_frozen_server_costs_no_memory_and_is_found(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    high_water = 256 << 10
    async with EmbeddedRedis(path) as server:
        options = {"high_water_bytes": high_water, "reply_timeout_s": 0.5, "connect_timeout_s": 0.5}
        async with running(server.url, **options) as sink:
            source = Source(sink, levels=400)
            await until(lambda: sink.is_connected)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                largest = 0
                async with publishing(source, 0.0):
                    await until(lambda: not sink.is_connected)
                    for _ in range(50):
                        largest = max(largest, sink.counters()["buffer_bytes"])
                        await asyncio.sleep(0.01)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            # One flush of 400 levels a side may pass the mark.
            assert largest < high_water + 200_000
            assert sink.counters()["dropped"]["slow"] > 0
            assert sink.counters()["dropped"]["in_flight"] > 0
            async with publishing(source):
                assert await until_fresh(server.url, source) < 1.0
    assert any("no reply for" in line for line in away_lines(caplog))


@each_server
async def test_a_slow_reader_gets_the_newest_when_it_has_caught_up(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        EmbeddedRedis(path, args=("--enable-debug-command", "yes")) as server,
        redis.asyncio.from_url(server.url) as reader,
        running(server.url, high_water_bytes=64 << 10) as sink,
    ):
        source = Source(sink, levels=400)
        await until(lambda: sink.is_connected)
        sleeping = asyncio.create_task(reader.execute_command("DEBUG", "SLEEP", "1"))
        await asyncio.sleep(0.05)
        async with publishing(source):
            await until(lambda: not sink.outbox.is_open)
            assert sink.is_connected
            await sleeping
            await until(lambda: sink.outbox.is_open)
        counters = sink.counters()
        assert counters["dropped"]["slow"] > 0
        assert counters["reconnects"] == 0
        assert source.refreshes >= 2
        await until(lambda: sink._link is not None and sink._link.outstanding == 0)
        assert seq_of(await reader.get(KEY)) == source.seq
    assert "reads too slowly" in caplog.text


@each_server
async def test_a_server_that_starts_later(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with EmbeddedRedis(path) as server:
        server.kill()
        async with running(server.url) as sink:
            source = Source(sink)
            source.publish()
            await asyncio.sleep(0.5)
            assert not sink.is_connected
            assert sink.counters()["dropped"]["disconnected"] == 3
            server.start()
            assert await until(lambda: sink.is_connected) < 1.0
            assert source.refreshes == 1
    assert len(away_lines(caplog)) == 1
    assert away_lines(caplog)[0].startswith("redis at unix:/")
    assert "refused" in away_lines(caplog)[0]


async def set_user(reader: redis.asyncio.Redis, *rules: str) -> None:
    await reader.execute_command("ACL", "SETUSER", "feed", "reset", "on", *rules)


@each_server
async def test_passwords_and_permissions(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with EmbeddedRedis(path, port=0) as server, redis.asyncio.from_url(server.url) as reader:
        await set_user(reader, ">s3cr3t", "allkeys", "allchannels", "+@all")
        wrong = f"redis://feed:wr0ng@127.0.0.1:{server.port}"
        async with running(wrong) as sink:
            await until(lambda: sink.counters()["errors"])
            assert set(sink.counters()["errors"]) == {"WRONGPASS"}
            assert not sink.is_connected
            await set_user(reader, ">wr0ng", "allkeys", "allchannels", "+set", "+auth")
            await until(lambda: sink.is_connected)
            # Neither CLIENT nor PING is allowed, nor are PUBLISH and XADD: SET goes on.
            source = Source(sink)
            sink.on_again = lambda: None
            source.publish()
            await until(lambda: sink.counters()["errors"].get("NOPERM", 0) >= 5)
            assert await reader.exists(KEY)
            assert sink.is_connected
            assert "NOPERM" in sink.trouble
            # What may not be published is no publication; and no PING is sent that may not be.
            counters = sink.counters()
            assert counters["dropped"]["noperm"] == 3
            assert set(counters["published"].values()) == {0}
            await asyncio.sleep(1.5)
            assert sink.counters()["errors"]["NOPERM"] == 5
        await reader.config_set("requirepass", "s3cr3t")
        async with running(server.url) as sink:
            await until(lambda: "NOAUTH" in sink.counters()["errors"])
        async with running(f"unix://:s3cr3t@{server.unix_path}") as sink:
            await until(lambda: sink.is_connected)
    assert "WRONGPASS" in caplog.text
    assert "refuses commands: NOPERM" in caplog.text
    assert "wr0ng" not in caplog.text
    assert "s3cr3t" not in caplog.text


@each_server
async def test_a_failover_makes_it_reconnect(path: Path) -> None:
    async with EmbeddedRedis(path) as server, redis.asyncio.from_url(server.url) as reader, running(server.url) as sink:
        source = Source(sink)
        await until(lambda: sink.is_connected)
        await reader.replicaof("127.0.0.1", "1")
        async with publishing(source, 0.01):
            await until(lambda: sink.counters()["reconnects"] >= 2)
            assert sink.counters()["errors"]["READONLY"] >= 2
            await reader.replicaof("NO", "ONE")
            await until_fresh(server.url, source)


@each_server
async def test_a_full_server_is_counted_and_the_channels_go_on(path: Path) -> None:
    async with EmbeddedRedis(path) as server, redis.asyncio.from_url(server.url) as reader, running(server.url) as sink:
        source = Source(sink)
        await until(lambda: sink.is_connected)
        await reader.config_set("maxmemory", 1)
        async with reader.pubsub() as pubsub:
            await pubsub.subscribe("orderbook:BTCUSDT")
            async with publishing(source, 0.01):
                await until(lambda: sink.counters()["errors"].get("OOM"))
                async with asyncio.timeout(5):
                    while not await pubsub.get_message(ignore_subscribe_messages=True, timeout=1):
                        pass
        assert sink.counters()["last_error"].startswith("OOM")
        assert sink.counters()["reconnects"] == 0
        await reader.config_set("maxmemory", 0)
        async with publishing(source, 0.01):
            await until_fresh(server.url, source)


@asynccontextmanager
async def scripted(folder: Path, replies: Iterator[bytes]) -> AsyncIterator[str]:
    """A far side that answers each connection's first bytes with the next of `replies`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(next(replies, b""))
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "s")
    async with server:
        yield f"unix://{folder / 's'}"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a Redis server"),
        (b"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        (b"+OK\r\n+PONG\r\n+OK\r\n", "more replies than commands"),
        (b"", "no answer"),
    ],
)
async def test_strange_far_sides_are_said_and_tried_again(
    reply: bytes, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        scripted(tmp_path, iter([reply, b"+OK\r\n+PONG\r\n"])) as url,
        running(url, connect_timeout_s=0.3) as sink,
    ):
        source = Source(sink)
        await until(lambda: away_lines(caplog))
        assert said in away_lines(caplog)[0]
        await until(lambda: sink.is_connected)
        assert source.refreshes >= 1


async def test_an_address_without_a_server_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running("redis://feed:s3cr3t@127.0.0.1:1/2") as sink:
        await asyncio.sleep(1.0)
        assert isinstance(sink, RedisSink)
        sink.outbox.put_trade(BTC, 1, 1, 1)
    (line,) = away_lines(caplog)
    assert line.startswith("redis at 127.0.0.1:1/2: refused: ")
    assert "s3cr3t" not in caplog.text
    assert json.dumps(sink.counters()["last_error"])
