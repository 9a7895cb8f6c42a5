"""Exchange to subscriber, seen from outside: a blaster, one side at a time, a private Redis, a subscriber.

Each of the four is a process (the subscriber is a thread of this one, which does nothing else meanwhile). Both sides
get the same frames in the same run, taking turns; their `orderbook:` publications are compared field by field.

    python -m bench.end_to_end [--rounds N] [--rate N] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hiredis

from bench.frames import ROOT, Frames, load_frames
from mdfeed.embedded import EmbeddedRedis

ID = re.compile(rb'"last_update_id":(\d+)')
SIDES = {"mdfeed": "bench.ours", "twin": "bench.twin"}
PATIENCE_S = 180.0


class Subscriber(threading.Thread):
    """Notes when each book arrived; keeps the bytes, to be read afterwards."""

    def __init__(self, path: Path, channel: str, last_id: int) -> None:
        super().__init__(daemon=True)
        self.arrived: dict[int, int] = {}
        self.chunks: list[bytes] = []
        self.done = threading.Event()
        self._last_id = last_id
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(channel), channel.encode()))
        self.chunks.append(self._socket.recv(1 << 16))

    def run(self) -> None:
        tail = b""
        while chunk := self._socket.recv(1 << 20):
            now_ns = time.monotonic_ns()
            self.chunks.append(chunk)
            text = tail + chunk
            at = 0
            for match in ID.finditer(text):
                if match.end() < len(text):  # else the number may go on in the next chunk
                    self.arrived[int(match[1])] = now_ns
                    at = match.end()
            tail = text[max(at, len(text) - 64) :]
            if self._last_id in self.arrived:
                self.done.set()

    def close(self) -> list[dict[str, Any]]:
        """The books that were received, without their receive times."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self._socket.close()
        reader = hiredis.Reader()
        books = []
        for chunk in self.chunks:
            reader.feed(chunk)
            while (reply := reader.gets()) is not False:
                if reply[0] == b"message":
                    book = json.loads(reply[2])
                    del book["timestamp"]
                    books.append(book)
        return books


@dataclass
class Run:
    elapsed_s: float
    latencies_us: list[float]
    books: list[dict[str, Any]]


def run_once(side: str, frames: Frames, rate: float, folder: Path) -> Run:
    """One side's pass over the frames: `rate` frames a second, 0 is flat out."""
    file, snapshot = folder / "frames", folder / "snapshot"
    file.write_bytes(b"\n".join(frames.all))
    snapshot.write_bytes(frames.snapshot)
    redis = EmbeddedRedis(args=("--client-output-buffer-limit", "pubsub 0 0 0"))
    with redis:
        subscriber = Subscriber(redis.unix_path, f"orderbook:{frames.symbol}", frames.last_id)
        subscriber.start()
        command = [sys.executable, "-m", "bench.blaster", str(file), "--rate", str(rate)]
        blaster = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert blaster.stdout is not None
        port = int(blaster.stdout.readline())
        options = ["--url", f"ws://127.0.0.1:{port}/stream", "--redis", redis.unix_url, "--symbol", frames.symbol]
        command = [sys.executable, "-m", SIDES[side], *options, "--snapshot", str(snapshot)]
        consumer = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            told = json.loads(blaster.stdout.readline())
            if not subscriber.done.wait(PATIENCE_S):
                raise SystemExit(f"{side}: the last book did not arrive within {PATIENCE_S:.0f} s")
        finally:
            consumer.terminate()
            consumer.wait()
            blaster.kill()
            blaster.wait()
        books = subscriber.close()
    elapsed_s = (subscriber.arrived[frames.last_id] - told["started"]) / 1e9
    latencies = []
    for frame, sent_ns in zip(frames.all, told["sent"], strict=False):
        if b'"depthUpdate"' in frame and (arrived_ns := subscriber.arrived.get(json.loads(frame)["data"]["u"])):
            latencies.append((arrived_ns - sent_ns) / 1000)
    first_id = json.loads(frames.diffs[0])["data"]["u"]
    return Run(elapsed_s, sorted(latencies), [book for book in books if book["last_update_id"] >= first_id])


def compare_sides(title: str, frames: Frames, rate: float, rounds: int) -> None:
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for side in SIDES:
                runs[side].append(run_once(side, frames, rate, Path(folder)))
    print(f"\n{title}: {frames.name}, {len(frames.all):,} frames, {rounds} rounds of each side, taking turns")
    best = {side: min(run.elapsed_s for run in runs[side]) for side in SIDES}
    for side in SIDES:
        books = runs[side][0].books
        if rate:
            all_us = sorted(us for run in runs[side] for us in run.latencies_us)
            quantiles = (all_us[min(len(all_us) - 1, int(q * len(all_us)))] for q in (0.5, 0.99, 0.999))
            texts = (f"{name} {us:,.0f} us" for name, us in zip(("p50", "p99", "p99.9"), quantiles, strict=True))
            print(f"  {side:<7} sent to received: {', '.join(texts)}; {len(books):,} books")
        else:
            median = statistics.median(run.elapsed_s for run in runs[side])
            speed = f"{len(frames.all) / best[side]:,.0f} frames/s best, {len(frames.all) / median:,.0f} median"
            print(f"  {side:<7} {speed}; {len(books):,} books")
    if not rate:
        print(f"  ratio   {best['twin'] / best['mdfeed']:.1f}")
    assert runs["mdfeed"][0].books == runs["twin"][0].books, "the sides published different books"
    assert len(runs["mdfeed"][0].books) == len(frames.diffs)
    print("  both sides published the same books")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1000.0, help="frames a second of the paced run")
    parser.add_argument("--smoke", action="store_true", help="short: that it runs, and that both sides say the same")
    options = parser.parse_args()
    frames = load_frames(1_000 if options.smoke else 30_000)
    diffs = Frames(f"{frames.name}, diffs only", frames.symbol, frames.snapshot, frames.diffs)
    rounds = 1 if options.smoke else options.rounds
    compare_sides("flat out", diffs, 0.0, rounds)
    compare_sides("flat out", frames, 0.0, rounds)
    paced = frames.head(500 if options.smoke else 10_000)
    compare_sides(f"paced at {options.rate:,.0f}/s", paced, options.rate, 1)


if __name__ == "__main__":
    main()
