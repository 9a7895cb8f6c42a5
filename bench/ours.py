"""mdfeed's side of bench/end_to_end.py: the real Stream, Feed and Redis sink, without the daemon around them."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from bench.outputs import OUTPUTS
from mdfeed import sinks, venues
from mdfeed._feed import Feed
from mdfeed.stream import Stream
from mdfeed.venues import LinePlan


async def serve(url: str, redis_url: str, symbol: str, snapshot: bytes) -> None:
    venue = venues.get("binance-usdm")
    feed = Feed(venue)
    feed.add(symbol)
    # Nothing may be dropped here, as the twin drops nothing: what Redis has not taken yet waits in the transport.
    sink = sinks.open(redis_url, feed.instruments, epoch=time.time_ns(), outputs=OUTPUTS, high_water_bytes=1 << 30)
    feed.attach(sink.outbox)
    serving = asyncio.create_task(sink.run())
    while not sink.is_connected:
        await asyncio.sleep(0.01)
    feed.snapshot(symbol, "capture", 5000, snapshot, time.time_ns())
    sink.flush()
    streams = tuple(f"{symbol.lower()}@{channel}" for channel in ("depth@0ms", "bookTicker", "trade"))
    try:
        await Stream(LinePlan("bench", "", url, streams), venue, feed, flush=sink.flush).run()
    finally:
        serving.cancel()


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--symbol", required=True)
    parser.add_argument("--snapshot", type=Path, required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.url, options.redis, options.symbol, options.snapshot.read_bytes()))


if __name__ == "__main__":
    main()
