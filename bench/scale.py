"""How many symbols one daemon carries: time to proved books, request weight, resident memory.

The simulated exchange (in this process, on loopback, counting weight as the venue does), a private Redis and the real
`mdfeed serve`. The run ends when every book is full and every symbol has its day of one-minute statistics, which the
venue's request weight allows after about ten minutes for 500 symbols, and the feed has then gone on for a while.

    python -m bench.scale [--symbols N] [--levels N] [--rate N] [--weight N] [--seconds N] [--smoke]

Exit code 1 when something of that has not come true within `--seconds`, or a request was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.frames import ROOT
from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.profiles import symbol_names
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.exchange.weight import Refused, Scales

LOOK_S = 1.0
TELL_S = 15.0
AFTER_S = 30.0  # the feed goes on for so long when all is there
TOP = 20  # levels a side that are published
MIB = 1 << 20


class CountingScales(Scales):
    """The venue's scales: the heaviest minute, and what was refused."""

    def __init__(self, weight_max: int) -> None:
        super().__init__(weight_max)
        self.heaviest = 0
        self.refused: Counter[int] = Counter()

    def admit(self, peer: str, now_ms: int) -> None:
        try:
            super().admit(peer, now_ms)
        except Refused as refused:
            self.refused[refused.status] += 1
            raise

    def charge(self, peer: str, weight: int, now_ms: int) -> int:
        used = super().charge(peer, weight, now_ms)
        self.heaviest = max(self.heaviest, used)
        return used


@dataclass
class Look:
    """What /metrics says at a moment, summed over the symbols."""

    proved: int = 0
    topped: int = 0  # books with at least TOP levels a side
    full: int = 0
    minutes: float = 0
    frames: float = 0
    memory: dict[str, float] = field(default_factory=dict)  # bytes by what they are for
    states: Counter[str] = field(default_factory=Counter)


@dataclass
class Found:
    """What the run has shown; seconds from the daemon's start, bytes."""

    proved_s: float | None = None
    full_s: float | None = None
    minutes_s: float | None = None
    rss: int = 0
    peak_rss: int = 0
    cpu_s: float = 0.0
    took_s: float = 0.0
    look: Look = field(default_factory=Look)

    def is_whole(self, with_minutes: bool) -> bool:
        return None not in (self.proved_s, self.full_s, self.minutes_s if with_minutes else 0.0)


def look_at(text: str, levels: int) -> Look:
    """Reads the text of /metrics; a book is full when both sides hold nine tenths of `levels`: they come and go."""
    look = Look()
    held: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, sample.value
            match sample.name:
                case "mdfeed_book_state":
                    look.states[labels["state"]] += int(value)
                case "mdfeed_book_levels":
                    held[labels["symbol"]] = min(held.get(labels["symbol"], value), value)
                case "mdfeed_figures_requests_total" if labels["outcome"] == "minutes":
                    look.minutes = value
                case "mdfeed_memory_bytes":
                    look.memory[labels["part"]] = value
                case "mdfeed_frames_total":
                    look.frames += value
    look.proved = look.states["PROVED"]
    look.topped = sum(count >= TOP for count in held.values())
    look.full = sum(count >= 0.9 * levels for count in held.values())
    return look


async def fetch(port: int) -> str | None:
    """The text of /metrics, None while nothing answers."""
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return None
    return answer.partition(b"\r\n\r\n")[2].decode()


