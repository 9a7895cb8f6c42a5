"""The fuse: how often a contradiction is believed."""

from __future__ import annotations

from mdfeed._fuse import REARM_NS, Fuse

S = 10**9


def test_three_resyncs_of_a_symbol_in_ten_minutes_are_believed():
    fuse = Fuse(lambda: 500)
    assert [fuse.allows("BTCUSDT", n * 60 * S) for n in range(4)] == [True, True, True, False]
    assert fuse.is_blown


def test_resyncs_that_are_far_apart_are_always_believed():
    fuse = Fuse(lambda: 500)
    assert all(fuse.allows("BTCUSDT", n * 201 * S) for n in range(20))


def test_one_in_twenty_symbols_a_minute_are_believed():
    fuse = Fuse(lambda: 100)
    assert [fuse.allows(f"S{n}", n * S) for n in range(6)] == [True] * 5 + [False]


def test_a_small_feed_believes_three_symbols():
    fuse = Fuse(lambda: 4)
    assert [fuse.allows(f"S{n}", n * S) for n in range(4)] == [True, True, True, False]


def test_it_closes_again_after_a_quiet_while():
    fuse = Fuse(lambda: 4)
    for n in range(4):
        fuse.allows("BTCUSDT", n)
    assert fuse.is_blown
    assert not fuse.rearm(REARM_NS // 2)
    assert not fuse.allows("BTCUSDT", REARM_NS // 2)
    assert not fuse.rearm(REARM_NS + 10)
    assert fuse.rearm(2 * REARM_NS)
    assert fuse.allows("BTCUSDT", 2 * REARM_NS)
