"""A real `mdfeed serve` in a process of its own, and what a consumer sees of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from tests.conftest import ROOT


class Daemon:
    """The process, its port, and all that it has logged."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.log: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode().rstrip())

    async def get(self, path: str) -> tuple[int, Any]:
        """(status, body) of one GET; JSON bodies parsed. Status 0 while nothing listens."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, body = error.code, error.headers["Content-Type"], error.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, None
        return status, json.loads(body) if "json" in kind else body.decode()

    async def until_ready(self, within_s: float = 20.0) -> None:
        await self.until("/ready", lambda status, body: status == 200, within_s)

    async def until(self, path: str, is_so: Callable[[int, Any], bool], within_s: float = 20.0) -> Any:
        """Polls a path until it says so; fails with its last word and the log."""
        answer: tuple[int, Any] = (0, None)
        try:
            async with asyncio.timeout(within_s):
                while not is_so(*(answer := await self.get(path))):
                    assert self.process.returncode is None, self.log
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{path} still says {answer}; log: {self.log[-20:]}") from None
        return answer[1]

    async def end(self, number: int = signal.SIGTERM, within_s: float = 5.0) -> int:
        """Signals it and waits; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
            await self._reader
        return code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(*arguments: str, **environment: str) -> AsyncIterator[Daemon]:
    """`mdfeed serve` with these arguments and a free HTTP port; killed at the end if it is still there."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mdfeed",
        "serve",
        "--http",
        f"127.0.0.1:{port}",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    daemon = Daemon(process, port)
    try:
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def levels_of(payload: bytes, side: str) -> list[tuple[Decimal, Decimal]]:
    """One side of an `orderbook` payload, best first."""
    rows = json.loads(payload, parse_float=Decimal, parse_int=Decimal)[side]
    return sorted(((Decimal(price), qty) for price, qty in rows.items()), reverse=side == "bids")
