"""Diffs that do not come while other frames of the symbol do, or never come: found out, and no book is believed."""

from __future__ import annotations

import pytest

from mdfeed.exchange.profiles import symbol_names
from tests.unit.test_feed_edges import Desk
from tests.virtual import S, World, untouched

SYMBOLS = ("BTCUSDT", "ETHUSDT")
CHANNELS = ("depth@100ms", "bookTicker", "aggTrade", "ticker")


def only(*heads):
    """Spoils a world: of BTCUSDT these channels come, of the others all."""
    return lambda line, time_ns, stream, frame: (
        ((0, frame),) if not stream.startswith("btcusdt@") or stream.partition("@")[2].startswith(heads) else ()
    )


def good_s(world: World, seconds: float, symbol: str = "BTCUSDT") -> list[float]:
    """How long the symbol was good, each time that it was, while `seconds` passed."""
    track, runs, was_good = world.feed.tracks[symbol], [], False
    for _ in range(round(seconds * 10)):
        world.run(0.1)
        is_good = track.state in ("LIVE", "PROVED")
        if is_good and not was_good:
            runs.append(0.0)
        if is_good:
            runs[-1] += 0.1
        was_good = is_good
    return runs


@pytest.mark.parametrize("heads", [("aggTrade",), ("ticker",), ("aggTrade", "ticker")])
def test_a_book_whose_diffs_and_tickers_are_silent_is_not_kept_good_by_other_streams(heads):
    world = World(SYMBOLS, channels=CHANNELS)
    world.run(20)
    track, other = world.feed.tracks.values()
    world.spoil = only(*heads)
    [run_s] = good_s(world, 150)
    assert run_s < 6.0
    assert (track.state, track.reason) in (("STALE", "depth_silent"), ("SUSPECT", "depth_silent"))
    assert world.feed.alarms(world.now_ns)[0][:2] == ("BTCUSDT", "depthUpdate"), "the line is to be replaced"
    assert (other.state, other.resyncs) == ("PROVED", {})
    assert track.resyncs == {"depth_silent": 1}
    world.spoil = untouched
    world.run(3)
    assert track.state == "PROVED"


def test_nothing_of_a_silent_book_is_published():
    world = World(SYMBOLS, channels=CHANNELS)
    world.run(20)
    world.spoil = only("aggTrade")
    world.run(6)
    before = world.feed.tracks["BTCUSDT"].seq
    world.run(150)
    assert world.feed.tracks["BTCUSDT"].seq == before


def test_a_silence_that_a_check_finds_legitimate_may_last_longer_each_time():
    world = World(channels=CHANNELS)
    world.run(20)
    track = world.feed.tracks["BTCUSDT"]
    world.market.halt("BTCUSDT", True)
    asked, runs = world.snapshots_asked, []
    for _ in range(300):
        # Its 24 h ticker goes on all the same.
        world.feed.receive(world.lines[0], ticker(track.symbol, world.now_ns), world.now_ns)
        runs += good_s(world, 1)
    assert (track.state, track.reason, track.resyncs) == ("LIVE", "quiet", {})
    assert sum(runs) > 295
    assert world.snapshots_asked - asked <= 7
    world.market.halt("BTCUSDT", False)
    world.run(2)
    assert track.state == "PROVED"
    world.spoil = only("aggTrade")
    world.run(6)
    assert track.state in ("STALE", "SUSPECT"), "patience is learned anew"


