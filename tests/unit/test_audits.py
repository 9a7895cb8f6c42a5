"""Good books compared with new snapshots: on spare weight, each in its turn, and in nobody's way."""

from __future__ import annotations

from collections import Counter

import pytest

from mdfeed.exchange.profiles import symbol_names
from tests.unit.test_feed_edges import ASKS, BIDS, Desk
from tests.venue_world import VenueWorld
from tests.virtual import S

SYMBOLS = symbol_names(30)


@pytest.fixture
def world():
    one = VenueWorld(SYMBOLS, rate=5.0, levels=150, audit_s=10)
    yield one
    one.close()


def reseated(world: VenueWorld, since_ns: int) -> Counter[str]:
    return Counter(
        event.symbol for event in world.feed.publisher.events if event.kind == "reseated" and event.at_ns > since_ns
    )


def test_with_little_weight_each_book_has_its_turn(world):
    world.run(20)
    since_ns = world.now_ns
    world.run(120)
    counts = reseated(world, since_ns)
    assert counts.keys() == set(SYMBOLS)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert counts.total() <= 3 * 40, "a third of the weight"
    assert set(world.statuses) == {200}
    # Whoever has a gap is not behind them.
    lost = []

    def drop_one(line, time_ns, stream, frame):
        if stream.startswith("solusdt@depth") and not lost:
            lost.append(frame)
            return ()
        return ((0, frame),)

    world.spoil = drop_one
    world.run(4)
    track = world.feed.tracks["SOLUSDT"]
    assert (track.resyncs, track.state) == ({"gap": 1}, "PROVED")


def test_audits_that_hang_leave_places_to_the_urgent(world):
    world.run(20)
    world.rest_latency_ns = 8 * S
    world.run(12)
    assert len(world.snapshots._under_way) == 2
    wanted = [one.priority for one in world.feed.wanted(world.now_ns)]
    assert set(wanted) == {7}


def quiet_desk() -> Desk:
    desk = Desk(audit_s=60)
    desk.seat()
    desk.wait(4)
    for _ in range(60):
        desk.wait(1)
        if desk.wanted() == [("silent", 5)]:
            assert desk.snapshot(100, limit=5) == "quiet"
    assert desk.wanted() == [("audit", 1000)]
    desk.feed.snapshot_requested(desk.symbol, desk.now_ns)
    return desk


def test_a_quiet_book_is_compared_at_once():
    desk = quiet_desk()
    assert desk.snapshot(100) == "swapped"
    assert (desk.track.ghosts, desk.track.state) == (0, "LIVE")
    assert desk.wanted() == []


def test_a_quiet_book_that_is_wrong_is_mended_at_once():
    desk = quiet_desk()
    assert desk.snapshot(100, [*BIDS, ("98", "4")], ASKS) == "swapped"
    assert desk.track.ghosts == 1
    assert desk.said("book")[-1]["bids"] == [["100", "1"], ["99", "2"], ["98", "4"]]
