"""How soon a book that was lost is asked for again."""

from __future__ import annotations

import json

from tests.virtual import S, World


def test_a_line_that_breaks_again_and_again_does_not_make_the_book_wait_longer_each_time():
    world = World(rate=120)
    world.run(12)
    track = world.feed.tracks["BTCUSDT"]
    for _ in range(8):
        world.lose(0)
        world.run(0.2)
        world.reconnect(0)
        world.run(3.0)
        assert track.state == "PROVED"


def test_a_venue_that_contradicts_itself_is_asked_ever_more_seldom():
    world = World(rate=120)
    world.run(4)
    world.check = lambda: world.collector.take()
    track = world.feed.tracks["BTCUSDT"]

    def crossed(symbol, body):
        book = json.loads(body)
        book["asks"][0][0] = "1.00"
        return json.dumps(book)

    world.spoil_snapshot = crossed
    world.lose(0)
    world.run(0.5)
    world.reconnect(0)
    asked = world.snapshots_asked
    world.run(40)
    assert track.resyncs["crossed"] <= world.snapshots_asked - asked <= 9
    assert track.state == "SUSPECT"
    assert world.now_ns > 40 * S


def test_what_is_counted_by_symbol_for_those_who_watch():
    world = World(("BTCUSDT", "ETHUSDT"))
    world.run(5)
    track, other = world.feed.tracks["BTCUSDT"], world.feed.tracks["ETHUSDT"]
    assert track.is_carried
    assert track.frames_by_kind.keys() == {"depthUpdate", "bookTicker", "aggTrade"}
    assert sum(track.frames_by_kind.values()) == track.frames
    assert 0 < track.cadence_ns < S
    assert track.silence_limit_ns == max(5 * S, 10 * track.cadence_ns)
    held = track.memory_bytes
    assert held["books"] == track.book.memory_bytes > 20_000
    assert held["windows"] == track.window.memory_bytes
    assert held["proofs"] > 0
    frame = b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":1,"s":"BTCUSDT","b":"x","B":"1","a":"1"}}'
    world.feed.receive(world.lines[0], frame, world.now_ns)
    world.feed.receive(world.lines[0], b"nobody's", world.now_ns)
    assert (track.errors, other.errors, sum(world.feed.decode_errors.values())) == (1, 0, 2)
    assert track.disconnects == 0
    world.lose(0)
    assert not track.is_carried
    assert (track.disconnects, other.disconnects) == (1, 1)
