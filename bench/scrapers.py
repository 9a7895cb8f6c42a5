"""The load of bench/http_load.py, a process of its own: idle connections, scrapers of /metrics, viewers of the page.

Each line on stdin turns it on or off. Both are answered: when all connections are there, an empty line; when they are
closed again, what came of them as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys

from websockets.asyncio.client import connect

from mdfeed.serve import raise_descriptor_limit

SCRAPERS = 10  # keep-alive connections that share the rate
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Idle(asyncio.Protocol):
    """Says nothing; notes whether the far side ended it."""

    def __init__(self) -> None:
        self.is_lost = False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True


class Load:
    def __init__(self, port: int, idle: int, rate: float, viewers: int, symbol: str) -> None:
        self.port = port
        self.idle = idle
        self.rate = rate
        self.viewers = viewers
        self.wish = json.dumps({"subscribe": [symbol]})
        self.sizes: list[int] = []
        self.connections: list[tuple[asyncio.BaseTransport, Idle]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.sizes = []
        self.connections = [await loop.create_connection(Idle, "127.0.0.1", self.port) for _ in range(self.idle)]
        self.tasks = [asyncio.create_task(self.scrape(n)) for n in range(SCRAPERS if self.rate else 0)]
        self.tasks += [asyncio.create_task(self.look_on()) for _ in range(self.viewers)]

    async def stop(self) -> dict[str, float]:
        failed = [task.exception() for task in self.tasks if task.done()]
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        lost = sum(idle.is_lost for _, idle in self.connections)
        for transport, _ in self.connections:
            transport.close()
        sizes = self.sizes
        return {"answers": len(sizes), "bytes": max(sizes, default=0), "lost": lost, "failed": len(failed)}

    async def look_on(self) -> None:
        async with connect(f"ws://127.0.0.1:{self.port}/ws", proxy=None) as page:
            await page.send(self.wish)
            async for message in page:
                self.sizes.append(len(message))

    async def scrape(self, n: int) -> None:
        """Every SCRAPERS/rate seconds, staggered; late ones are made up for, so that the rate holds."""
        loop = asyncio.get_running_loop()
        period_s = SCRAPERS / self.rate
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            due = loop.time() + n * period_s / SCRAPERS
            while True:
                await asyncio.sleep(max(0.0, due - loop.time()))
                due += period_s
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                assert length is not None
                assert head.startswith(b"HTTP/1.1 200 ")
                self.sizes.append(len(await reader.readexactly(int(length[1]))))
        finally:
            writer.close()


async def run(load: Load) -> None:
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while line := await asked.readline():
        if line == b"on\n":
            await load.start()
            print(flush=True)
        else:
            print(json.dumps(await load.stop()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--idle", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--viewers", type=int, required=True)
    parser.add_argument("--symbol", required=True)
    options = parser.parse_args()
    raise_descriptor_limit()
    asyncio.run(run(Load(options.port, options.idle, options.rate, options.viewers, options.symbol)))


if __name__ == "__main__":
    main()
