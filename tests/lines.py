"""What the tests of lines share: a recording receiver, a plan, and a running Stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from mdfeed.stream import Patience, Stream

on_both_loops = pytest.mark.parametrize(
    "event_loop_policy", [asyncio.DefaultEventLoopPolicy(), uvloop.EventLoopPolicy()], ids=["asyncio", "uvloop"]
)


@dataclass
class Plan:
    url: str
    name: str = "public-0"
    streams: Sequence[str] = ("a@x", "b@x")
    late_streams: Sequence[str] = ()


class Venue:
    """Subscribes two streams a frame."""

    def subscribe_frames(self, streams: Sequence[str], first_id: int) -> list[str]:
        pairs = [streams[i : i + 2] for i in range(0, len(streams), 2)]
        return [f"SUBSCRIBE {first_id + i} {' '.join(pair)}" for i, pair in enumerate(pairs)]


class Recorder:
    """Stands where the Feed stands and writes down what happened, in order."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.recv_ns: list[int] = []
        self.opened: list[tuple[int, str, tuple[str, ...]]] = []
        self.lost_lines: list[int] = []
        self.journal: list[object] = []  # frames and "flush"

    def receive(self, line: int, frame: bytes, recv_ns: int) -> int:
        assert line in [number for number, _, _ in self.opened]
        assert line not in self.lost_lines, "a frame of a line that was given up"
        self.frames.append(frame)
        self.recv_ns.append(recv_ns)
        self.journal.append(frame)
        return 0

    def open_line(self, name: str, streams: Sequence[str], now_ns: int) -> int:
        assert now_ns > 0
        self.opened.append((len(self.opened) + 7, name, tuple(streams)))
        return self.opened[-1][0]

    def lost(self, line: int, now_ns: int, reason: str = "") -> None:
        self.lost_lines.append(line)

    def flush(self) -> None:
        self.journal.append("flush")


async def until(predicate: Callable[[], bool], within_s: float = 10.0) -> None:
    """Waits for a state; a state that never comes fails the test."""
    async with asyncio.timeout(within_s):
        while not predicate():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(
    url: str, transport: str, recorder: Recorder, *, plan: Plan | None = None, **options: Any
) -> AsyncIterator[Stream]:
    options.setdefault("patience", Patience(connect_s=5.0))
    options.setdefault("reconnect_delay_ms", 1)
    options.setdefault("max_reconnect_delay_ms", 20)
    options.setdefault("flush", recorder.flush)
    venue = options.pop("venue", None) or Venue()
    stream = Stream(plan or Plan(url), venue, recorder, transport=transport, **options)
    task = asyncio.create_task(stream.run())
    try:
        yield stream
        assert not task.done(), "a line runs until it is cancelled"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert sorted(recorder.lost_lines) == [number for number, _, _ in recorder.opened], "each opened line is lost once"
