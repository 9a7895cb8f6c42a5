"""Whether HTTP clients move the feed: its p99 with and without idle connections, scrapers of /metrics, and viewers.

A blaster, the consumer, a private Redis, a subscriber (a thread of this process) and the load; the consumer's
connection and process stay the same throughout. Windows with and without load take turns (which comes first too), and
each pair of neighbours gives a ratio; the median of the ratios is what counts.

`processing` and `receive_to_write` are the consumer's own histograms. `sent to received` is seen from outside, from
the blaster's send to the book's arrival at the subscriber: it holds what a frame waits in the socket while the loop
is busy with HTTP, which the other two cannot see.

    python -m bench.http_load [--pairs N] [--idle N] [--rate N] [--viewers N] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.end_to_end import Subscriber
from bench.frames import ROOT, Frames, load_frames
from mdfeed.embedded import EmbeddedRedis

SYMBOLS = 100
STAGES = ("processing", "receive_to_write", "sent to received")


class Helper:
    """A process that answers a line with a line."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT, text=True)
        self.name = module

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended")
        return line.strip()

    def ask(self, text: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Window:
    """One side of a pair; monotonic ns, p99 in us."""

    is_loaded: bool
    start_ns: int
    end_ns: int
    count: int
    p99_us: dict[str, float]
    load: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    pairs: int
    idle: int
    rate: float
    viewers: int
    frames_rate: float
    window_s: float
    settle_s: float

    @property
    def frames(self) -> int:
        """Frames that last for all windows and for what is around them."""
        return int(self.frames_rate * (self.pairs * (2 * (self.window_s + self.settle_s) + 1.0) + 2.0))


def measure_window(plan: Plan, consumer: Helper, load: Helper, is_loaded: bool) -> Window:
    if is_loaded:
        load.ask("on")
    time.sleep(plan.settle_s)
    consumer.ask("take")
    start_ns = time.monotonic_ns()
    time.sleep(plan.window_s)
    end_ns = time.monotonic_ns()
    told = json.loads(consumer.ask("take"))
    came_of_it = json.loads(load.ask("off")) if is_loaded else {}
    if told["processing"]["count"] < 0.5 * plan.frames_rate * plan.window_s:
        raise SystemExit(f"{told['processing']['count']} frames in a window: the frames do not come at their rate")
    if is_loaded and (came_of_it["lost"] or came_of_it["failed"] or not came_of_it["answers"]):
        raise SystemExit(f"the load was not there: {came_of_it}")
    p99_us = {stage: told[stage]["p99"] for stage in STAGES[:2]}
    return Window(is_loaded, start_ns, end_ns, told["processing"]["count"], p99_us, came_of_it)


def measure(plan: Plan, frames: Frames, folder: Path) -> list[tuple[Window, Window]]:
    """Pairs of (without, with)."""
    file, snapshot = folder / "frames", folder / "snapshot"
    file.write_bytes(b"\n".join(frames.all))
    snapshot.write_bytes(frames.snapshot)
    helpers: list[Helper] = []
    with EmbeddedRedis(args=("--client-output-buffer-limit", "pubsub 0 0 0")) as redis:
        subscriber = Subscriber(Path(redis.unix_path), f"orderbook:{frames.symbol}", frames.last_id)
        try:
            helpers.append(blaster := Helper("bench.blaster", file, "--rate", plan.frames_rate))
            options = ["--url", f"ws://127.0.0.1:{blaster.read()}/stream", "--redis", redis.unix_url]
            options += ["--symbol", frames.symbol, "--snapshot", snapshot, "--frames", file]
            helpers.append(consumer := Helper("bench.scraped", *options, "--symbols", SYMBOLS))
            port = consumer.read()
            subscriber.start()
            options = ["--idle", plan.idle, "--rate", plan.rate, "--viewers", plan.viewers, "--symbol", frames.symbol]
            helpers.append(load := Helper("bench.scrapers", "--port", port, *options))
            pairs = []
            for n in range(plan.pairs):
                first = measure_window(plan, consumer, load, bool(n % 2))
                second = measure_window(plan, consumer, load, not n % 2)
                pairs.append((second, first) if n % 2 else (first, second))
            sent = json.loads(blaster.read())["sent"]
        finally:
            for helper in helpers:
                helper.end()
        subscriber.close()
    add_delays(pairs, frames, sent, subscriber.arrived)
    return pairs


def add_delays(pairs: list[tuple[Window, Window]], frames: Frames, sent: list[int], arrived: dict[int, int]) -> None:
    """Adds to each window the delays of the diffs that were sent in it."""
    diffs = []
    for frame, sent_ns in zip(frames.all, sent, strict=True):
        if b'"depthUpdate"' in frame and (arrived_ns := arrived.get(json.loads(frame)["data"]["u"])):
            diffs.append((sent_ns, (arrived_ns - sent_ns) / 1000))
    for window in (window for pair in pairs for window in pair):
        delays_us = sorted(us for sent_ns, us in diffs if window.start_ns <= sent_ns < window.end_ns)
        window.p99_us[STAGES[2]] = delays_us[int(0.99 * len(delays_us))]


def show(plan: Plan, frames: Frames, pairs: list[tuple[Window, Window]]) -> None:
    print(
        f"{plan.idle:,} idle connections, {plan.rate:g} GET /metrics a second and {plan.viewers} viewers against none;"
    )
    print(f"{SYMBOLS} symbols;", end=" ")
    print(f"{frames.name} at {plan.frames_rate:,.0f} frames/s; {plan.pairs} pairs of {plan.window_s:g} s windows\n")
    print("p99 us  " + "".join(f"{stage + ': without, with, ratio':>46}" for stage in STAGES))
    ratios: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for n, (without, loaded) in enumerate(pairs):
        cells = ""
        for stage in STAGES:
            before, after = without.p99_us[stage], loaded.p99_us[stage]
            ratios[stage].append(after / before)
            cells += f"{before:>20,.1f} {after:>14,.1f} {after / before:>10.2f}"
        print(f"pair {n + 1:<3}{cells}")
    medians = (f"{stage} {statistics.median(ratios[stage]):.2f}" for stage in STAGES)
    print(f"\nmedian ratio of p99: {', '.join(medians)}")
    loads = [loaded.load for _, loaded in pairs]
    frames_seen = sum(window.count for pair in pairs for window in pair)
    answers = sum(load["answers"] for load in loads)
    size = max(load["bytes"] for load in loads)
    print(f"{frames_seen:,} frames measured; {answers:,} answers of up to {size:,} bytes; no idle connection was lost")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--idle", type=int, default=1000, help="connections that say nothing")
    parser.add_argument("--rate", type=float, default=50.0, help="GET /metrics a second")
    parser.add_argument("--viewers", type=int, default=0, help="of the page, each following the fed symbol")
    parser.add_argument("--frames-rate", type=float, default=800.0, help="frames a second")
    parser.add_argument("--smoke", action="store_true", help="short: that it runs")
    options = parser.parse_args()
    load = (options.idle, options.rate, options.viewers)
    plan = Plan(options.pairs, *load, options.frames_rate, window_s=3.0, settle_s=1.0)
    if options.smoke:
        plan = Plan(1, 100, options.rate, 2, options.frames_rate, window_s=0.5, settle_s=0.3)
    frames = load_frames(plan.frames)
    if len(frames.all) < plan.frames:
        parser.error(f"{plan.frames:,} frames are needed and there are {len(frames.all):,}: fewer pairs or frames")
    with tempfile.TemporaryDirectory() as folder:
        pairs = measure(plan, frames, Path(folder))
    show(plan, frames, pairs)


if __name__ == "__main__":
    main()
