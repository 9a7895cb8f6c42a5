"""The ring of raw frames against a list."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed._recall import Recall


def frame_of(symbol: str, number: int, size: int) -> bytes:
    return b'{"s":"%s","n":%d,"x":"%s"}' % (symbol.encode(), number, b"x" * size)


@given(st.integers(4096, 9000), st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 2500)), max_size=200))
def test_keeps_the_newest_in_order_and_whole(capacity, steps):
    recall, kept = Recall(capacity), []
    for number, (symbol, size) in enumerate(steps):
        frame = frame_of(symbol, number, size)
        recall.keep(frame, number)
        if (len(frame) + 16 + 7) & ~7 <= (capacity & ~7) // 4:
            kept.append((number, symbol, frame))
    for symbol in "AB":
        ours = recall.frames_of(symbol, 1 << 30)
        theirs = [(number, frame) for number, of, frame in kept[len(kept) - recall.count :] if of == symbol]
        assert ours == theirs
    stored = sum(len(frame) + 24 for _, _, frame in kept[-recall.count :]) if recall.count else 0
    assert recall.count == len(kept) or stored > capacity // 2 - 3000, "no frame goes before it must"


def test_a_symbol_is_a_whole_name():
    recall = Recall(1 << 16)
    recall.keep(frame_of("BTCUSDT", 1, 0), 1)
    recall.keep(frame_of("1000BTCUSDT", 2, 0), 2)
    assert [at for at, _ in recall.frames_of("BTCUSDT", 1 << 20)] == [1]
    assert recall.frames_of("BTC", 1 << 20) == []


def test_no_more_than_asked_and_the_newest_of_them():
    recall, draw = Recall(1 << 16), random.Random(1)
    for number in range(500):
        recall.keep(frame_of("A", number, draw.randrange(300)), number)
    found = recall.frames_of("A", 2000)
    assert sum(len(frame) for _, frame in found) <= 2000
    assert found[-1][0] == 499
    assert [at for at, _ in found] == list(range(500 - len(found), 500))


def test_a_ring_has_a_size():
    with pytest.raises(ValueError, match="4096"):
        Recall(100)
