"""mdfeed:events: gaps, resyncs, missing trades and lines, each with what one wants to know of it; and no flood."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from mdfeed.journal import Journal
from mdfeed.lasting import faults
from mdfeed.sinks import Outage
from tests.unit.test_feed_edges import Desk, S
from tests.unit.test_feed_trades import fill_holes
from tests.virtual import World

KINDS = ("gap", "resync", "trade_gap", "connect", "disconnect")


@pytest.fixture
def desk() -> Desk:
    one = Desk()
    one.seat()
    return one


def told(desk: Desk) -> list[dict[str, Any]]:
    """Events as consumers read them; the time is all that is left out."""
    events = [event for event in desk.said("events") if event["kind"] in KINDS]
    assert all(event.pop("ts") > 0 for event in events)
    return events


def test_lines_that_come_and_go(desk):
    desk.feed.lost(desk.line, desk.now_ns, "silent")
    assert told(desk) == [
        {"symbol": "", "kind": "connect", "line": "one", "streams": 1},
        {"symbol": "", "kind": "disconnect", "line": "one", "reason": "silent"},
    ]
    desk.feed.lost(desk.line, desk.now_ns, "silent")
    assert told(desk) == []


def test_a_gap_says_where_and_a_resync_follows(desk):
    told(desk)
    desk.diff(105, 110)
    assert told(desk) == [
        {"symbol": "BTCUSDT", "kind": "gap", "line": "one", "expected_id": 100, "got_id": 105},
        {"symbol": "BTCUSDT", "kind": "resync", "reason": "gap", "last_update_id": 100},
    ]
    assert (desk.track.gaps, desk.track.resyncs) == (1, {"gap": 1})


@pytest.mark.parametrize("how", ["late", "lost"])
def test_a_gap_that_waits_for_the_other_line_is_told_once_it_is_one(desk, how):
    other = desk.feed.open_line("two", ["btcusdt@depth@100ms"], desk.now_ns)
    desk.diff(100, 101, line=other)
    told(desk)
    desk.diff(105, 110)
    assert told(desk) == []
    desk.diff(101, 103, line=other)
    assert told(desk) == []
    if how == "late":
        desk.wait(2)
    else:
        desk.feed.lost(other, desk.now_ns)
        desk.feed.lost(desk.line, desk.now_ns)
    events = [event for event in told(desk) if event["kind"] != "disconnect"]
    assert [event["kind"] for event in events] == ["gap", "resync"]
    assert (events[0]["expected_id"], events[0]["got_id"]) == (103, 105)
    assert events[0]["line"] in ("one", "")


def test_every_resync_is_told_with_its_reason(desk):
    told(desk)
    desk.diff(100, 101, [("103", "1")])
    assert told(desk) == [{"symbol": "BTCUSDT", "kind": "resync", "reason": "crossed", "last_update_id": 101}]


def test_missing_trades_are_told_but_do_not_flood(desk):
    told(desk)
    for trade_id in range(10, 60, 2):  # one in two is lost, for 2.5 s
        desk.trade(trade_id, "101")
    events = told(desk)
    assert 2 <= len(events) <= 3
    assert events[0] == {"symbol": "BTCUSDT", "kind": "trade_gap", "first_id": 11, "last_id": 11, "untold": 0}
    assert sum(1 + event["untold"] for event in events) <= desk.track.trade_gaps == 24


def test_the_state_has_a_beginning_and_a_book_that_never_was_good_is_withdrawn() -> None:
    """A dead daemon's keys are in Redis, and the venue is away."""
    desk = Desk()
    desk.said("state")
    desk.feed.refresh(desk.collector, desk.now_ns)
    (state,) = desk.said("state")
    began_ns = desk.now_ns
    assert (state["state"], state["since_ns"]) == ("COLD", began_ns)
    desk.wait(4.5)
    assert "withdraw" not in [kind for kind, _, _ in desk.collector.take()]
    desk.wait(0.75)
    assert [kind for kind, _, _ in desk.collector.take()] == ["withdraw"]
    assert desk.track.state_since_ns == began_ns
    desk.wait(10)
    assert desk.said("withdraw") == []


# ---- trades across a restart


def first_trade(desk: Desk, past_id: int, is_late: bool, trade_id: int = 100) -> None:
    if not is_late:
        desk.track.resume_trades(past_id, desk.now_ns)
    desk.trade(trade_id, "101")
    if is_late:
        desk.track.resume_trades(past_id, desk.now_ns)


