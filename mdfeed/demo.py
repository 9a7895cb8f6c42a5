"""`mdfeed demo`: the whole road on one machine, with nothing else installed.

A private Redis-compatible server, the simulated exchange in a process of its own, and the real daemon between them.
A plain subscriber at the far end counts what arrives. Answers for starting and ending the three, for the live view
and for the verdict at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio as redis
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mdfeed.config import load_config
from mdfeed.embedded import EmbeddedRedis
from mdfeed.errors import MdfeedError
from mdfeed.rest import Rest
from mdfeed.service import Service
from mdfeed.settings import NO_FOLDER
from mdfeed.venues import get as get_venue

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")
START_S = 60.0  # for the simulator to read a capture and listen
REFRESH_S = 0.25
EXIT_OK, EXIT_FAILED = 0, 1


@dataclass
class Arrived:
    """What a subscriber at the far end has received, by kind of channel."""

    messages: Counter[str] = field(default_factory=Counter)

    async def count(self, url: str) -> None:
        async with redis.Redis.from_url(url) as client, client.pubsub() as subscriber:
            await subscriber.psubscribe("market_data:*", "orderbook:*", "trades:*")
            async for message in subscriber.listen():
                if message["type"] == "pmessage":
                    self.messages[message["channel"].decode().partition(":")[0]] += 1


def run(seconds: float | None, ui: bool, symbols: list[str] | None, capture: Path | None) -> int:
    """Run for `seconds` (None: until interrupted); 0 when every book ended PROVED without a mismatch, else 1."""
    with EmbeddedRedis() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_demo(server.url, seconds, ui and sys.stdout.isatty(), symbols, capture))


async def _demo(
    redis_url: str, seconds: float | None, ui: bool, symbols: list[str] | None, capture: Path | None
) -> int:
    async with _simulator(symbols, capture) as (ws_url, rest_url):
        names = symbols or await _symbols_of(rest_url)
        config = load_config(
            None,
            {
                "symbols": names,
                "exchange_ws_url": ws_url,
                "exchange_rest_url": rest_url,
                "redis_url": redis_url,
                "http.host": "127.0.0.1",
                "health_port": 0,
                "state_dir": NO_FOLDER,
            },
        )
        service = Service(config)
        arrived = Arrived()
        interrupted = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
        serving = asyncio.create_task(service.run())
        counting = asyncio.create_task(arrived.count(redis_url))
        view = asyncio.create_task(_show(service, redis_url, seconds, ui))
        waiting = asyncio.create_task(interrupted.wait())
        try:
            await asyncio.wait((serving, view, waiting), return_when=asyncio.FIRST_COMPLETED)
            for track in service.feed.tracks.values():
                track.finish()
            verdict = _summarise(service, arrived)
        finally:
            service.stop()
            for task in (counting, view, waiting):
                task.cancel()
            await asyncio.wait((counting, view, waiting))
            await serving
        return verdict


@contextlib.asynccontextmanager
async def _simulator(symbols: list[str] | None, capture: Path | None) -> AsyncIterator[tuple[str, str]]:
    """The simulated exchange in a process of its own; gives its WebSocket and REST URLs."""
    arguments = ["--capture", str(capture)] if capture else ["--symbols", ",".join(symbols or SYMBOLS)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mdfeed", "sim", "--port", "0", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        said = b""
        async with asyncio.timeout(START_S):
            while not (found := re.search(rb"streams (ws://\S+), REST (http://\S+),", said)):
                line = await process.stderr.readline()
                said += line
                if not line:
                    raise MdfeedError(said.decode(errors="replace").strip() or "the simulated exchange did not start")
        yield found[1].decode(), found[2].decode()
    except TimeoutError:
        raise MdfeedError(f"the simulated exchange was not ready within {START_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _symbols_of(rest_url: str) -> list[str]:
    venue = get_venue("binance-usdm")
    rest = Rest(rest_url)
    try:
        return list(venue.parse_exchange_info(await rest.fetch(venue.exchange_info_request())))
    finally:
        rest.close()


async def _show(service: Service, redis_url: str, seconds: float | None, ui: bool) -> None:
    """The live view until the time is up; the addresses at the start, and the page's above the view."""
    while not service.http.is_listening:
        await asyncio.sleep(0.01)
    console = Console()
    page = f"http://127.0.0.1:{service.http.port}/"
    print(f"page {page}   metrics {page}metrics   redis {redis_url}", file=sys.stderr, flush=True)
    end_s = None if seconds is None else time.monotonic() + seconds
    before = dict.fromkeys(service.feed.tracks, 0)
    rates = dict(before)
    counted_s = time.monotonic()
    with Live(console=console, refresh_per_second=4, transient=True) if ui else contextlib.nullcontext() as live:
        while end_s is None or time.monotonic() < end_s:
            await asyncio.sleep(REFRESH_S if end_s is None else min(REFRESH_S, max(0.0, end_s - time.monotonic())))
            elapsed_s = time.monotonic() - counted_s
            if elapsed_s >= 1.0:
                for symbol, track in service.feed.tracks.items():
                    rates[symbol] = round((track.applied - before[symbol]) / elapsed_s)
                    before[symbol] = track.applied
                counted_s = time.monotonic()
            if live is not None:
                live.update(_table(service, rates))


def _table(service: Service, rates: dict[str, int]) -> Table:
    table = Table(
        "symbol",
        "bid",
        "ask",
        "spread",
        "state",
        "updates/s",
        "proved",
        title=f"mdfeed demo   page http://127.0.0.1:{service.http.port}/",
    )
    for symbol, track in service.feed.tracks.items():
        bid, ask, spread = track.book.best_bid, track.book.best_ask, track.book.spread
        table.add_row(
            symbol,
            f"{bid[0]:f}" if bid else "-",
            f"{ask[0]:f}" if ask else "-",
            f"{spread:f}" if spread is not None else "-",
            f"{track.state} ({track.reason})",
            str(rates[symbol]),
            f"{track.proof['match']:,}",
        )
    p50, p99 = (service.feed.processing.quantile(q) / 1000 for q in (0.5, 0.99))
    table.caption = f"in the feed p50 {p50:.1f} us, p99 {p99:.1f} us"
    return table


def _summarise(service: Service, arrived: Arrived) -> int:
    """Print what was proved; EXIT_OK when nothing is left to doubt."""
    tracks = service.feed.tracks
    for symbol, track in tracks.items():
        bid, ask, proof = track.book.best_bid, track.book.best_ask, track.proof
        print(
            f"{symbol:<12} {track.state:<8} {track.applied:>8,} diffs  proof: {proof['match']:,} match, "
            f"{proof['mismatch']} mismatch  gaps {track.gaps}  "
            f"best {f'{bid[0]:f}' if bid else '-'} / {f'{ask[0]:f}' if ask else '-'}  trades {track.trades:,}"
        )
    feed = service.feed
    p50, p99, p99_9 = (feed.processing.quantile(q) / 1000 for q in (0.5, 0.99, 0.999))
    print(f"in the feed: p50 {p50:.1f} us, p99 {p99:.1f} us, p99.9 {p99_9:.1f} us a frame")
    print("received from Redis: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(arrived.messages.items())))
    mismatches = sum(track.proof["mismatch"] for track in tracks.values())
    unproved = [symbol for symbol, track in tracks.items() if track.state != "PROVED"]
    if mismatches or unproved or not arrived.messages["market_data"]:
        print(f"NOT PROVED: {', '.join(unproved) or 'none'}; {mismatches} mismatches")
        return EXIT_FAILED
    print(f"all {len(tracks)} books PROVED, 0 mismatches")
    return EXIT_OK