def ticker(symbol: str, now_ns: int) -> bytes:
    return (
        b'{"stream":"%s@ticker","data":{"e":"24hrTicker","E":%d,"s":"%s","p":"1","P":"1","w":"1","c":"1","Q":"1","o":"1",'
        b'"h":"1","l":"1","v":"1","q":"1","O":1,"C":%d,"F":1,"L":1,"n":1}}'
        % (symbol.lower().encode(), now_ns // 10**6, symbol.encode(), now_ns // 10**6)
    )


class Slow(Desk):
    """A symbol of which little comes."""

    def states(self) -> list[tuple[str, str]]:
        return [(said["state"], said["reason"]) for said in self.said("state")]

    def idle(self, seconds: int, *, trades: bool = False) -> None:
        """Other frames go on, once a second; a check is answered with the book's own id."""
        for _ in range(seconds):
            self.wait(1)
            if trades:
                self.trade(self.now_ns // S, "100")
            else:
                self.feed.receive(self.line, ticker(self.symbol, self.now_ns), self.now_ns)
            if self.wanted() and self.wanted()[0][1] == 5:
                self.feed.snapshot_requested(self.symbol, self.now_ns)
                assert self.snapshot(self.track.book.last_id, limit=5) == "quiet"


def test_diffs_that_are_rare_by_nature_do_not_flap():
    desk = Slow()
    desk.seat()
    for last_id in range(101, 106):
        desk.idle(9)
        desk.diff(last_id - 1, last_id, [("98", str(last_id))])
    desk.states()
    for last_id in range(106, 140):
        desk.idle(15 if last_id % 3 else 4)
        desk.diff(last_id - 1, last_id, [("98", str(last_id))])
    assert desk.states() == []


def test_trades_that_change_no_book_lose_their_weight():
    """Some orders rest unseen: what trades with them, the diffs do not show."""
    desk = Slow()
    desk.seat()
    for last_id in range(101, 131):
        desk.diff(last_id - 1, last_id)
    desk.states()
    desk.idle(120, trades=True)
    assert len(desk.states()) <= 2 * 5
    assert desk.track.resyncs == {}


def test_a_trade_that_no_diff_follows_ends_a_long_patience():
    desk = Slow()
    desk.seat()
    desk.idle(90)
    desk.states()
    desk.trade(1, "100")
    desk.wait(6)
    assert desk.states() == [("STALE", "depth_silent")]
    assert desk.snapshot(101, limit=5) == "resync"


def test_a_snapshot_beyond_a_book_that_nothing_moves_finds_it_deaf():
    desk = Slow()
    desk.seat()
    desk.idle(90)
    desk.feed.snapshot_requested(desk.symbol, desk.now_ns)
    assert desk.snapshot(110) == "shadow"
    desk.states()
    for _ in range(7):
        desk.wait(1)
        desk.feed.receive(desk.line, ticker(desk.symbol, desk.now_ns), desk.now_ns)
    assert desk.states() == [("SUSPECT", "depth_silent")]


def test_a_venue_that_is_deaf_from_the_start_is_believed_once():
    world = World(SYMBOLS, channels=CHANNELS)
    world.spoil = lambda line, time_ns, stream, frame: ()
    [run_s] = good_s(world, 200)
    assert run_s < 6.0
    assert world.snapshots_asked <= 2 * 9, "asked ever more seldom"
    world.lose(0)
    world.run(1)
    world.reconnect(0)
    assert good_s(world, 30) == [], "another line, as deaf"
    world.spoil = untouched
    world.run(3)
    assert {track.state for track in world.feed.tracks.values()} == {"PROVED"}


def test_a_contract_that_is_halted_at_the_start_is_quiet():
    world = World(SYMBOLS, channels=CHANNELS)
    world.market.halt("BTCUSDT", True)
    runs = good_s(world, 100)
    assert sum(runs) > 95
    track = world.feed.tracks["BTCUSDT"]
    assert (track.state, track.reason, track.resyncs) == ("LIVE", "quiet", {})


def test_a_deaf_book_whose_contract_halts_is_good_once_two_snapshots_agree():
    world = World(SYMBOLS, channels=CHANNELS)
    world.run(5)
    world.spoil = lambda line, time_ns, stream, frame: ()
    world.run(8)
    assert world.feed.tracks["BTCUSDT"].state in ("STALE", "SUSPECT")
    world.market.halt("BTCUSDT", True)
    world.run(60)
    assert world.feed.tracks["BTCUSDT"].state == "LIVE"
    assert sum(good_s(world, 100)) > 98


def test_a_route_that_is_dead_for_many_symbols_is_no_reason_to_check_each_at_once():
    """Depth and bookTicker are on one line, trades on another."""
    many = symbol_names(12)
    world = World(many, channels=CHANNELS)
    market = world.feed.open_line("market-0", [f"{symbol.lower()}@aggTrade" for symbol in many], world.now_ns)
    route = {"aggTrade": market}
    receive = world.feed.receive
    world._deliver = lambda number, line, frame, time_ns: receive(
        route.get(next((name for name in route if name.encode() in frame), ""), line), frame, time_ns
    )
    world.run(5)
    asked = world.snapshots_asked
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),) if "aggTrade" in stream else ()
    world.run(9)
    assert {(track.state, track.reason) for track in world.feed.tracks.values()} == {("STALE", "depth_silent")}
    assert world.snapshots_asked == asked
    world.run(10)
    assert {sum(track.resyncs.values()) for track in world.feed.tracks.values()} == {1}
