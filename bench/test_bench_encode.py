"""A book's top to bytes for Redis: two PUBLISH and a SET of 20 levels a side."""

from __future__ import annotations

import time

import orjson
import pytest

from bench.conftest import SIDES
from bench.outputs import OUTPUTS, assert_same
from bench.twin import Twin
from mdfeed._book import Book
from mdfeed._encode import CHANNELS, Collector, Market
from mdfeed._parse import Instruments
from mdfeed._resp import RespOutbox

ROUNDS = 5_000  # calls a round
DEPTH = 20
RECV_NS = 1700000000123456789


def pack_by_twin(commands: list[tuple[str, str, bytes]]) -> bytes:
    """RESP of the commands, as redis-py's packer spells it."""
    parts = []
    for name, key, payload in commands:
        words = [name.encode(), key.encode(), payload] + ([b"EX", b"300"] if name == "SET" else [])
        parts.append(b"*%d\r\n" % len(words))
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


@pytest.mark.parametrize("side", SIDES)
def test_encode(side, frames, digits, loops, measure, request) -> None:
    body = orjson.loads(frames.snapshot)
    market = Market(frames.symbol, 0, *digits)
    book = Book(*digits)
    book.load_levels(body["lastUpdateId"], body["bids"], body["asks"])
    twin = Twin(frames.symbol, DEPTH)
    twin.book.load(body)

    def run_twin(_: None) -> list[int]:
        raw = []
        for _ in range(ROUNDS // 5):
            start = time.perf_counter_ns()
            pack_by_twin(twin.publish_book(RECV_NS))
            raw.append(time.perf_counter_ns() - start)
        return raw

    def make_outbox() -> RespOutbox:
        instruments = Instruments()
        instruments.add(frames.symbol, *digits)
        return RespOutbox(instruments, epoch=1, outputs=OUTPUTS)

    name = f"encode {request.node.callspec.params['frames']}"
    if side == "twin":
        measure(name, side, lambda: None, run_twin, ROUNDS // 5 * 2 * DEPTH)
    else:
        once = lambda outbox: loops.run_encode(market, book, outbox, ROUNDS, DEPTH)  # noqa: E731
        measure(name, side, make_outbox, once, ROUNDS * 2 * DEPTH)
    collector = Collector(outputs=OUTPUTS)
    loops.run_encode(market, book, collector, 1, DEPTH)
    ours = [(CHANNELS[kind] + symbol, payload) for kind, symbol, payload in collector.take()]
    theirs = [(key, payload) for command, key, payload in twin.publish_book(RECV_NS) if command == "PUBLISH"]
    assert assert_same(ours, theirs) == 2
