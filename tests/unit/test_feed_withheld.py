"""Trades that came while the lease was another's, or nobody's: each is published later, once, and counts once."""

from __future__ import annotations

import json

import pytest

from mdfeed._encode import Collector
from mdfeed._valve import Valve
from tests.unit.test_feed_edges import Desk, S
from tests.unit.test_feed_trades import fill_holes
from tests.virtual import World

FAR_NS = 1 << 62


class Rig:
    """A desk behind a valve: `opens` with what the stream tells."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.out = Collector(epoch=1)
        self.valve = Valve(self.out, owes_trades=True)
        self.desk.feed.publisher.outboxes[:] = [self.valve]
        self.desk.seat()
        self.tape = self.desk.track.agg_trades
        self.ids: list[int] = []
        self.events: list[dict[str, object]] = []

    def trades(self, *ids: int) -> None:
        for trade_id in ids:
            self.desk.trade(trade_id, "101")
        for kind, _, payload in self.out.take():
            if kind == "trades_stream":
                self.ids.append(json.loads(payload)["trade_id"])
            elif kind == "events" and b"trade_gap" in payload:
                self.events.append(json.loads(payload))

    def opens(self, past_id: int = 0, own_id: int = 0, *, is_doubted: bool = False) -> None:
        self.valve.open(0, FAR_NS)
        assert self.valve.let_trades(0)
        self.desk.track.resume_trades(past_id, self.desk.now_ns, own_id, is_doubted)

    def fill(self) -> None:
        """The missing ones come late, as back-filled ones do."""
        for first_id, last_id in self.tape.holes:
            self.trades(*range(first_id, last_id + 1))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_came_before_the_lease_is_published_with_the_hole_before_it(rig):
    rig.trades(*range(100, 130))
    rig.opens(past_id=90)
    rig.trades(130)
    assert rig.ids == [130]
    assert [(event["first_id"], event["last_id"]) for event in rig.events] == [(91, 129)]
    assert (rig.tape.missing, rig.tape.count) == (39, 31)
    rig.fill()
    assert sorted(rig.ids) == list(range(91, 131))
    assert (rig.tape.missing, rig.tape.count, rig.tape.duplicates) == (0, 40, 0)


def test_what_another_has_published_meanwhile_is_not_said_again(rig):
    rig.trades(*range(100, 110), *range(112, 130))
    rig.opens(past_id=119)
    assert rig.tape.holes == [(120, 129)]
    rig.fill()
    assert rig.ids == list(range(120, 130))
    assert rig.tape.count == 28


def test_a_first_daemon_owes_nothing(rig):
    rig.trades(*range(100, 110))
    rig.opens()
    rig.trades(110)
    assert (rig.ids, rig.tape.holes, rig.tape.gaps) == ([110], [], 0)


@pytest.mark.parametrize("is_another", [False, True])
def test_a_lease_that_is_lost_and_had_again(rig, is_another):
    rig.opens()
    rig.trades(*range(100, 105))
    rig.valve.shut(0)
    rig.trades(105, 106, 109, 110)
    assert rig.tape.is_withheld
    rig.opens(past_id=107 if is_another else 0, own_id=104)
    rig.trades(111)
    assert not rig.tape.is_withheld
    rig.fill()
    expected = [*range(100, 105), *range(108 if is_another else 105, 112)]
    assert sorted(rig.ids) == expected
    assert (rig.tape.missing, rig.tape.duplicates) == (0, 0)
    assert rig.tape.count == (11 if is_another else 12), "one was never seen"
    for _ in range(2):
        rig.opens(past_id=107, own_id=111)
    assert rig.tape.holes == []


def test_a_lease_that_has_run_out_unnoticed_opens_no_trade(rig):
    """The process slept: the renewal succeeds, but what came in between was kept back."""
    rig.valve.open(0, rig.desk.now_ns + S)
    assert rig.valve.let_trades(0)
    rig.trades(*range(100, 115))
    kept = list(rig.ids)
    assert 0 < len(kept) < 15
    assert rig.valve.open(0, FAR_NS), "that is news"
    assert not rig.valve.open(0, FAR_NS)
    rig.trades(115)
    assert rig.ids == kept
    rig.opens()
    rig.fill()
    assert rig.ids == list(range(100, 116))


def test_a_late_trade_is_not_lost_while_shut(rig):
    rig.opens()
    rig.trades(100, 103)
    rig.valve.shut(0)
    rig.trades(101, 104)
    rig.opens()
    rig.fill()
    assert sorted(rig.ids) == [100, 101, 102, 103, 104]
    assert (rig.tape.count, rig.tape.gaps, rig.tape.missing) == (5, 2, 0)


def test_what_a_connection_took_with_it_is_published(rig):
    rig.opens()
    rig.trades(*range(100, 110))
    rig.out.close("disconnected")
    rig.trades(110, 111)
    assert rig.out.dropped["disconnected"] >= 4
    rig.out.open()
    rig.trades(112)
    rig.opens(own_id=105, is_doubted=True)
    assert rig.tape.holes == [(106, 112)]
    rig.fill()
    assert rig.ids == [*range(100, 110), *range(106, 113)]
    assert rig.tape.count == 13


def test_a_whole_failover_brings_every_trade_once_and_counts_it_once() -> None:
    """The first daemon is gone; the second one has its lines at once, and the leases 3 s later."""
    world = World(rate=150)
    valve = Valve(world.collector, owes_trades=True)
    valve.open(0, FAR_NS)
    assert valve.let_trades(0)
    world.feed.publisher.outboxes[:] = [valve]
    world.run(3)
    first = list(world.trade_ids["BTCUSDT"])
    valve.begin(0)
    world.run(3)
    track = world.feed.tracks["BTCUSDT"]
    count = track.agg_trades.count
    assert count > len(first)
    valve.open(0, FAR_NS)
    assert valve.let_trades(0)
    track.resume_trades(0, world.now_ns, first[-1])
    assert track.agg_trades.holes == [(first[-1] + 1, track.agg_trades.last_id)]
    fill_holes(world)
    assert track.agg_trades.count == count
    world.run(1)
    ids = world.trade_ids["BTCUSDT"]
    assert sorted(ids) == list(range(min(first), max(ids) + 1))
