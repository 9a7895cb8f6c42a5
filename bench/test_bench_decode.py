"""Frame bytes to values: mdfeed to scaled integers, the twin to objects and floats."""

from __future__ import annotations

import time

import orjson
import pytest

from bench.conftest import SIDES
from mdfeed._book import Book


def decode_by_twin(frame: bytes) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    data = orjson.loads(frame)["data"]
    bids, asks = ([(float(p), float(q)) for p, q in data[side]] for side in ("b", "a"))
    return bids, asks


@pytest.mark.parametrize("side", SIDES)
def test_decode(side, frames, loops, make_decoder, padded, measure, request) -> None:
    diffs = frames.diffs

    def run_twin(_: None) -> list[int]:
        raw = []
        for frame in diffs:
            start = time.perf_counter_ns()
            decode_by_twin(frame)
            raw.append(time.perf_counter_ns() - start)
        return raw

    name = f"decode {request.node.callspec.params['frames']}"
    if side == "twin":
        measure(name, side, lambda: None, run_twin, frames.levels)
    else:
        rows = padded(diffs)
        book = Book()
        once = lambda decoder: loops.run_decode_apply(decoder, book, rows, True, False)  # noqa: E731
        measure(name, side, make_decoder, once, frames.levels)
    found = make_decoder().decode_frame(diffs[-1])
    bids, asks = decode_by_twin(diffs[-1])
    assert [(float(p), float(q)) for p, q in found["bids"]] == bids
    assert [(float(p), float(q)) for p, q in found["asks"]] == asks
