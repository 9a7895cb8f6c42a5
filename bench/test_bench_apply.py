"""Diffs into the book: applying alone, and decoding with it, which is what a frame costs before it is published."""

from __future__ import annotations

import time

import orjson
import pytest

from bench.conftest import SIDES
from bench.twin import TwinBook
from mdfeed._book import Book


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("does_decode", [False, True], ids=["apply", "decode+apply"])
def test_apply(side, does_decode, frames, digits, loops, make_decoder, padded, measure, request) -> None:
    diffs = frames.diffs
    books: list[Book] = []
    twins: list[TwinBook] = []

    def prepare_twin() -> TwinBook:
        twins.append(TwinBook())
        twins[-1].load(orjson.loads(frames.snapshot))
        return twins[-1]

    def run_twin(book: TwinBook) -> list[int]:
        raw = []
        for frame in diffs:
            start = time.perf_counter_ns()
            data = orjson.loads(frame)["data"]
            if not does_decode:
                start = time.perf_counter_ns()
            book.apply(data)
            raw.append(time.perf_counter_ns() - start)
        return raw

    def prepare() -> tuple[object, Book]:
        body = orjson.loads(frames.snapshot)
        books.append(Book(*digits))
        books[-1].load_levels(body["lastUpdateId"], body["bids"], body["asks"], 1000)
        return make_decoder(), books[-1]

    rows = padded(diffs)
    name = f"{'decode+apply' if does_decode else 'apply'} {request.node.callspec.params['frames']}"
    if side == "twin":
        measure(name, side, prepare_twin, run_twin, frames.levels)
    else:
        measure(
            name, side, prepare, lambda s: loops.run_decode_apply(s[0], s[1], rows, does_decode, True), frames.levels
        )
    if side == "mdfeed":
        run_twin(prepare_twin())
        book, twin = books[-1], twins[-1]
        assert book.last_id == twin.last_id == frames.last_id
        for ours, theirs in (
            (book.levels("bids"), reversed(twin.bids.items())),
            (book.levels("asks"), twin.asks.items()),
        ):
            assert [(float(p), float(q)) for p, q in ours] == list(theirs)
