"""What the lines of a symbol show of themselves: who is first, who lags, what is silent."""

from __future__ import annotations

from tests.virtual import MS, World


def without(*streams):
    """Spoils a world: these streams say nothing, on the lines whose numbers are given first."""
    *lines, head = streams
    return lambda line, time_ns, stream, frame: () if line in lines and stream.startswith(head) else ((0, frame),)


def test_the_faster_line_wins_and_its_delay_is_smaller():
    world = World(lines=2)
    world.spoil = lambda line, time_ns, stream, frame: ((line * 30 * MS, frame),)
    world.run(20)
    fast, slow = world.feed.races["public-0"], world.feed.races["public-1"]
    assert fast.wins == fast.diffs > 100
    assert slow.wins == 0
    assert slow.diffs >= fast.diffs - 5
    assert 29 * MS < slow.delay_ns - fast.delay_ns < 31 * MS
    world.lose(1)
    world.reconnect(1)
    world.run(5)
    assert world.feed.races["public-1"].diffs > slow.diffs, "a line's connections add up"


def test_delays_are_corrected_by_the_clock_offset():
    world = World()
    world.run(5)
    track = world.feed.tracks["BTCUSDT"]
    raw_ns = track.venue_delay_ns
    assert world.feed.take_least_delay() <= raw_ns
    assert world.feed.take_least_delay() is None
    world.feed.clock_offset_ns = 7 * MS
    assert track.venue_delay_ns == raw_ns + 7 * MS
    assert world.feed.add("ETHUSDT").clock_offset_ns == 7 * MS


def test_bookticker_that_goes_on_without_diffs_is_an_alarm():
    world = World(("BTCUSDT", "ETHUSDT"))
    world.run(5)
    world.spoil = without(0, "btcusdt@depth")
    world.run(6)
    btc, eth = world.feed.tracks.values()
    assert btc.resyncs == {"depth_silent": 1}
    assert eth.resyncs == {}
    alarms = world.feed.alarms(world.now_ns)
    assert [(alarm.symbol, alarm.kind, alarm.line) for alarm in alarms] == [("BTCUSDT", "depthUpdate", "")]
    assert world.feed.alarms(world.now_ns) == [], "told once"


def test_a_line_that_lags_behind_another_is_named():
    world = World(lines=2)
    world.run(5)
    world.spoil = without(1, "btcusdt@depth")
    world.run(4)
    assert world.feed.alarms(world.now_ns) == []
    world.run(6)
    alarms = world.feed.alarms(world.now_ns)
    assert [(alarm.symbol, alarm.kind, alarm.line) for alarm in alarms] == [("BTCUSDT", "depthUpdate", "public-1")]
    assert world.feed.tracks["BTCUSDT"].resyncs == {}
    assert world.feed.tracks["BTCUSDT"].state == "PROVED"


def test_trades_that_stop_are_an_alarm_only_beyond_their_own_pace():
    world = World()
    world.run(30)
    world.spoil = without(0, "btcusdt@aggTrade")
    world.run(50)
    assert world.feed.alarms(world.now_ns) == []
    world.run(60)
    assert [alarm.kind for alarm in world.feed.alarms(world.now_ns)] == ["aggTrade"]


def test_a_quiet_symbol_is_no_alarm():
    world = World()
    world.run(30)
    world.spoil = lambda line, time_ns, stream, frame: ()
    world.run(3)
    assert world.feed.alarms(world.now_ns) == []
