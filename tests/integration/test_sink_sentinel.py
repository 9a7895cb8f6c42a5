"""Sentinels: the sink, the leases, inspect and doctor go where the master is, before, during and after a failover."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import redis.asyncio

from mdfeed import inspect
from mdfeed._encode import Collector
from mdfeed._valve import Valve
from mdfeed.config import load_config
from mdfeed.embedded import EmbeddedRedis
from mdfeed.findings import ERROR
from mdfeed.lease import PREFIX, Leases
from mdfeed.redis_checks import examine_redis
from mdfeed.redis_url import parse_redis_url
from mdfeed.sentinel import find_master
from mdfeed.sinks.redis import RedisSink
from tests.integration.sentinel_rig import NAME, SENTINEL_SECRET, Cluster
from tests.integration.sink_rig import Source, each_server, needs_server, running, seq_of, until

pytestmark = needs_server
KEY = "mdfeed:book:BTCUSDT"
KEYS = (KEY, "market_data:BTCUSDT")


@asynccontextmanager
async def busy(source: Source, seen: dict[int, list[int]], servers: list[EmbeddedRedis]) -> AsyncIterator[None]:
    """Publishes every millisecond, and gathers what subscribers of each server see, through every end of theirs."""

    async def publish() -> None:
        while True:
            source.publish()
            await asyncio.sleep(0.001)

    async def listen(server: EmbeddedRedis) -> None:
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                async with Cluster.client(server) as client, client.pubsub() as pubsub:
                    await pubsub.subscribe(KEY)
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            seen.setdefault(server.port or 0, []).append(seq_of(message["data"]))
            await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(publish()), *(asyncio.create_task(listen(server)) for server in servers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def leasing(url: str) -> AsyncIterator[Leases]:
    valve = Valve(Collector(epoch=1))
    leases = Leases(url, valve, lambda: ["BTCUSDT"], lambda symbol: 0, lambda symbols: None)
    task = asyncio.create_task(leases.run())
    try:
        yield leases
    finally:
        task.cancel()
        await asyncio.wait([task])
        await leases.close()


async def check_takes_over(
    cluster: Cluster, sink: RedisSink, source: Source, leases: Leases, heir: EmbeddedRedis, is_kill: bool
) -> None:
    """After this the master's successor is `heir`: each key fresh in time, and the lease held there."""
    old_port = await cluster.master_port()
    old = cluster.server_at(old_port or 0)
    refreshes = source.refreshes
    if is_kill:
        old.kill()
    else:
        async with Cluster.client(cluster.sentinels[0], SENTINEL_SECRET) as client:
            await client.execute_command("SENTINEL", "FAILOVER", NAME)
    seq = source.seq
    await until(lambda: not sink.is_connected)
    buffered = sink.counters()["buffer_bytes"]
    await cluster.until_master_is(heir.port or 0)
    started = time.monotonic()
    async with Cluster.client(heir) as reader:
        while min(seq_of(value) for value in await reader.mget(KEYS)) <= seq or source.refreshes == refreshes:
            assert time.monotonic() - started < 5.0
            await asyncio.sleep(0.005)
        fresh_after_s = time.monotonic() - started
        print(f"{'kill -9' if is_kill else 'planned'}: keys fresh {fresh_after_s:.3f} s after the Sentinels' word")
        assert fresh_after_s < 1.0
        assert source.refreshes == refreshes + 1
        assert buffered < 100_000
        leases.doubt()  # what the daemon does when its sink is back
        await until(lambda: "BTCUSDT" in leases.held)
        assert await reader.get(PREFIX + "BTCUSDT") == leases.token.encode()


