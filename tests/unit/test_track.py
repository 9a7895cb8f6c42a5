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
