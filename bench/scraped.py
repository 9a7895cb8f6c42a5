"""The consumer of bench/http_load.py: Service's own feed, sink and HTTP server; frames come from a blaster.

What Service asks of the venue's REST is left out: snapshots are given, nothing is listed. Further symbols hold the
same book under other names, so that /metrics has all their rows. Prints its HTTP port; then, for each line on stdin,
what was measured since the line before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path

from mdfeed._stats import Histogram
from mdfeed.config import load_config
from mdfeed.serve import raise_descriptor_limit
from mdfeed.service import TICK_S, Service
from mdfeed.stream import Stream
from mdfeed.venues import LinePlan

SEED_FRAMES = 40  # of the session's start, for each further symbol


def fill_others(service: Service, symbol: str, snapshot: bytes, frames: list[bytes]) -> None:
    others = [other for other in service.feed.tracks if other != symbol]
    line = service.feed.open_line("others")
    for other in others:
        service.feed.snapshot(other, "capture", 5000, snapshot, time.time_ns())
        for frame in frames:
            renamed = frame.replace(symbol.encode(), other.encode())
            renamed = renamed.replace(symbol.lower().encode(), other.lower().encode())
            service.feed.receive(line, renamed, time.time_ns())
        service.sink.flush()


async def tick(service: Service) -> None:
    while True:
        service.feed.tick(time.time_ns())
        service.feed.publisher.events.clear()
        service.sink.flush()
        await asyncio.sleep(TICK_S)


def take(histogram: Histogram) -> dict[str, float]:
    figures = {"count": histogram.count, "p50": histogram.quantile(0.5) / 1000, "p99": histogram.quantile(0.99) / 1000}
    histogram.reset()
    return figures


async def serve(service: Service, symbol: str, url: str, snapshot: bytes, frames: list[bytes]) -> None:
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    await service.http.start()
    service.lag.start()
    tasks = [asyncio.create_task(service.sink.run())]
    while not service.sink.is_connected:
        await asyncio.sleep(0.01)
    fill_others(service, symbol, snapshot, frames[:SEED_FRAMES])
    service.feed.snapshot(symbol, "capture", 5000, snapshot, time.time_ns())
    service.sink.flush()
    streams = tuple(f"{symbol.lower()}@{channel}" for channel in ("depth@0ms", "bookTicker", "trade"))
    stream = Stream(LinePlan("bench", "", url, streams), service.venue, service.feed, flush=service.sink.flush)
    service.lines.streams.append(stream)
    tasks += [asyncio.create_task(stream.run()), asyncio.create_task(tick(service))]
    print(service.http.port, flush=True)
    while await asked.readline():
        feed = service.feed
        told = {"processing": take(feed.processing), "receive_to_write": take(feed.receive_to_write)}
        print(json.dumps(told), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await service.lag.stop()
    await service.http.stop()
    await service.sink.close(1.0)


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--symbol", required=True)
    parser.add_argument("--symbols", type=int, required=True, help="how many, the fed one included")
    parser.add_argument("--snapshot", type=Path, required=True)
    parser.add_argument("--frames", type=Path, required=True, help="one raw frame a line")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # not that the blaster hangs up at its end
    raise_descriptor_limit()
    values = {
        "symbols": [options.symbol, *(f"BENCH{n}USDT" for n in range(1, options.symbols))],
        "redis_url": options.redis,
        "redis.leases": False,
        "http.host": "127.0.0.1",
        "health_port": 0,
        "state_dir": "none",
    }
    with options.frames.open("rb") as file:
        frames = [line.rstrip(b"\n") for _, line in zip(range(SEED_FRAMES), file, strict=False)]

    async def run() -> None:
        service = Service(load_config(None, values, {}))
        await serve(service, options.symbol, options.url, options.snapshot.read_bytes(), frames)

    uvloop.run(run())


if __name__ == "__main__":
    main()