@each_server
async def test_follows_the_master(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A planned failover, then kill -9 of the master with one Sentinel frozen, all under load."""
    caplog.set_level(logging.INFO, "mdfeed")
    seen: dict[int, list[int]] = {}
    async with Cluster(path, tmp_path) as cluster, running(cluster.url) as sink, leasing(cluster.url) as leases:
        first, second = cluster.servers
        source = Source(sink)
        async with busy(source, seen, cluster.servers):
            await until(lambda: sink.is_connected and "BTCUSDT" in leases.held)
            await asyncio.sleep(0.2)
            await check_takes_over(cluster, sink, source, leases, second, is_kill=False)
            await cluster.until_settled()
            os.kill(cluster.sentinels[0].pid, signal.SIGSTOP)
            await check_takes_over(cluster, sink, source, leases, first, is_kill=True)
            await asyncio.sleep(0.2)
        counters = sink.counters()
        assert await asyncio.to_thread(inspect.run, ["BTCUSDT"], False, True, False, cluster.url) == 0
        config = load_config(None, {"redis_url": cluster.url})
        async with asyncio.timeout(10):
            # A machine that is busy makes Sentinels see the master down for a moment.
            while (findings := [finding async for finding in examine_redis(config)])[0].level == ERROR:
                await asyncio.sleep(0.1)
    # A replica hands on what its master publishes, so each listener sees most of it: in order, and nothing twice.
    for seqs in seen.values():
        assert len(seqs) > 100
        assert seqs == sorted(set(seqs))
    assert seen[first.port or 0][-1] > source.seq - 1_000
    assert counters["reconnects"] == 2
    assert counters["buffer_bytes"] < 100_000
    assert "answers in" in findings[0].text
    assert f"127.0.0.1:{second.port} ({NAME}) is back after" in caplog.text
    for secret in ("s%25s", "s%s@me", "open"):
        assert secret not in caplog.text
        assert secret not in repr(findings)


async def twin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, flags: str) -> None:
    """Stands for a Sentinel that names 127.0.0.1:port; it knows SENTINEL MASTERS only."""
    state = ["name", NAME, "ip", "127.0.0.1", "port", str(port), "flags", flags, "num-other-sentinels", "2"]
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            words = []
            for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
                size = int((await reader.readuntil(b"\r\n"))[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            answer = f"*1\r\n*{len(state)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in state)
            writer.write(answer.encode() if words[0] == b"SENTINEL" else b"-ERR unknown command\r\n")
    writer.close()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(7001, "master"), (7002, "master"), (7002, "master")], 7002),
        ([(7001, "master,s_down"), (7002, "master"), (7001, "master,s_down,o_down")], 7002),
        ([(7001, "master,s_down"), None, None], "1 say: down"),
        ([None, None, None], "name no master 'mymaster'"),
        ([(7001, "slave")], "1 say: down"),
    ],
)
async def test_most_sentinels_are_believed(told: list[tuple[int, str] | None], expected: int | str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for state in told:
            if state is None:
                ports.append(1)  # nobody listens there
                continue
            port, flags = state
            server = await asyncio.start_server(
                lambda reader, writer, port=port, flags=flags: twin(reader, writer, port, flags),  # type: ignore[misc]
                "127.0.0.1",
            )
            await stack.enter_async_context(server)
            ports.append(server.sockets[0].getsockname()[1])
        url = parse_redis_url(f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{NAME}/3")
        if isinstance(expected, int):
            found = await find_master(url)
            assert (found.host, found.port, found.db, found.sentinels) == ("127.0.0.1", expected, 3, ())
        else:
            with pytest.raises(ConnectionError, match=expected):
                await find_master(url)


async def test_a_replica_is_not_published_to() -> None:
    async with EmbeddedRedis(port=0, args=["--replicaof", "127.0.0.1 1"]) as replica:
        server = await asyncio.start_server(
            lambda reader, writer: twin(reader, writer, replica.port or 0, "master"), "127.0.0.1"
        )
        async with server:
            url = f"redis+sentinel://127.0.0.1:{server.sockets[0].getsockname()[1]}/{NAME}"
            async with running(url) as sink:
                source = Source(sink)
                await until(lambda: "no master" in str(sink.counters()["last_error"]))
                assert not sink.is_connected
                assert source.refreshes == 0
                async with redis.asyncio.from_url(replica.url) as client:
                    await client.execute_command("REPLICAOF", "NO", "ONE")
                await until(lambda: sink.is_connected)
                assert source.refreshes == 1
