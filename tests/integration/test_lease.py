"""mdfeed.lease against a real server: never two, a dead holder at once, a lost lease stops a symbol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis

from mdfeed import lease
from mdfeed._encode import Collector, Market
from mdfeed._valve import Valve
from mdfeed.embedded import EmbeddedRedis, find_servers
from mdfeed.errors import MdfeedError
from mdfeed.lease import PREFIX, TTL_MS, Leases, is_dead, machine, namespace, whoami
from tests.integration.sink_rig import until

pytestmark = pytest.mark.skipif(not find_servers(), reason="no Redis-compatible server on this machine")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
ALIVE = "other-host/1 pid:[1] 77 5 beef"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


class Holder:
    """Leases, their valve, and what comes through it."""

    def __init__(self, url: str, **options: object) -> None:
        self.out = Collector()
        self.valve = Valve(self.out)
        self.opened: list[str] = []
        self.leases = Leases(url, self.valve, lambda: SYMBOLS, SYMBOLS.index, self.opened.extend, **options)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.leases.run())

    def passes(self, symbol: str, at_ns: int | None = None) -> bool:
        self.out.take()
        market = Market(symbol, SYMBOLS.index(symbol))
        self.valve.put_book(market, [(1, 1)], [(2, 1)], recv_ns=time.time_ns() if at_ns is None else at_ns)
        return len(self.out) > 0

    async def crash(self) -> None:
        """Gone without a word, as after kill -9."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, MdfeedError):
            await self.task


@asynccontextmanager
async def holding(url: str, **options: object) -> AsyncIterator[Holder]:
    holder = Holder(url, **options)
    try:
        yield holder
    finally:
        await holder.crash()
        await holder.leases.close()


@pytest.fixture
async def client(server: EmbeddedRedis) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(server.url, decode_responses=True) as client:
        await client.flushall()
        yield client


async def test_held_renewed_and_given_back(server: EmbeddedRedis, client: redis.Redis) -> None:
    async with holding(server.url) as first:
        assert not first.passes("BTCUSDT")
        await until(lambda: first.opened)
        assert first.opened == list(SYMBOLS)
        assert first.passes("BTCUSDT")
        assert first.leases.reasons() == []
        for symbol in SYMBOLS:
            assert await client.get(PREFIX + symbol) == first.leases.token
            assert 0 < await client.pttl(PREFIX + symbol) <= TTL_MS
        await asyncio.sleep(TTL_MS / 1000 + 0.5)
        assert first.passes("ETHUSDT")
        assert first.opened == list(SYMBOLS)
    assert await client.keys("*") == []


async def test_nothing_passes_that_is_later_than_the_lease(server: EmbeddedRedis, client: redis.Redis) -> None:
    async with holding(server.url) as first:
        await until(lambda: first.opened)
        assert first.passes("BTCUSDT")
        assert not first.passes("BTCUSDT", time.time_ns() + (TTL_MS + 50) * 1_000_000)


async def test_a_second_one_gives_up_and_has_published_nothing(server: EmbeddedRedis, client: redis.Redis) -> None:
    async with holding(server.url) as first:
        await until(lambda: first.opened)
        async with holding(server.url, token=ALIVE, patience_s=0.5) as second:
            with pytest.raises(
                MdfeedError, match=r"BTCUSDT: the lease is held by another daemon, pid \d+ on .*--takeover"
            ):
                await asyncio.wait_for(asyncio.shield(second.task), 10)
            assert second.opened == []
            assert not second.passes("BTCUSDT")
        assert await client.get(PREFIX + "BTCUSDT") == first.leases.token


async def test_one_foreign_symbol_keeps_all_of_them_shut(server: EmbeddedRedis, client: redis.Redis) -> None:
    await client.set(PREFIX + "ETHUSDT", ALIVE, px=1500)
    async with holding(server.url) as first:
        await until(lambda: first.leases.others)
        assert first.leases.others == {"ETHUSDT": ALIVE}
        assert not first.passes("BTCUSDT")
        assert any("pid 77 on other-host/1" in reason for reason in first.leases.reasons())
        await until(lambda: first.opened)  # it ran out before our patience
        assert first.passes("ETHUSDT")


async def test_the_lease_of_a_dead_process_is_taken_at_once(server: EmbeddedRedis, client: redis.Redis) -> None:
    code = "from mdfeed.lease import whoami; print(whoami())"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    for symbol in SYMBOLS:
        await client.set(PREFIX + symbol, said.decode().strip() + " beef")
    async with holding(server.url, patience_s=0.0) as first:
        assert await until(lambda: first.opened) < 1.0


