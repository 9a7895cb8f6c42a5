"""mdfeed doctor against a simulated exchange, real servers, and servers that refuse."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from mdfeed import doctor, redis_checks
from mdfeed.config import load_config
from mdfeed.doctor import EXIT, Finding
from mdfeed.embedded import EmbeddedRedis, find_servers
from mdfeed.exchange.faults import Answer, Asked, Seam
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.settings import Auth
from tests.http_rig import rig_of
from tests.integration.daemon import free_port
from tests.wire import certificate

pytestmark = pytest.mark.skipif(not find_servers(), reason="no Redis-compatible server on this machine")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(port=0) as server:
        yield server


def config_file(folder: Path, exchange: SimulatedExchange | None, redis_url: str, **more: Any) -> Path:
    """By default everything is well: a loopback port, a market that exists."""
    nowhere = f"127.0.0.1:{free_port()}"
    keys = {
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "exchange_ws_url": f"{exchange.ws_url}/stream" if exchange else f"ws://{nowhere}/stream",
        "exchange_rest_url": exchange.rest_url if exchange else f"http://{nowhere}",
        "redis_url": redis_url,
        "health_port": free_port(),
        "http": {"host": "127.0.0.1"},
        **more,
    }
    path = folder / "c.yaml"
    path.write_text(json.dumps(keys))
    return path


async def findings(path: Path, within_s: float = 20.0) -> list[Finding]:
    return await doctor._examine(path, {}, within_s, lambda line: None)


def of(found: list[Finding], check: str, level: str) -> str:
    return " | ".join(finding.text for finding in found if (finding.check, finding.level) == (check, level))


@pytest.mark.parametrize("routes", ["split", "single"])
async def test_nothing_to_complain_about(
    tmp_path: Path, server: EmbeddedRedis, routes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_checks, "SLOW_REDIS_MS", 1e6)  # how busy this machine is is not the question
    monkeypatch.setattr(doctor, "REST_S", 60.0)
    async with SimulatedExchange(("BTCUSDT", "ETHUSDT"), rate=200, routes=routes) as exchange:
        found = await findings(config_file(tmp_path, exchange, server.tcp_url))
    assert [finding for finding in found if finding.level != "ok"] == []
    assert {"config", "redis", "clock", "weight", "streams", "http", "unit"} - {item.check for item in found} <= {
        "unit"
    }
    assert "streams speak" in of(found, "streams", "ok")
    assert "are cut off" in of(found, "redis", "ok")


REFUSALS = {451: "geo_blocked", 403: "forbidden", 418: "banned", 429: "rate_limited"}


@pytest.mark.parametrize("status", REFUSALS)
async def test_refusals_are_told_apart(tmp_path: Path, server: EmbeddedRedis, status: int) -> None:
    class Refusing(Seam):
        def asked(self, asked: Asked) -> Answer | None:
            return Answer(status, b"{}", {"Retry-After": "7"})

    async with SimulatedExchange(("BTCUSDT", "ETHUSDT"), seam=Refusing()) as exchange:
        found = await findings(config_file(tmp_path, exchange, server.tcp_url, exchange_routes="split"))
    for check in ("rest", "streams"):
        assert f": {REFUSALS[status]}: " in of(found, check, "error")
        assert str(status) in of(found, check, "error")


async def test_silent_streams_and_foreign_markets(tmp_path: Path, server: EmbeddedRedis) -> None:
    class Mute(Seam):
        def frame(self, wire: object, stream: str, frame: bytes) -> tuple[tuple[float, bytes], ...]:
            return () if "aggTrade" in stream or "icker" in stream else ((0.0, frame),)

    async with SimulatedExchange(("BTCUSDT",), rate=200, seam=Mute()) as exchange:
        keys = {"symbols": ["BTCUSDT", "NOPEUSDT"], "exchange_routes": "single"}
        found = await findings(config_file(tmp_path, exchange, server.tcp_url, **keys), 2.0)
    assert "silent for 2 s" in of(found, "streams", "warning")
    assert "NOPEUSDT: binance-usdm has no such market" in of(found, "symbols", "error")


async def test_an_exchange_and_a_redis_that_are_not_there(tmp_path: Path) -> None:
    found = await findings(config_file(tmp_path, None, f"redis://:hunter2@127.0.0.1:{free_port()}"), 1.0)
    assert of(found, "redis", "error").endswith(": connection refused")
    assert "refused: connection refused" in of(found, "rest", "error")
    assert "refused: connection refused" in of(found, "streams", "error")
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("unix:///nowhere/redis.sock", "no such file or directory"),
        ("redis://no.such.host.invalid", "the host's name does not resolve"),
    ],
)
async def test_why_there_is_no_redis(tmp_path: Path, url: str, says: str) -> None:
    found = await findings(config_file(tmp_path, None, url), 0.1)
    assert says in of(found, "redis", "error")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_redis_that_does_not_answer(tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_checks, "REDIS_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        found = await findings(config_file(tmp_path, None, f"{scheme}://127.0.0.1:{mute.getsockname()[1]}"), 0.1)
    assert of(found, "redis", "error").endswith(": no answer in time")


async def test_what_redis_will_not_do(tmp_path: Path) -> None:
    with EmbeddedRedis(port=0, args=["--requirepass", "hunter2", "--maxmemory", "64mb"]) as own:
        url = own.tcp_url.replace("redis://", "redis://:hunter2@")
        async with redis.Redis.from_url(url) as client:
            await client.rpush("market_data:BTCUSDT", "x")
            await client.set("orders:1", "x")
            await client.execute_command("ACL", "SETUSER", "poor", "on", ">hunter2", "~*", "&*", "+@all", "-eval")
            await client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
        found = await findings(config_file(tmp_path, None, url), 1.0)
        assert "market_data:BTCUSDT is a list" in of(found, "redis", "error")
        assert "64 MiB with noeviction" in of(found, "redis", "warning")
        assert "pub/sub output is unlimited" in of(found, "redis", "warning")
        assert "1 under orders:" in of(found, "redis", "ok")
        poor = await findings(config_file(tmp_path, None, url.replace(":hunter2@", "poor:hunter2@")), 1.0)
        assert "cannot use leases (EVAL)" in of(poor, "redis", "error")
        wrong = await findings(config_file(tmp_path, None, own.tcp_url.replace("redis://", "redis://:hunter3@")), 1.0)
        assert "the login was refused" in of(wrong, "redis", "error")
        assert not {"hunter2", "hunter3"} & set(str([*found, *poor, *wrong]).replace("'", " ").split())


async def test_a_slow_redis(tmp_path: Path, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_checks, "SLOW_REDIS_MS", 0.0)
    found = await findings(config_file(tmp_path, None, server.tcp_url), 0.1)
    assert " ms, above 0" in of(found, "redis", "warning")


@pytest.mark.parametrize(
    ("info", "level", "says"),
    [
        ({"redis_version": "4.0.14"}, "error", "redis 4.0.14 has no streams"),
        ({"redis_version": "5.0.3"}, "warning", "redis 5.0.3 has no users"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok", "valkey 9.1.2"),
        ({"redis_version": "8.0.0"}, "ok", "redis 8.0.0"),
        ({}, "ok", "redis unknown"),
    ],
)
async def test_versions_of_redis(info: dict[str, str], level: str, says: str) -> None:
    class Client:
        async def info(self, section: str) -> dict[str, str]:
            return info

    found = [finding async for finding in redis_checks._version(Client(), load_config(None))]  # type: ignore[arg-type]
    assert says in of(found, "redis", level)


async def test_a_clock_that_is_off_and_a_weight_that_is_used_up(
    tmp_path: Path, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strange(Seam):
        def asked(self, asked: Asked) -> Answer | None:
            if not asked.path.endswith("/time"):
                return None
            body = json.dumps({"serverTime": time.time_ns() // 10**6 - 3000}).encode()
            return Answer(200, body, {"X-MBX-USED-WEIGHT-1M": "2100"})

    monkeypatch.setattr(doctor, "REST_S", 1.0)
    async with SimulatedExchange(("BTCUSDT", "ETHUSDT"), rate=200, seam=Strange()) as exchange:
        found = await findings(config_file(tmp_path, exchange, server.tcp_url), 0.1)
    offset = re.search(r"clock is -(\d+) ms off ours", of(found, "clock", "warning"))
    assert offset
    assert 2500 < int(offset[1]) < 3500
    assert "of 2400 used in this minute, the symbols were not looked up within 1 s" in of(found, "weight", "warning")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b'{"serverTime":"soon"}'])
async def test_a_stranger_in_the_venues_place(tmp_path: Path, server: EmbeddedRedis, body: bytes) -> None:
    class Stranger(Seam):
        def asked(self, asked: Asked) -> Answer | None:
            return Answer(200, body)

    async with SimulatedExchange(("BTCUSDT",), seam=Stranger()) as exchange:
        found = await findings(config_file(tmp_path, exchange, server.tcp_url), 0.1)
    assert "the answer is not this venue's: " in of(found, "rest", "error")


async def test_doors_ports_and_a_config_that_is_none(tmp_path: Path, server: EmbeddedRedis) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = await findings(config_file(tmp_path, None, "redis://192.0.2.1", health_port=port), 0.1)
    assert f"127.0.0.1:{port}: the port is taken by another program; set" in of(found, "http", "error")
    assert "redis at 192.0.2.1:6379 is used without a password" in of(found, "doors", "warning")
    found = await findings(config_file(tmp_path, None, server.tcp_url, http={"host": "0.0.0.0"}), 0.1)
    assert "is open to everybody who can reach it: set http.auth" in of(found, "doors", "warning")
    http = {"host": "0.0.0.0", "auth": {"token": "sesame-sesame-12"}}
    found = await findings(config_file(tmp_path, None, "redis://:p@192.0.2.1", http=http), 0.1)
    doors = of(found, "doors", "warning")
    assert "travel in clear: set http.tls" in doors
    assert "use rediss://" in doors
    path = config_file(tmp_path, None, server.tcp_url, http={"hots": "x"})
    assert [finding.check for finding in await findings(path)] == ["config"]
    assert "unknown key; did you mean http.host?" in of(await findings(path), "config", "error")


async def test_the_page_of_a_running_daemon(tmp_path: Path, server: EmbeddedRedis) -> None:
    context, cert = certificate(tmp_path, "IP:127.0.0.1")
    tls = {"cert": str(cert), "key": str(tmp_path / "key.pem")}
    other = tmp_path / "other"
    other.mkdir()
    _, strange = certificate(other, "IP:127.0.0.1")
    auth = {"token": "sesame-sesame-12"}
    for running, has_tls, http, level, text in (
        (Auth(), False, {}, "ok", "the page answers: version "),
        (Auth(**auth), False, {"auth": auth}, "ok", "the page answers, and asks for credentials"),
        (Auth(**auth), True, {"auth": auth, "tls": tls}, "ok", "the page answers, and asks for credentials"),
        (Auth(), True, {"tls": tls}, "ok", "2 symbols"),
        (Auth(), False, {"auth": auth}, "error", "restart the daemon"),
        (
            Auth(),
            True,
            {"tls": {"cert": str(strange), "key": str(other / "key.pem")}},
            "",
            "the port is taken by another program",
        ),
    ):
        async with rig_of(running, context if has_tls else None) as rig:
            file = config_file(
                tmp_path, None, "redis://192.0.2.1", health_port=rig.port, http={"host": "127.0.0.1", **http}
            )
            found = await findings(file, 0.1)
        said = of(found, "page", level) if level else of(found, "http", "error").capitalize()
        assert text.lower() in said.lower(), found
        assert "sesame" not in str(found)


def test_the_unit_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(said: str) -> list[Finding]:
        script = tmp_path / "systemctl"
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return list(doctor._unit())

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "not installed" in of(install("LoadState=not-found"), "unit", "ok")
    well = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNRestarts=2\n"
    limits = "MemoryMax=1\nTasksMax=100\nCPUQuotaPerSecUSec=500ms\nWatchdogUSec=10s"
    assert of(install(well + limits), "unit", "ok") == "market-data.service is active, enabled, restarted 2 times"
    bare = install(
        well.replace("enabled", "disabled")
        + "MemoryMax=infinity\nTasksMax=9\nCPUQuotaPerSecUSec=infinity\nWatchdogUSec=0"
    )
    assert "active, disabled" in of(bare, "unit", "warning")
    assert "no MemoryMax" in of(bare, "unit", "warning")
    assert "no WatchdogUSec" in of(bare, "unit", "warning")
    assert "no TasksMax" not in of(bare, "unit", "warning")


@pytest.mark.parametrize("level", EXIT)
def test_the_worst_finding_is_the_exit_code(level: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    async def examine(*arguments: Any) -> list[Finding]:
        return [Finding("a", "ok", "fine"), Finding("b", level, "so so"), Finding("c", "ok", "fine")]

    monkeypatch.setattr(doctor, "_examine", examine)
    assert doctor.run(None, {}, True, 1.0) == EXIT[level] == {"ok": 0, "warning": 3, "error": 1}[level]
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["findings"][1]["text"]) == (level, "so so")
    assert asyncio.run(examine())[1].level == level
