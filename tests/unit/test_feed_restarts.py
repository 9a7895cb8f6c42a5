"""Ids that start over while the venue's clock is set back as well: event times do not tell, and nothing may freeze."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.test_feed_edges import Desk, S


class SetBack(Desk):
    """A desk whose venue's clock may be set: `back_s` seconds behind."""

    back_s = 0.0

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        super().__init__()

    def again(self, *places: int) -> None:
        """Frames that were sent come once more, all at once; places count from the newest, -1."""
        for text in [self.sent[place] for place in places]:
            self.feed.receive(self.line, text, self.now_ns)

    def frame(self, stream: str, line: int | None = None, **data: Any) -> None:
        self.now_ns += S // 10
        data.update(s=self.symbol, E=self.now_ns // 10**6 - round(self.back_s * 1000))
        text = json.dumps({"stream": f"{self.symbol.lower()}@{stream}", "data": data}, separators=(",", ":")).encode()
        self.sent.append(text)
        self.feed.receive(self.line if line is None else line, text, self.now_ns)

    def diffs(self, first_id: int, count: int, step: int = 10, line: int | None = None) -> None:
        for last_id in range(first_id, first_id + count * step, step):
            self.diff(last_id - step, last_id, line=line)

    def trades(self, first_id: int, count: int) -> list[int]:
        """Those published of `count` trades."""
        self.collector.take()
        for trade_id in range(first_id, first_id + count):
            self.trade(trade_id, "100")
        return [said["trade_id"] for said in self.said("trades")]


@pytest.fixture
def desk() -> SetBack:
    one = SetBack()
    one.seat()
    one.diffs(110, 5)
    return one


def test_old_ids_with_old_times_restart_the_book_within_a_second(desk):
    desk.back_s = 3600.0
    desk.diffs(20, 10, step=1)
    assert desk.track.state == "LIVE"
    desk.diffs(30, 2, step=1)
    assert (desk.track.state, desk.track.reason) == ("SUSPECT", "ids_restarted")


def test_losses_do_not_hide_ids_that_have_fallen(desk):
    desk.back_s = 60.0
    for last_id in range(20, 44, 2):  # every other diff is lost: none chains
        desk.diff(last_id - 1, last_id)
    assert (desk.track.state, desk.track.reason) == ("SUSPECT", "ids_restarted")


def test_a_line_that_is_back_with_other_ids_restarts_the_book_too(desk):
    """Its ids have not fallen on this connection; but no line lags by an hour."""
    other = desk.feed.open_line("two", ["btcusdt@depth@100ms"], desk.now_ns)
    desk.feed.lost(desk.line, desk.now_ns)
    desk.back_s = 3600.0
    desk.diffs(20, 10, step=1, line=other)
    assert desk.track.state == "LIVE"
    desk.diffs(30, 2, step=1, line=other)
    assert (desk.track.state, desk.track.reason) == ("SUSPECT", "ids_restarted")


def test_a_line_that_is_level_with_the_book_after_as_long_as_it_lags_is_left_alone(desk):
    """It may lag by 20 s; but then its times are the book's, and its ids still are not."""
    other = desk.feed.open_line("two", ["btcusdt@depth@100ms"], desk.now_ns)
    desk.feed.lost(desk.line, desk.now_ns)
    desk.back_s = 20.0
    for last_id in range(20, 60):
        desk.now_ns += S
        desk.diff(last_id - 1, last_id, line=other)
        assert desk.track.state == ("LIVE" if last_id < 40 else "SUSPECT"), last_id
    assert (desk.track.state, desk.track.reason) == ("SUSPECT", "ids_restarted")


def test_every_line_has_to_show_it(desk):
    other = desk.feed.open_line("two", ["btcusdt@depth@100ms"], desk.now_ns)
    for last_id in range(160, 460, 10):
        desk.diff(last_id - 10, last_id)
        desk.diff(last_id - 140, last_id - 130, line=other)  # far behind
    assert desk.track.resyncs == {}
    desk.back_s = 60.0
    for last_id in range(20, 60):
        desk.diff(last_id - 1, last_id)
        desk.diff(last_id - 1, last_id, line=other)
    assert desk.track.resyncs == {"ids_restarted": 1}


@pytest.mark.parametrize("heap", [1, 2, 3, 5, 8])
def test_repeats_are_no_restart(desk, heap):
    """Heaps of diffs that come again, for half a minute."""
    for first_id in range(160, 1700, 10 * heap):
        desk.diffs(first_id, heap)
        desk.again(*range(-heap, 0))
    assert desk.track.resyncs == {}
    assert (desk.track.state, desk.track.gaps) == ("LIVE", 0)


def test_ids_that_reach_the_books_are_not_taken_for_its_continuation(desk):
    desk.back_s = 60.0
    desk.diff(130, 140)
    desk.diff(140, 155, [("100", "0")])
    assert (desk.track.reason, desk.track.book.last_id) == ("ids_restarted", 150)


def test_what_is_held_of_the_old_ids_does_not_keep_a_snapshot_away():
    desk = SetBack()
    desk.diffs(5_000_010, 5)
    desk.back_s = 3600.0
    desk.diffs(10, 6, step=1)
    assert desk.snapshot(15) == "joined"
    assert desk.track.book.last_id == 15


def test_a_straggler_does_not_drop_what_is_held():
    desk = SetBack()
    desk.diffs(110, 3)
    desk.again(-3)
    desk.diffs(140, 3)
    assert desk.snapshot(105) == "joined"
    assert desk.track.book.last_id == 160


def test_trades_of_old_ids_and_times_are_followed_after_ten_seconds_and_the_first_are_missed_ones(desk):
    assert desk.trades(1000, 5) == [1000, 1001, 1002, 1003, 1004]
    desk.back_s = 3600.0
    assert desk.trades(1, 100) == []
    assert desk.trades(101, 3) == [101, 102, 103]
    tape = desk.track.tape
    assert (tape.restarts, tape.holes, tape.gaps) == (1, [(1, 100)], 1)


def test_trades_follow_sooner_where_the_books_ids_have_started_over(desk):
    desk.trades(1000, 5)
    desk.back_s = 3600.0
    desk.diffs(20, 12, step=1)
    assert desk.track.reason == "ids_restarted"
    assert desk.trades(1, 15)[-1] == 15
    assert desk.track.tape.restarts == 1


def test_trades_that_are_repeated_for_long_are_no_restart(desk):
    for first_id in range(1000, 1200, 5):
        assert desk.trades(first_id, 5) == [*range(first_id, first_id + 5)]
        desk.again(*range(-5, 0))
        assert desk.said("trades") == []
    assert desk.track.tape.restarts == 0


def test_a_snapshot_of_the_time_before_is_not_waited_for(desk):
    """A cache that is behind: its id lies ahead of the new ones, its time behind theirs."""
    before = {"lastUpdateId": 150, "E": desk.now_ns // 10**6, "bids": [("90", "1")], "asks": [("91", "1")]}
    desk.diffs(20, 4, step=1)
    assert desk.track.reason == "ids_restarted"
    desk.wait(1)
    assert desk.snapshot(23) == "joined"
    desk.diffs(24, 3, step=1)
    body = json.dumps(before).encode()
    assert desk.feed.snapshot(desk.symbol, "rest", 1000, body, desk.now_ns) == "old"
    desk.track.resyncs.clear()
    desk.diff(300, 310)
    assert desk.track.resyncs == {"gap": 1}
    assert desk.feed.snapshot(desk.symbol, "rest", 1000, body, desk.now_ns) == "gap"
    assert desk.track.state == "SUSPECT"


def test_a_shadow_that_the_book_does_not_reach_is_given_up(desk):
    """Venues that say no time in their snapshots (Spot): a snapshot of the time before is not there for long."""
    assert desk.snapshot(1000, [("90", "1")], [("91", "1")]) == "shadow"
    for last_id in range(160, 1200, 10):
        desk.diff(last_id - 10, last_id)
        desk.feed.tick(desk.now_ns)
    assert desk.track.shadow is None
    assert [said for said in desk.said("events") if said["kind"] == "reseated"] == []
    assert desk.track.state == "LIVE"


def test_books_are_proved_again_by_ids_and_times_of_the_past(desk):
    desk.ticker(151, ("100", "1"), ("101", "1"))
    desk.diffs(160, 2)
    desk.back_s = 600.0
    desk.diffs(20, 12, step=1)
    assert desk.track.reason == "ids_restarted"
    assert desk.snapshot(31) == "joined"
    matches = desk.track.proof["match"]
    for last_id in range(32, 40):
        desk.diff(last_id - 1, last_id)
        desk.ticker(last_id + 1, ("100", "1"), ("101", "1"))
    assert (desk.track.state, desk.track.reason) == ("PROVED", "book_ticker")
    assert desk.track.proof["match"] >= matches + 7


def test_a_straggling_ticker_of_the_old_ids_does_not_end_the_proof(desk):
    desk.ticker(151, ("100", "1"), ("101", "1"))
    desk.back_s = 600.0
    desk.diffs(20, 12, step=1)
    assert desk.snapshot(31) == "joined"
    desk.back_s = 0.0
    desk.ticker(155, ("100", "1"), ("101", "1"))  # it was on its way for long
    desk.back_s = 600.0
    for last_id in range(32, 60):
        desk.diff(last_id - 1, last_id)
        desk.ticker(last_id + 1, ("100", "1"), ("101", "1"))
    assert desk.track.state == "PROVED"
