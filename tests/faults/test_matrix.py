"""The fault matrix on virtual time: each fault alone, and seeded sequences of them over a hundred symbols.

Every published book is compared with the truth on all its levels as it comes; a wrong one fails the test.
"""

from __future__ import annotations

import random

import pytest

from mdfeed.exchange.profiles import symbol_names
from tests.faults.matrix import CASES
from tests.faults.trial import Figures, draw_case, finish, inflict, settle
from tests.faults.world import FaultWorld
from tests.virtual import S, untouched

FEW = symbol_names(4)
TOTAL = Figures()


@pytest.fixture(scope="module", autouse=True)
def figures():
    yield
    print(f"\nfault matrix: {TOTAL}")


def resyncs(world: FaultWorld) -> dict[str, int]:
    """Resyncs by reason, over all symbols."""
    found: dict[str, int] = {}
    for track in world.feed.tracks.values():
        for reason, count in track.resyncs.items():
            found[reason] = found.get(reason, 0) + count
    return found


@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("case", [case for case in CASES if case.is_virtual], ids=lambda case: case.name)
def test_each_fault_alone(case, lines):
    world = FaultWorld(FEW, lines=lines, seed=3, rate=30.0, levels=150, snapshot_limit=100)
    settle(world)
    before = TOTAL.idle
    inflict(world, case, "ETHUSDT", TOTAL)
    assert TOTAL.idle == before, "nothing happened"
    if case.costs == "nothing":
        assert resyncs(world) == {}
    if case.symbol_lost:
        assert world.feed.tracks["ETHUSDT"].state not in ("LIVE", "PROVED")
    finish(world, TOTAL)


@pytest.mark.parametrize(("lines", "seed"), [(1, 101), (2, 102)])
def test_a_sequence_of_faults_over_a_hundred_symbols(lines, seed):
    draw = random.Random(seed)
    symbols = symbol_names(104)
    world = FaultWorld(symbols, lines=lines, seed=seed, rate=20.0, levels=150, snapshot_limit=100)
    settle(world)
    for _ in range(2):
        inflict(world, draw_case(draw), draw.choice(symbols), TOTAL)
    assert world.books_compared > 5_000
    finish(world, TOTAL)


@pytest.mark.parametrize("jump_s", [7200, 10, -10, -3600])
def test_the_clock_of_this_machine_is_set(jump_s):
    world = FaultWorld(FEW, seed=5, rate=30.0, levels=150, snapshot_limit=100)
    settle(world)
    world.wall_ahead_ns += jump_s * S
    world.run(20)
    assert world.unproved() == []
    # Healing works as before.
    inflict(world, next(case for case in CASES if case.name == "reset"), "ETHUSDT", TOTAL)
    finish(world, TOTAL)


def longest_good_s(world: FaultWorld, seconds: float) -> float:
    """How long any symbol was LIVE or PROVED without a break, while `seconds` passed."""
    longest, good = 0, dict.fromkeys(world.feed.tracks, 0)
    for _ in range(round(seconds * 10)):
        world.run(0.1)
        for symbol, track in world.feed.tracks.items():
            good[symbol] = good[symbol] + 1 if track.state in ("LIVE", "PROVED") else 0
        longest = max(longest, *good.values())
    return longest / 10


def test_silence_is_noticed_after_the_clock_went_back():
    world = FaultWorld(FEW, seed=5, rate=30.0, levels=150, snapshot_limit=100)
    settle(world)
    world.wall_ahead_ns -= 3600 * S
    world.spoil = lambda line, time_ns, stream, frame: ()
    # 5 s of patience, by a clock that goes a tenth slower until it has followed; each snapshot is good for as long.
    assert longest_good_s(world, 60) < 7.0
    world.end()


def test_silent_diffs_are_noticed_while_the_ticker_lives():
    world = FaultWorld(FEW, seed=6, rate=30.0, levels=150, snapshot_limit=100)
    settle(world)
    world.spoil = lambda line, time_ns, stream, frame: () if "@depth" in stream else ((0, frame),)
    assert longest_good_s(world, 60) < 7.0
    assert {(alarm.symbol, alarm.kind) for alarm in world.feed.alarms(world.ours(world.now_ns))} >= {
        (symbol, "depthUpdate") for symbol in FEW
    }, "the lines are to be replaced"
    world.spoil = untouched
    settle(world, 10)
    world.end()


def test_a_halted_contract_is_quiet_over_a_lost_line_too():
    world = FaultWorld(FEW, seed=7, rate=30.0, levels=150, snapshot_limit=100)
    settle(world)
    track = world.feed.tracks["ETHUSDT"]
    world.market.halt("ETHUSDT", True)
    world.run(10)
    assert (track.state, track.reason) == ("LIVE", "quiet")
    world.lose(0)
    world.run(12)
    assert (track.state, track.reason) == ("LIVE", "quiet")
    world.market.halt("ETHUSDT", False)
    settle(world, 5)
    assert track.resyncs == {}
    finish(world, TOTAL)


def test_a_symbol_that_a_new_line_does_not_bring_is_found_out():
    """Not quiet but deaf: its book goes on at the venue. The line is to be replaced."""
    world = FaultWorld(FEW, seed=8, rate=30.0, levels=150, snapshot_limit=100)
    settle(world)
    world.lose(0)
    world.spoil = lambda line, time_ns, stream, frame: () if stream.startswith("ethusdt@") else ((0, frame),)
    world.run(12)
    assert world.feed.tracks["ETHUSDT"].resyncs.get("silent", 0) >= 1
    assert ("ETHUSDT", "depthUpdate") in {(alarm.symbol, alarm.kind) for alarm in world.feed.alarms(world.now_ns)}
    world.spoil = untouched
    settle(world, 10)
    finish(world, TOTAL)