@pytest.mark.parametrize("is_late", [False, True])
def test_trades_that_nobody_has_published_are_a_hole(desk, is_late):
    told(desk)
    first_trade(desk, 95, is_late)
    tape = desk.track.agg_trades
    assert (tape.holes, tape.missing, tape.gaps) == ([(96, 99)], 4, 1)
    assert told(desk) == [{"symbol": "BTCUSDT", "kind": "trade_gap", "first_id": 96, "last_id": 99, "untold": 0}]
    desk.trade(101, "101")
    assert tape.gaps == 1


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("past_id", [99, 100, 101, 5_000_000_000, 0])
def test_an_id_that_tells_of_no_hole(desk, is_late, past_id):
    first_trade(desk, past_id, is_late)
    assert (desk.track.agg_trades.holes, desk.track.trade_gaps) == ([], 0)


def test_an_id_of_another_life_of_the_venue_is_no_hole(desk):
    first_trade(desk, 95, False, 50_000_000)
    assert desk.track.agg_trades.holes == []


def test_the_hole_of_an_earlier_life_is_the_oldest(desk):
    for trade_id in (100, 103, 106):
        desk.trade(trade_id, "101")
    desk.track.resume_trades(90, desk.now_ns)
    assert desk.track.agg_trades.holes == [(91, 99), (101, 102), (104, 105)]
    assert desk.track.agg_trades.missing == 13


def test_with_no_room_left_it_is_counted_as_lost(desk):
    for trade_id in range(100, 170, 2):
        desk.trade(trade_id, "101")
    tape = desk.track.agg_trades
    lost, gaps = tape.lost, tape.gaps
    desk.track.resume_trades(90, desk.now_ns)
    assert len(tape.holes) == 32
    assert (tape.lost - lost, tape.gaps - gaps) == (9, 1)


# ---- the daemon about itself


def journal_of(desk: Desk, *outages: Outage) -> Journal:
    sink = SimpleNamespace(name="redis", outages=deque(outages))
    return Journal(desk.feed, sink, lambda: desk.now_ns)  # type: ignore[arg-type]


def test_outages_of_the_sink_are_told_after_the_return(desk, monkeypatch):
    desk.said("events")
    journal = journal_of(
        desk,
        Outage("connected", 0.0, "", 0),
        Outage("connected", 2.5, "no reply for 2.1 s", 40),
        Outage("refused", 1.0, "OOM", 7),
    )
    journal.tell()
    journal.tell()
    now_ns = desk.now_ns
    about = {"symbol": "", "sink": "redis"}
    assert desk.said("events") == [
        {"ts": now_ns, "kind": "sink_connected", "for_s": 0.0, "dropped": 0, **about},
        {"ts": now_ns - 5 * S // 2, "kind": "sink_disconnected", "reason": "no reply for 2.1 s", **about},
        {"ts": now_ns, "kind": "sink_connected", "for_s": 2.5, "dropped": 40, **about},
        {"ts": now_ns, "kind": "sink_refused", "reason": "OOM", "for_s": 1.0, "dropped": 7, **about},
    ]
    monkeypatch.setitem(faults, "tick", faults["tick"] + 1)
    journal.tell()
    journal.tell()
    (event,) = desk.said("events")
    assert (event["kind"], event["task"]) == ("task_fault", "tick")


def test_what_the_log_has_said_is_not_said_twice(desk, caplog):
    caplog.set_level("INFO", "mdfeed")
    desk.diff(105, 110)
    kinds = [event.kind for event in journal_of(desk).log(False)]
    assert {"connect", "gap", "resync", "state"} <= set(kinds)
    lines = [record.getMessage().split()[1] for record in caplog.records]
    assert lines.count("gap") == lines.count("SUSPECT") == 1
    assert not {"connect", "resync"} & set(lines)


def test_a_whole_restart_brings_every_trade_once() -> None:
    """The first daemon dies at any moment, the second one begins with the newest id in the stream."""
    world = World(rate=150)
    world.run(3)
    last_id = max(world.trade_ids["BTCUSDT"])
    first = list(world.trade_ids["BTCUSDT"])
    world.lose(0)
    world.feed.remove("BTCUSDT", world.now_ns)
    world.run(1)
    world.feed.add("BTCUSDT")
    world.feed.tracks["BTCUSDT"].resume_trades(last_id, world.now_ns)
    world.reconnect(0)
    world.run(2)
    assert len(world.feed.tracks["BTCUSDT"].agg_trades.holes) == 1
    fill_holes(world)
    ids = world.trade_ids["BTCUSDT"]
    assert sorted(ids) == list(range(min(first), max(ids) + 1))
