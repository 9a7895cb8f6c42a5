"""What arrives in real servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
import redis
import redis.asyncio
import uvloop

from mdfeed._encode import CHANNELS, Collector
from mdfeed.embedded import EmbeddedRedis
from mdfeed.sinks.redis import RedisSink
from tests.integration.sink_rig import BTC, Source, each_server, needs_server, running, until

pytestmark = needs_server


def say_all(outbox: Collector | object, seq: int) -> None:
    outbox.put_state(BTC, "LIVE", "joined")  # type: ignore[attr-defined]
    outbox.put_book(BTC, [(6180020, 2507)], [(6180030, 5)], seq=seq, recv_ns=1)  # type: ignore[attr-defined]
    outbox.put_trade(BTC, 5, 6180020, 12)  # type: ignore[attr-defined]
    outbox.put_bbo(BTC, 9, (6180020, 2507), (6180030, 5))  # type: ignore[attr-defined]
    outbox.put_event(b'{"event":"gap"}')  # type: ignore[attr-defined]


async def check_everything_arrives(path: Path) -> None:
    async with (
        EmbeddedRedis(path) as server,
        redis.asyncio.from_url(server.url) as reader,
        reader.pubsub() as pubsub,
        running(server.url) as sink,
    ):
        await pubsub.psubscribe("*")
        assert (await pubsub.get_message(timeout=5))["type"] == "psubscribe"
        await until(lambda: sink.is_connected)
        expected = Collector(epoch=7)
        say_all(expected, 1)
        say_all(sink.outbox, 1)
        sink.flush()
        payloads = {kind: payload for kind, _, payload in expected.take()}
        for kind in ("state", "market_data", "orderbook", "book", "trades", "bbo"):
            message = await pubsub.get_message(timeout=5)
            assert message["channel"].decode() == CHANNELS[kind] + "BTCUSDT"
            assert message["data"] == payloads[kind]
        for kind in ("state", "market_data", "book"):
            key = CHANNELS[kind] + "BTCUSDT"
            assert await reader.get(key) == payloads[kind]
            assert 290 <= await reader.ttl(key) <= 300
        for kind, stream in (("trades_stream", "mdfeed:trades:BTCUSDT"), ("events", "mdfeed:events")):
            ((_, fields),) = await reader.xrange(stream)
            assert fields == {b"data": payloads[kind]}
        await until(lambda: sink._link is not None and sink._link.outstanding == 0)
        assert sorted(await reader.keys()) == [
            b"market_data:BTCUSDT",
            b"mdfeed:book:BTCUSDT",
            b"mdfeed:events",
            b"mdfeed:state:BTCUSDT",
            b"mdfeed:trades:BTCUSDT",
        ]
        sink.outbox.withdraw(BTC)
        sink.flush()
        await until(lambda: sink._link is not None and sink._link.outstanding == 0)
        assert await reader.get("market_data:BTCUSDT") is None
        assert [client["name"] for client in await reader.client_list() if client["name"]] == ["mdfeed"]
        assert sink.counters()["errors"] == {}


@each_server
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_every_payload_arrives_under_its_name(path: Path, loop: object) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(check_everything_arrives(path))


@each_server
async def test_set_comes_before_publish_next_to_each_other(path: Path) -> None:
    async with (
        EmbeddedRedis(path) as server,
        redis.asyncio.from_url(server.url) as reader,
        reader.monitor() as monitor,
        running(server.url) as sink,
    ):
        await until(lambda: sink.is_connected)
        Source(sink).publish()
        seen = []
        async for command in monitor.listen():
            words = command["command"].split(" ", 2)
            if words[0] in ("SET", "PUBLISH"):
                seen.append((words[0], words[1], words[2].removesuffix(" EX 300")))
            if len(seen) == 5:
                break
    assert [words[:2] for words in seen] == [
        ("SET", "market_data:BTCUSDT"),
        ("PUBLISH", "market_data:BTCUSDT"),
        ("PUBLISH", "orderbook:BTCUSDT"),
        ("SET", "mdfeed:book:BTCUSDT"),
        ("PUBLISH", "mdfeed:book:BTCUSDT"),
    ]
    assert seen[0][2] == seen[1][2]
    assert seen[3][2] == seen[4][2]


@each_server
async def test_streams_stay_bounded(path: Path) -> None:
    async with (
        EmbeddedRedis(path) as server,
        redis.asyncio.from_url(server.url) as reader,
        running(server.url, trades_maxlen=200, events_maxlen=300) as sink,
    ):
        await until(lambda: sink.is_connected)
        for trade_id in range(3_000):
            sink.outbox.put_trade(BTC, trade_id, 1, 1)
            sink.outbox.put_event(b'{"event":"x"}')
        sink.flush()
        await until(lambda: sink._link is not None and sink._link.outstanding == 0)
        # "~" trims by whole nodes of at most 100 entries.
        assert 200 <= await reader.xlen("mdfeed:trades:BTCUSDT") <= 300
        assert 300 <= await reader.xlen("mdfeed:events") <= 400
        ((_, newest),) = await reader.xrevrange("mdfeed:trades:BTCUSDT", count=1)
        assert json.loads(newest[b"data"])["trade_id"] == 2_999


async def test_close_waits_for_the_replies() -> None:
    async with EmbeddedRedis() as server, redis.asyncio.from_url(server.url) as reader, running(server.url) as sink:
        await until(lambda: sink.is_connected)
        source = Source(sink)
        for _ in range(2_000):
            source.publish()
        await sink.close(5)
        assert json.loads(await reader.get("mdfeed:book:BTCUSDT"))["seq"] == 2_000
        assert set(sink.counters()["dropped"].values()) == {0}


async def test_database_number_and_tcp() -> None:
    async with EmbeddedRedis(port=0) as server, running(f"{server.tcp_url}/3") as sink:
        await until(lambda: sink.is_connected)
        Source(sink).publish()
        async with (
            redis.asyncio.from_url(server.url, db=3) as third,
            redis.asyncio.from_url(server.url) as first,
        ):
            await until(lambda: sink._link is not None and sink._link.outstanding == 0)
            assert await third.exists("market_data:BTCUSDT")
            assert not await first.exists("market_data:BTCUSDT")


def make_certificates(folder: Path) -> None:
    """A CA and a certificate of it for localhost."""
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout s.key -out s.csr",
        "x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy -out s.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def has_tls(path: Path) -> bool:
    text = subprocess.run(["ldd", str(path)], capture_output=True, text=True).stdout
    return "libssl" in text


@each_server
async def test_tls(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not has_tls(path):
        pytest.skip(f"{path.name} was built without TLS")
    make_certificates(tmp_path)
    port = 20_000 + hash(str(tmp_path)) % 20_000
    args = [f"--tls-port {port}", f"--tls-cert-file {tmp_path}/s.pem", f"--tls-key-file {tmp_path}/s.key"]
    args += [f"--tls-ca-cert-file {tmp_path}/ca.pem"]
    async with EmbeddedRedis(path, args=" ".join(args).split()):
        files = f"ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/s.pem&ssl_keyfile={tmp_path}/s.key"
        async with running(f"rediss://localhost:{port}?{files}") as sink:
            await until(lambda: sink.is_connected)
            Source(sink).publish()
            await until(lambda: sink._link is not None and sink._link.outstanding == 0)
            assert sink.counters()["errors"] == {}
        mutual = f"ssl_certfile={tmp_path}/s.pem&ssl_keyfile={tmp_path}/s.key"
        async with running(f"rediss://localhost:{port}?{mutual}") as sink:
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
            assert not sink.is_connected


def test_a_sink_says_nothing_before_it_runs() -> None:
    sink = RedisSink("redis://127.0.0.1:1", None, epoch=1)
    assert not sink.is_connected
    Source(sink).publish()
    assert sink.counters()["dropped"]["disconnected"] == 3
    assert sink.counters()["buffer_bytes"] == 0
