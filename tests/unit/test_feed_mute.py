"""Many symbols fall silent together: most likely their line is dead, and a check of each would waste the weight."""

from __future__ import annotations

from mdfeed.exchange.profiles import symbol_names
from tests.virtual import World

MANY = symbol_names(12)


def states(world: World) -> set[tuple[str, str]]:
    return {(track.state, track.reason) for track in world.feed.tracks.values()}


def test_a_dead_line_is_no_reason_to_check_each_of_its_symbols():
    world = World(MANY)
    world.run(3)
    asked = world.snapshots_asked
    world.spoil = lambda line, time_ns, stream, frame: ()
    world.run(9)
    assert states(world) == {("STALE", "silent")}
    assert world.snapshots_asked == asked
    # One of them speaks: then the others' silence is their own.
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),) if "solusdt@bookTicker" in stream else ()
    world.run(1)
    assert world.snapshots_asked >= asked + len(MANY) - 1


def test_a_line_that_is_mute_for_long_is_checked_all_the_same():
    """It may answer PINGs: contracts that are halted, all of them."""
    world = World(MANY)
    world.run(3)
    for symbol in MANY:
        world.market.halt(symbol, True)
    world.run(18)
    assert states(world) == {("LIVE", "quiet")}


def test_a_few_are_checked_at_once():
    world = World(MANY[:2])
    world.run(3)
    for symbol in MANY[:2]:
        world.market.halt(symbol, True)
    world.run(7)
    assert states(world) == {("LIVE", "quiet")}
