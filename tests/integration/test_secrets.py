"""No secret in anything that mdfeed says, on the paths where things go wrong, at the loudest level."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from mdfeed.embedded import EmbeddedRedis, find_servers
from tests.conftest import ROOT
from tests.integration.daemon import free_port, serving

SECRETS = ("hunter2redis", "hunter2token-token", "hunter2basic", "hunter2venue")


def write_config(folder: Path, redis_url: str, port: int, log_format: str) -> str:
    keys = {
        "symbols": ["BTCUSDT"],
        "exchange_ws_url": f"ws://ops:hunter2venue@127.0.0.1:{port}/stream",
        "exchange_rest_url": f"http://ops:hunter2venue@127.0.0.1:{port}",
        "redis_url": redis_url,
        "reconnect_delay_ms": 50,
        "max_reconnect_delay_ms": 100,
        "http": {"auth": {"token": "hunter2token-token", "user": "ops", "password": "hunter2basic"}},
        "log": {"level": "debug", "format": log_format},
    }
    path = folder / "c.yaml"
    path.write_text(json.dumps(keys))
    return str(path)


async def mdfeed(*arguments: str, folder: Path, **environment: str) -> str:
    """Everything that one command says, exit code included."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mdfeed", *arguments, cwd=folder, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    return f"{said.decode()} -> {process.returncode}"


def check(said: str) -> None:
    assert [secret for secret in SECRETS if secret in said] == [], said


@pytest.mark.parametrize("log_format", ["text", "json", "journal"])
@pytest.mark.skipif(not find_servers(), reason="no Redis-compatible server on this machine")
async def test_the_daemon_with_everything_going_wrong(tmp_path: Path, log_format: str) -> None:
    with EmbeddedRedis(port=0, args=["--requirepass", "another"]) as server:
        # The login is refused first, then nobody is there.
        url = server.tcp_url.replace("redis://", "redis://ops:hunter2redis@")
        async with serving("-c", write_config(tmp_path, url, free_port(), log_format)) as daemon:
            async with asyncio.timeout(20):
                while not any("redis at" in line for line in daemon.log):
                    await asyncio.sleep(0.05)
            assert (await daemon.get("/ready"))[0] == 401
            server.kill()
            await asyncio.sleep(1.5)
            assert await daemon.end() == 0
    assert len(daemon.log) > 3
    check("\n".join(daemon.log))


async def test_every_command_and_every_mistake(tmp_path: Path) -> None:
    path = write_config(tmp_path, f"redis://ops:hunter2redis@127.0.0.1:{free_port()}", free_port(), "text")
    for arguments in (
        ("config", "show", "-c", path),
        ("config", "check", "-c", path),
        ("--debug", "doctor", "--within", "0.2", "-c", path),
        ("doctor", "--json", "--within", "0.2", "-c", path),
        ("--debug", "inspect", "-c", path),
        ("inspect", "-c", path, "--redis-url", "redis://:hunter2redis@127.0.0.1:1"),
        ("inspect", "-c", path, "--redis-url", "redis://:hunter2redis@h:x"),
        ("serve", "-c", path, "--redis-url", "redis://:hunter2redis@h/one?x=1"),
        ("serve", "-c", path, "--redis-url", "http://:hunter2redis@h"),
        ("serve", "-c", path, "--redis-url", "rediss://:hunter2redis@h?ssl_ca_certs=/nowhere"),
    ):
        check(await mdfeed(*arguments, folder=tmp_path))
    wrong = tmp_path / "wrong.yaml"
    for text in (
        "redis_url: [redis://:hunter2redis@h]",
        "redis_url: {a: hunter2redis}",
        "redis_url: 'redis://:hunter2redis@h:x'",
        "redis_url: 'redis://:hunter2redis @h'",
        "http: {auth: {token: 'hunter2token-token!'}}",
        "http: {auth: {password: [hunter2basic]}}",
        "http: {auth: {user: u, password: hunter2basic}, tls: {cert: x}}",
    ):
        wrong.write_text(text)
        said = await mdfeed("config", "check", "-c", str(wrong), folder=tmp_path)
        assert said.endswith("-> 78"), said
        check(said)
    check(await mdfeed("config", "check", folder=tmp_path, MDFEED_REDIS_URL="hunter2redis://x"))
    check(await mdfeed("config", "check", folder=tmp_path, MDFEED_HTTP_AUTH_TOKEN="hunter2token-token!"))
