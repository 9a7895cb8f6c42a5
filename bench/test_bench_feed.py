"""The heart: every frame of a session (diffs, bookTickers, trades) to RESP bytes; decode, apply, prove, publish."""

from __future__ import annotations

import time

import orjson
import pytest

from bench.conftest import SIDES
from bench.outputs import OUTPUTS, assert_same
from bench.test_bench_encode import pack_by_twin
from bench.twin import Twin
from mdfeed import venues
from mdfeed._encode import CHANNELS, Collector
from mdfeed._feed import Feed
from mdfeed._resp import RespOutbox

RECV_NS = 1700000000123456789


def start_feed(frames, digits) -> tuple[Feed, int]:
    """A feed whose book stands at the snapshot; the limit that was asked for is above what came: all is verified."""
    feed = Feed(venues.get("binance-usdm"))
    feed.add(frames.symbol, *digits)
    line = feed.open_line("bench", [f"{frames.symbol.lower()}@depth"])
    assert feed.snapshot(frames.symbol, "capture", 5000, frames.snapshot, RECV_NS) == "joined"
    return feed, line


def start_twin(frames) -> Twin:
    twin = Twin(frames.symbol)
    twin.book.load(orjson.loads(frames.snapshot))
    return twin


@pytest.mark.parametrize("side", SIDES)
def test_feed(side, frames, digits, loops, padded, measure, request) -> None:
    rows = padded(frames.all)

    def prepare() -> tuple[Feed, int, RespOutbox]:
        feed, line = start_feed(frames, digits)
        outbox = RespOutbox(feed.instruments, epoch=1, outputs=OUTPUTS)
        feed.attach(outbox)
        return feed, line, outbox

    def run_twin(twin: Twin) -> list[int]:
        raw = []
        for frame in frames.all:
            start = time.perf_counter_ns()
            pack_by_twin(twin.receive(frame, RECV_NS))
            raw.append(time.perf_counter_ns() - start)
        return raw

    name = f"feed {request.node.callspec.params['frames']}"
    if side == "twin":
        measure(name, side, lambda: start_twin(frames), run_twin, frames.levels)
    else:
        measure(name, side, prepare, lambda s: loops.run_feed(s[0], s[1], rows, s[2], RECV_NS), frames.levels)


def test_feed_and_twin_publish_the_same(frames, digits) -> None:
    feed, line = start_feed(frames, digits)
    collector = Collector(outputs=OUTPUTS)
    feed.attach(collector)
    twin = start_twin(frames)
    theirs = []
    for frame in frames.all:
        feed.receive(line, frame, RECV_NS)
        theirs += [(key, payload) for name, key, payload in twin.receive(frame, RECV_NS) if name == "PUBLISH"]
    ours = [(CHANNELS[kind] + symbol, payload) for kind, symbol, payload in collector.take()]
    assert assert_same(ours, theirs) > len(frames.diffs)
    assert feed.tracks[frames.symbol].state == "PROVED"
    assert feed.tracks[frames.symbol].proof["mismatch"] == 0