async def test_takeover_and_what_the_loser_does(
    server: EmbeddedRedis, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with holding(server.url) as first:
        await until(lambda: first.opened)
        async with holding(server.url, token=ALIVE, takeover=True) as second:
            await until(lambda: second.opened)
            assert second.passes("BTCUSDT")
            await until(lambda: len(first.leases.others) == 2)
            assert not first.passes("BTCUSDT")
            assert "BTCUSDT: the lease is held by pid 77 on other-host/1" in first.leases.reasons()
            assert caplog.text.count("the lease is lost to") == 2
            assert not first.task.done()
        # The winner went in order: the loser has them back.
        await until(lambda: len(first.opened) == 4)
        assert first.passes("BTCUSDT")
        assert first.leases.reasons() == []


async def test_a_server_that_was_away_and_forgot(client: redis.Redis) -> None:
    with EmbeddedRedis() as own:
        async with holding(own.url) as first:
            await until(lambda: first.opened)
            own.kill()
            await until(lambda: not first.leases.held, 10)
            assert not first.passes("BTCUSDT")
            assert any("redis does not answer" in reason for reason in first.leases.reasons())
            own.start()
            await until(lambda: len(first.opened) == 4)
            assert first.passes("BTCUSDT")
            first.leases.doubt()
            assert not first.passes("BTCUSDT")
            await until(lambda: len(first.opened) == 6)


async def test_a_server_that_refuses_is_named_once(server: EmbeddedRedis, client: redis.Redis, caplog) -> None:
    await client.rpush(PREFIX + "BTCUSDT", "x")
    async with holding(server.url) as first:
        await until(lambda: "redis refuses leases" in caplog.text)
        await asyncio.sleep(0.6)
        assert caplog.text.count("redis refuses leases") == 1
        assert not first.passes("ETHUSDT")
        assert any("WRONGTYPE" in reason for reason in first.leases.reasons())


def test_who_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    own = whoami().split()
    assert own == [machine(), namespace(), str(os.getpid()), own[3]]
    assert not is_dead(" ".join([*own, "x"]))
    assert is_dead(" ".join([*own[:3], str(int(own[3]) + 1), "x"])) == (own[3] != "0")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_dead(f"{own[0]} {own[1]} {ended.pid} 1 x")
    for foreign in ("", "unknown", f"elsewhere/1 {own[1]} {ended.pid} 1 x", f"{own[0]} pid:[1] {ended.pid} 1 x",
                    f"{own[0]} {own[1]} -1 1 x", f"{own[0]} {own[1]} {'9' * 30} 1 x"):  # fmt: skip
        assert not is_dead(foreign)
    monkeypatch.setattr(lease.os, "kill", lambda pid, number: (_ for _ in ()).throw(PermissionError))
    assert not is_dead(f"{own[0]} {own[1]} {ended.pid} 1 x")


async def test_a_symbol_that_is_added_has_its_lease_at_once(server: EmbeddedRedis, client: redis.Redis) -> None:
    """And what came back is told of again, though its lease was held all the time."""
    async with holding(server.url) as first:
        await until(lambda: first.opened)
        first.opened.clear()
        for _ in range(3):
            first.leases.begin(["ETHUSDT"])
            assert not first.passes("ETHUSDT")
            await until(lambda: first.opened, within_s=0.5)
            assert first.opened == ["ETHUSDT"]
            assert first.passes("ETHUSDT")
            assert first.passes("BTCUSDT")
            first.opened.clear()


async def test_a_symbol_that_goes_while_its_lease_is_asked_for(server: EmbeddedRedis, client: redis.Redis) -> None:
    async with holding(server.url) as first:
        await until(lambda: first.opened)
        first.leases._symbols = lambda: SYMBOLS[:1]
        first.leases._index_of = {"BTCUSDT": 0}.__getitem__
        first.leases._open(list(SYMBOLS))
        await asyncio.sleep(0.1)
        assert not first.task.done()


async def test_a_server_without_memory_keeps_the_leases(server: EmbeddedRedis, client: redis.Redis) -> None:
    """A renewal takes no memory; and channels go on, for nobody else can hold the lease meanwhile."""
    async with holding(server.url) as first:
        await until(lambda: first.opened)
        await client.config_set("maxmemory", 1)
        try:
            await asyncio.sleep(TTL_MS / 1000 + 0.5)
            assert first.leases.reasons() == []
            assert first.passes("BTCUSDT")
            assert await client.get(PREFIX + "BTCUSDT") == first.leases.token
        finally:
            await client.config_set("maxmemory", 0)


async def test_a_user_that_may_not_expire_keys_holds_leases_too(server: EmbeddedRedis, client: redis.Redis) -> None:
    await client.execute_command("ACL", "SETUSER", "lessee", "reset", "on", ">x", "~*", "+@all", "-pexpire")
    try:
        async with holding(server.url.replace("unix://", "unix://lessee:x@")) as first:
            await until(lambda: first.opened)
            await asyncio.sleep(1.5)
            assert 1000 < await client.pttl(PREFIX + "BTCUSDT") <= TTL_MS
            assert first.leases.reasons() == []
    finally:
        await client.execute_command("ACL", "DELUSER", "lessee")


async def test_a_removed_symbol_is_held_for_its_withdrawal_unless_another_has_it(
    server: EmbeddedRedis, client: redis.Redis
) -> None:
    await client.set(PREFIX + "SOLUSDT", ALIVE)
    departed: dict[str, object] = {"BNBUSDT": None, "SOLUSDT": None}
    known = (*SYMBOLS, "BNBUSDT", "SOLUSDT")
    valve, opened = Valve(Collector()), []
    leases = Leases(server.url, valve, lambda: SYMBOLS, known.index, opened.extend, departed)
    task = asyncio.create_task(leases.run())
    try:
        await until(lambda: opened)
        assert opened == [*SYMBOLS, "BNBUSDT"]
        assert list(departed) == ["BNBUSDT"]
        assert leases.reasons() == []
        assert not valve.is_open(known.index("SOLUSDT"))
        assert await client.get(PREFIX + "SOLUSDT") == ALIVE
        departed.clear()
        await until(lambda: not valve.is_open(known.index("BNBUSDT")))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await leases.close()
