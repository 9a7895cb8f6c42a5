"""The daemon as its users run it: a process between a simulated exchange and a real Redis-compatible server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
import redis.asyncio as redis

from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.script import Script
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.exchange.spec import parse
from tests.conftest import ROOT
from tests.integration.daemon import free_port, levels_of, serving

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def write_config(folder: Path, exchange: SimulatedExchange, redis_url: str, **more: object) -> str:
    """A file as the earlier service had it: the old keys, as JSON (which is YAML)."""
    path = folder / "config.yaml"
    keys = {
        "symbols": list(SYMBOLS),
        "exchange_ws_url": f"{exchange.ws_url}/stream",
        "exchange_rest_url": exchange.rest_url,
        "redis_url": redis_url,
        "reconnect_delay_ms": 100,
        "max_reconnect_delay_ms": 400,
        **more,
    }
    path.write_text(json.dumps(keys))
    return str(path)


async def listen(url: str, seconds: float, until_id: int = 1 << 62) -> dict[str, list[bytes]]:
    """What a pattern subscriber of the old channels receives, for `seconds` or until a book has reached an id."""
    received = defaultdict(list)
    async with redis.Redis.from_url(url) as client, client.pubsub() as subscriber:
        await subscriber.psubscribe("market_data:*", "orderbook:*", "trades:*")
        try:
            async with asyncio.timeout(seconds):
                async for message in subscriber.listen():
                    if message["type"] == "pmessage":
                        received[message["channel"].decode()].append(message["data"])
                        said = json.loads(message["data"])
                        if said.get("initialized") and said["last_update_id"] >= until_id:
                            break
        except TimeoutError:
            pass
    return received


@pytest.mark.parametrize("transport", ["picows", "websockets"])
@pytest.mark.parametrize("routes", ["split", "single"])
async def test_published_books_are_the_exchanges(tmp_path, transport, routes):
    async with SimulatedExchange(SYMBOLS, seed=4, rate=80, routes=routes) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url, transport=transport)
            async with serving("-c", config) as daemon:
                await daemon.until_ready()
                received = await listen(server.url, 3.0)
                assert await daemon.end() == 0
                compared = 0
                for symbol in SYMBOLS:
                    for payload in received[f"orderbook:{symbol}"]:
                        book = json.loads(payload)
                        assert book["initialized"] is True
                        truth = exchange.market.truth(symbol).book_at(book["last_update_id"])
                        for side in ("bids", "asks"):
                            exact = [(Decimal(p), Decimal(q)) for p, q in truth.levels(side, 20)]
                            assert levels_of(payload, side) == exact
                            compared += 1
                    assert len(received[f"market_data:{symbol}"]) == len(received[f"orderbook:{symbol}"])
                    ids = [json.loads(payload)["trade_id"] for payload in received[f"trades:{symbol}"]]
                    assert ids == list(range(ids[0], ids[0] + len(ids)))
                assert compared > 60


async def test_keys_are_as_the_contract_says(tmp_path):
    async with SimulatedExchange(SYMBOLS, rate=80) as exchange:
        with EmbeddedRedis() as server:
            async with serving("-c", write_config(tmp_path, exchange, server.url)) as daemon:
                await daemon.until_ready()
                await asyncio.sleep(1.0)
                async with redis.Redis.from_url(server.url) as client:
                    value = json.loads(await client.get("market_data:BTCUSDT"))
                    names = [
                        "symbol",
                        "last_price",
                        "bid_price",
                        "ask_price",
                        "volume_24h",
                        "high_24h",
                        "low_24h",
                        "updated_at",
                    ]
                    assert list(value)[: len(names)] == names
                    assert value["bid_price"] < value["ask_price"]
                    assert value["volume_24h"] > 0
                    assert value["low_24h"] <= value["high_24h"]
                    assert datetime.fromisoformat(value["updated_at"]).utcoffset().total_seconds() == 0
                    assert 290 < await client.ttl("market_data:BTCUSDT") <= 300
                    keys = {key.decode() for key in await client.keys("*")}
                    assert {key for key in keys if not key.startswith("mdfeed:")} == {
                        f"market_data:{symbol}" for symbol in SYMBOLS
                    }
                    state = json.loads(await client.get("mdfeed:state:BTCUSDT"))
                    assert state["state"] in ("LIVE", "PROVED")
                assert await daemon.end() == 0


async def test_http_tells_the_truth_about_redis_and_books(tmp_path):
    async with SimulatedExchange(SYMBOLS, rate=80) as exchange:
        with EmbeddedRedis() as server:
            async with serving("-c", write_config(tmp_path, exchange, server.url)) as daemon:
                await daemon.until_ready()
                status, health = await daemon.get("/health")
                assert (status, health["service"], health["status"]) == (200, "market-data", "healthy")
                status, metrics = await daemon.get("/metrics")
                assert status == 200
                assert 'mdfeed_book_state{state="LIVE",symbol="BTCUSDT",venue="binance-usdm"}' in metrics
                server.kill()
                body = await daemon.until("/ready", lambda status, body: status == 503, within_s=2.5)
                assert any("redis" in reason for reason in body["reasons"])
                assert (await daemon.get("/health"))[0] == 200
                server.start()
                await daemon.until_ready(3.0)
                async with redis.Redis.from_url(server.url) as client:
                    for symbol in SYMBOLS:
                        assert await client.get(f"market_data:{symbol}")
                assert await daemon.end() == 0


async def test_the_earlier_names_count_what_redis_was_handed(tmp_path):
    options = {"metrics": {"legacy_names": True}, "state_dir": "kept", "redis": {"trades_maxlen": 7}}
    async with SimulatedExchange(SYMBOLS, rate=80) as exchange:
        with EmbeddedRedis() as server:
            async with serving("-c", write_config(tmp_path, exchange, server.url, **options)) as daemon:
                await daemon.until_ready()
                metrics = await daemon.until("/metrics", lambda status, body: bool(counts_of(body, "trade")))
                assert counts_of(metrics, "orderbook").keys() == counts_of(metrics, "trade").keys() == set(SYMBOLS)
                assert counts_of(metrics, "orderbook")["BTCUSDT"] > 0
                assert 'websocket_connected{symbol="BTCUSDT"} 1.0' in metrics
                assert 'mdfeed_forensics_files_total{result="written",venue="binance-usdm"} 0.0' in metrics
                assert await daemon.end() == 0
    assert json.loads(next((tmp_path / "kept").glob("weight-127.0.0.1-*.json")).read_bytes())["used"] > 0


def counts_of(metrics: str, kind: str) -> dict[str, float]:
    """redis_publishes_total of a type by symbol."""
    found = re.findall(rf'^redis_publishes_total{{symbol="(\w+)",type="{kind}"}} (\S+)$', metrics, re.MULTILINE)
    return {symbol: float(count) for symbol, count in found}


async def test_a_state_folder_that_cannot_be_made_ends_with_78(tmp_path):
    (tmp_path / "config.yaml").write_text("state_dir: config.yaml/kept\n")
    async with serving("-c", str(tmp_path / "config.yaml")) as daemon:
        assert await daemon.process.wait() == 78
        await daemon.end()
        assert "config.yaml:1: state_dir: " in daemon.log[-1]


async def test_no_redis_and_no_exchange_keep_the_daemon_waiting(tmp_path):
    port = free_port()
    async with serving(
        "--symbols",
        "BTCUSDT",
        "--redis-url",
        f"redis://127.0.0.1:{free_port()}",
        MDFEED_EXCHANGE_WS_URL=f"ws://127.0.0.1:{port}/stream",
        MDFEED_EXCHANGE_REST_URL=f"http://127.0.0.1:{port}",
        MDFEED_RECONNECT_DELAY_MS="100",
        MDFEED_MAX_RECONNECT_DELAY_MS="200",
    ) as daemon:
        body = await daemon.until("/ready", lambda status, body: status == 503)
        assert any("redis" in reason for reason in body["reasons"])
        assert any(reason.startswith("BTCUSDT: COLD") for reason in body["reasons"])
        await asyncio.sleep(1.5)
        assert (await daemon.get("/health"))[0] == 200
        about_redis = [line for line in daemon.log if "redis at" in line]
        about_venue = [line for line in daemon.log if "no route to the venue" in line]
        assert len(about_redis) == 1
        assert len(about_venue) == 1
        assert not any("Traceback" in line for line in daemon.log)
        # The exchange comes up where nothing listened: the daemon finds it by itself.
        async with SimulatedExchange(["BTCUSDT"], port=port):
            await daemon.until(
                "/ready", lambda status, body: not any("BTCUSDT" in reason for reason in body["reasons"])
            )
        assert await daemon.end() == 0


async def finished(*arguments: str) -> tuple[int, list[str]]:
    async with serving(*arguments) as daemon:
        async with asyncio.timeout(10):
            code = await daemon.process.wait()
            await daemon.end()
        return code, daemon.log


async def test_bad_config_ends_with_78_and_its_place(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("symbols: [BTCUSDT]\nredis_urll: redis://localhost\n")
    code, log = await finished("-c", str(path))
    assert code == 78
    assert len(log) == 1
    assert "config.yaml:2:1: redis_urll" in log[0]
    assert "redis_url" in log[0].split("redis_urll", 1)[1]


async def test_unknown_venue_ends_with_78(tmp_path):
    code, log = await finished("--venue", "binance-usdn")
    assert code in (2, 78)
    assert "binance-usdm" in log[-1]


async def test_a_taken_port_ends_with_1_and_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, log = await finished("--http", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 1
    assert len(log) == 1
    assert "port is taken" in log[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_ends_in_order(tmp_path, number, code):
    async with SimulatedExchange(SYMBOLS, rate=80) as exchange:
        with EmbeddedRedis() as server:
            async with serving("-c", write_config(tmp_path, exchange, server.url)) as daemon:
                await daemon.until_ready()
                assert await daemon.end(number) == code
                assert daemon.log[-1].endswith("stopped")
                async with redis.Redis.from_url(server.url) as client:
                    # What it last said is that its books are stale, so nobody takes the keys for live ones.
                    assert json.loads(await client.get("mdfeed:state:BTCUSDT"))["state"] == "STALE"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a process catches is read from /proc")
async def test_a_stop_before_anything_has_begun_is_in_order_too(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mdfeed", "serve", "--redis-url", "redis://127.0.0.1:9", stderr=asyncio.subprocess.PIPE
    )
    status = Path(f"/proc/{process.pid}/status")
    async with asyncio.timeout(20):
        while not int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) & 1 << signal.SIGTERM - 1:
            await asyncio.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")


async def test_shipped_config_and_shm_name(tmp_path):
    async with SimulatedExchange(SYMBOLS) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url, shm_name="ring")
            async with serving("-c", config) as daemon:
                await daemon.until_ready()
                assert sum("no shared-memory ring yet" in line for line in daemon.log) == 1
                assert await daemon.end() == 0
    assert (ROOT / "config.yaml").exists()


async def replay_document(files: list[Path]) -> dict:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mdfeed", "replay", "--json", *map(str, files), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


async def test_a_real_capture_through_exchange_and_daemon(tmp_path, data_dir):
    """Played through the simulated exchange, the last published book is the replayed one."""
    capture = data_dir / "hft" / "usdm" / "btcusdt_20240718.gz"
    from mdfeed.exchange.playback import Playback

    expected = (await replay_document([capture]))["books"]["BTCUSDT"]
    exchange = SimulatedExchange(source=Playback([capture], speed=20.0, hold_s=1.0))
    async with exchange:
        with EmbeddedRedis() as server:
            async with serving("-c", write_config(tmp_path, exchange, server.url, symbols=["BTCUSDT"])) as daemon:
                received = await listen(server.url, 90.0, expected["last_update_id"])
                last = json.loads(received["orderbook:BTCUSDT"][-1])
                assert last["last_update_id"] == expected["last_update_id"]
                bids = levels_of(received["orderbook:BTCUSDT"][-1], "bids")
                asks = levels_of(received["orderbook:BTCUSDT"][-1], "asks")
                assert [str(v.normalize()) for v in bids[0]] == [
                    str(Decimal(v).normalize()) for v in expected["best_bid"]
                ]
                assert [str(v.normalize()) for v in asks[0]] == [
                    str(Decimal(v).normalize()) for v in expected["best_ask"]
                ]
                assert await daemon.end() == 0


async def test_a_ban_outlives_a_kill_without_any_configuration(tmp_path):
    fault = parse("rest:status=418,retry_after=60")
    async with SimulatedExchange(SYMBOLS, seam=Script([fault])) as exchange:
        config = write_config(tmp_path, exchange, "redis://127.0.0.1:1")
        async with serving("-c", config) as daemon:
            await daemon.until("/ready", lambda status, body: "banned by the venue" in str(body))
            await daemon.end(signal.SIGKILL)
        asked, dialled = fault.count, len(exchange.links)
        async with serving("-c", config) as daemon:
            await daemon.until("/ready", lambda status, body: "the venue forbids requests until" in str(body))
            await asyncio.sleep(1.0)
            assert (fault.count, len(exchange.links)) == (asked, dialled)
