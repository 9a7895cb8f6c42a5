"""What the deferred comparison makes of bookTickers that come twice, late, lost, or of another past."""

from __future__ import annotations

import json
import random

from tests.virtual import MS, S, World


def test_tickers_that_come_again_later_contradict_nothing():
    world = World(("BTCUSDT", "ETHUSDT"), rate=120)
    world.run(4)
    draw = random.Random(3)

    def again(line, time_ns, stream, frame):
        return ((0, frame), (draw.randrange(200) * MS, frame)) if "@bookTicker" in stream else ((0, frame),)

    world.spoil = again
    world.run(20)
    assert world.proof()["mismatch"] == 0
    assert world.proof()["match"] > 200
    assert all(track.resyncs == {} for track in world.feed.tracks.values())


def test_ids_that_start_over_are_proved_again_on_the_same_connection():
    world = World()
    world.run(4)
    world.market.restart_ids()
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]
    matches = track.proof["match"]
    assert track.resyncs == {"ids_restarted": 1}
    world.run(4)
    assert track.state == "PROVED"
    assert track.proof["match"] > matches + 10
    assert track.proof["mismatch"] == 0


def test_a_blown_fuse_does_not_keep_books_from_being_proved():
    world = World(("BTCUSDT", "ETHUSDT", "SYM001USDT", "SYM002USDT"))
    world.run(4)

    def another_meaning(line, time_ns, stream, frame):
        message = json.loads(frame)
        if message["data"]["e"] == "bookTicker":
            message["data"]["B"] = "1" + message["data"]["B"]
        return ((0, json.dumps(message).encode()),)

    world.spoil = another_meaning
    world.comparer.is_bbo_foreign = True
    world.run(10)
    assert world.feed.fuse.is_blown
    assert not any(track.state == "PROVED" for track in world.feed.tracks.values())
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),)
    ended_ns = world.now_ns
    world.run(5)
    assert {track.state for track in world.feed.tracks.values()} == {"PROVED"}
    assert world.now_ns - ended_ns == 5 * S
