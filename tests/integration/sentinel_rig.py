"""A master, a replica and three Sentinels, all with passwords."""

from __future__ import annotations

import asyncio
import shlex
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import redis.asyncio

from mdfeed.embedded import EmbeddedRedis
from mdfeed.redis_url import parse_redis_url
from mdfeed.sentinel import find_master

NAME, SECRET, SENTINEL_SECRET = "mymaster", "s%s@me", "open/it"
CONF = f"""
requirepass {SENTINEL_SECRET}
sentinel sentinel-pass {SENTINEL_SECRET}
sentinel monitor {NAME} 127.0.0.1 {{port}} 2
sentinel auth-pass {NAME} {SECRET}
sentinel down-after-milliseconds {NAME} 1000
sentinel failover-timeout {NAME} 1000
"""


class Cluster:
    """Five servers in `folder`; an async context manager that waits until the Sentinels know everything."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._stack = AsyncExitStack()
        self.servers: list[EmbeddedRedis] = []
        self.sentinels: list[EmbeddedRedis] = []

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:s%25s%40me@{places}/{NAME}?sentinel_password=open%2Fit"

    @staticmethod
    def client(server: EmbeddedRedis, password: str = SECRET) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(port=server.port, password=password)

    def server_at(self, port: int) -> EmbeddedRedis:
        return next(server for server in self.servers if server.port == port)

    async def master_port(self) -> int | None:
        try:
            return (await find_master(parse_redis_url(self.url))).port
        except ConnectionError:
            return None

    async def until_master_is(self, port: int, within_s: float = 20.0) -> None:
        started = time.monotonic()
        while await self.master_port() != port:
            assert time.monotonic() - started < within_s, "no failover"
            await asyncio.sleep(0.01)

    async def __aenter__(self) -> Cluster:
        login = ["--requirepass", SECRET, "--masterauth", SECRET, "--repl-diskless-sync-delay", "0"]
        try:
            master = await self._start(self._path, login, unix=True)
            follow = ["--replicaof", f"127.0.0.1 {master.port}"]
            self.servers = [master, await self._start(self._path, login + follow, unix=True)]
            await self._until(self.servers[1], SECRET, "replication", {"master_link_status": "up"})
            for index in range(3):
                conf, script = self._folder / f"{index}.conf", self._folder / f"{index}.sh"
                conf.write_text(CONF.format(port=master.port))
                script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(self._path))} {conf} --sentinel --port "$2"\n')
                script.chmod(0o700)
                self.sentinels.append(await self._start(script, [], unix=False))
            await self.until_settled()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def until_settled(self) -> None:
        """Every Sentinel sees the master up, one replica and two others."""
        told = {"status": "ok", "slaves": 1, "sentinels": 3}
        for sentinel in self.sentinels:
            await self._until(sentinel, SENTINEL_SECRET, "sentinel", told)

    async def _start(self, path: Path, args: list[str], *, unix: bool) -> EmbeddedRedis:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        return await self._stack.enter_async_context(EmbeddedRedis(path, port=port, unix=unix, args=args))

    async def _until(self, server: EmbeddedRedis, password: str, section: str, told: dict[str, Any]) -> None:
        async with asyncio.timeout(20), self.client(server, password) as client:
            while True:
                info = await client.info(section)
                if told.items() <= (info | info.get("master0", {})).items():
                    return
                await asyncio.sleep(0.02)
