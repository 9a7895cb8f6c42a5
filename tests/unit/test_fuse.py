"""When contradictions of the proof are no longer believed, and when they are again."""

from __future__ import annotations

from mdfeed._fuse import FORGET_NS, PER_SYMBOL, REARM_FIRST_NS, REARM_LAST_NS, SHARE_LEAST, Fuse

S = 10**9


def blow(fuse: Fuse, now_ns: int) -> None:
    while fuse.allows("A", now_ns):
        assert not fuse.is_blown
    assert fuse.is_blown


def test_one_symbol_is_believed_three_times():
    fuse = Fuse(lambda: 500)
    assert [fuse.allows("A", S) for _ in range(PER_SYMBOL + 1)] == [True] * PER_SYMBOL + [False]


def test_many_symbols_at_once_blow_it():
    fuse = Fuse(lambda: 4)
    assert [fuse.allows(name, S) for name in "ABCD"] == [True] * SHARE_LEAST + [False]


def test_the_quiet_that_closes_it_doubles_each_time_it_was_too_short():
    fuse = Fuse(lambda: 500)
    now_ns = 1000 * S
    waits = []
    for _ in range(12):
        blow(fuse, now_ns)
        start_ns = now_ns
        while not fuse.rearm(now_ns):
            now_ns += S
        waits.append((now_ns - start_ns) // S - 1)
    assert waits[:4] == [REARM_FIRST_NS // S * 2**i for i in range(4)]
    assert waits[-1] == REARM_LAST_NS // S


def test_an_hour_without_contradiction_is_a_new_start():
    fuse = Fuse(lambda: 500)
    for now_ns in (1000 * S, 1010 * S, 1030 * S):
        blow(fuse, now_ns)
        assert fuse.rearm(now_ns + 16 * S)
    later_ns = 1030 * S + FORGET_NS + 2 * S
    blow(fuse, later_ns)
    assert not fuse.rearm(later_ns + REARM_FIRST_NS)
    assert fuse.rearm(later_ns + REARM_FIRST_NS + 1)


def test_resyncs_that_are_far_apart_are_always_believed():
    fuse = Fuse(lambda: 500)
    assert all(fuse.allows("A", n * 201 * S) for n in range(20))


def test_one_in_twenty_symbols_a_minute_are_believed():
    fuse = Fuse(lambda: 100)
    assert [fuse.allows(f"S{n}", n * S) for n in range(6)] == [True] * 5 + [False]