def memory_of(pid: int) -> tuple[int, int]:
    """(resident now, its peak) of a process, bytes; from Linux' /proc."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


async def watch(pid: int, port: int, options: argparse.Namespace, tell: bool) -> Found:
    """Looks every second until all is there and AFTER_S have passed, or the time is up."""
    found = Found()
    start = time.monotonic()
    done_s: float | None = None
    told_s = 0.0
    while found.took_s < options.seconds and (done_s is None or found.took_s < done_s + options.after):
        await asyncio.sleep(LOOK_S)
        found.took_s = time.monotonic() - start
        text = await fetch(port)
        if text is None:
            continue
        found.look = look = look_at(text, options.levels)
        if found.proved_s is None and look.proved == look.topped == options.symbols:
            found.proved_s = found.took_s
        if found.full_s is None and look.full == options.symbols:
            found.full_s = found.took_s
        if found.minutes_s is None and look.minutes >= options.symbols:
            found.minutes_s = found.took_s
        if done_s is None and found.is_whole(not options.smoke):
            done_s = found.took_s
        if tell and found.took_s >= told_s + TELL_S:
            told_s = found.took_s
            rss, _ = memory_of(pid)
            states = " ".join(f"{name} {count}" for name, count in sorted(look.states.items()) if count)
            print(
                f"  {found.took_s:5.0f} s: {states}; {look.full} full, {look.minutes:.0f} with minutes, "
                f"{rss / MIB:.0f} MiB",
                file=sys.stderr,
                flush=True,
            )
    found.rss, found.peak_rss = memory_of(pid)
    found.cpu_s = cpu_of(pid)
    return found


def configuration(options: argparse.Namespace, exchange: SimulatedExchange, redis_url: str) -> str:
    return yaml.safe_dump(
        {
            "symbols": symbol_names(options.symbols),
            "exchange_ws_url": f"{exchange.ws_url}/stream",
            "exchange_rest_url": exchange.rest_url,
            "redis_url": redis_url,
            "order_book_depth": TOP,
            "book": {"snapshot_limit": options.levels},
            "log": {"level": options.log},
        }
    )


async def run(options: argparse.Namespace) -> tuple[Found, CountingScales, SimulatedExchange]:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # the daemon and Redis are not left behind
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    scales = CountingScales(options.weight)
    # More levels than a snapshot shows, as at the venue.
    levels = options.levels * 6 // 5
    began = time.monotonic()
    exchange = SimulatedExchange(
        symbol_names(options.symbols), rate=options.rate, levels=levels, scales=scales, seed=options.seed
    )
    # Millions of orders that stay: the collector need not look at them again and again.
    gc.collect()
    gc.freeze()
    if options.tell:
        print(f"  the market was made in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with exchange, EmbeddedRedis() as redis:
            (folder / "config.yaml").write_text(configuration(options, exchange, redis.unix_url))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mdfeed", "serve", "-c", str(folder / "config.yaml")),
                *("--http", f"127.0.0.1:{port}"),
                cwd=ROOT,
                env={**os.environ, "STATE_DIRECTORY": str(folder / "state")},
            )
            watching = asyncio.create_task(watch(process.pid, port, options, options.tell))
            ended = asyncio.create_task(process.wait())
            try:
                await asyncio.wait((watching, ended), return_when=asyncio.FIRST_COMPLETED)
                if not watching.done():
                    watching.cancel()
                    raise SystemExit(f"the daemon has ended with {process.returncode}")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await ended
    return watching.result(), scales, exchange


def show(options: argparse.Namespace, found: Found, scales: CountingScales, exchange: SimulatedExchange) -> bool:
    def said(seconds: float | None) -> str:
        return f"not within {options.seconds:.0f} s" if seconds is None else f"{seconds:.0f} s"

    look = found.look
    print(f"{options.symbols} symbols, {options.levels} levels a side asked for, {options.rate:g} orders/s each")
    print(f"all top {TOP} proved   {said(found.proved_s)} after the daemon's start")
    print(f"all books full      {said(found.full_s)}")
    if not options.smoke:
        print(f"all have 1,440 min  {said(found.minutes_s)}")
    refused = sum(scales.refused.values())
    print(f"heaviest minute     {scales.heaviest} of {scales.weight_max} request weight; {refused} requests refused")
    print(
        f"resident memory     {found.rss / MIB:.0f} MiB after {found.took_s:.0f} s, at most {found.peak_rss / MIB:.0f}"
    )
    shares = (f"{part} {size / options.symbols / 1024:.1f}" for part, size in sorted(look.memory.items()))
    print(f"KiB a symbol        {', '.join(shares)}")
    print(f"frames              {look.frames:,.0f}; {found.cpu_s / found.took_s:.0%} of a core", end="")
    print("; the exchange was slower than asked" if exchange.fell_behind else "")
    return found.is_whole(not options.smoke) and not refused


def main() -> None:
    parser = argparse.ArgumentParser(description="How many symbols one daemon carries.")
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--levels", type=int, default=1000, help="a side, of a full snapshot")
    parser.add_argument("--rate", type=float, default=4.0, help="orders a second and symbol")
    parser.add_argument("--weight", type=int, default=2400, help="what the exchange allows a minute")
    parser.add_argument("--seconds", type=float, default=1200.0, help="give up after so long")
    parser.add_argument("--after", type=float, default=AFTER_S, help="seconds that the feed goes on when all is there")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="short, without the minutes: that it runs")
    parser.add_argument("--log", default="error", help="level of the daemon's log")
    options = parser.parse_args()
    options.tell = sys.stderr.isatty() or bool(os.environ.get("MDFEED_BENCH_TELL"))
    if options.smoke:
        options.symbols, options.levels, options.rate, options.seconds, options.after = 10, 100, 40.0, 100.0, 1.0
    try:
        is_well = show(options, *asyncio.run(run(options)))
    except asyncio.CancelledError:
        raise SystemExit(130) from None
    if not is_well:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
