"""24 h figures of the feed: unknown, then the venue's, then our own; always checked against the venue's."""

from __future__ import annotations

import json

import pytest

from tests.virtual import MS, World


def ticker_frame(world, volume, quote_volume, close_ns, symbol="BTCUSDT"):
    row = {
        "e": "24hrTicker", "E": close_ns // MS, "s": symbol, "p": "1", "P": "0.1", "w": "61800.0", "c": "61800.0",
        "Q": "1", "o": "61000.0", "h": "62500.0", "l": "60100.0", "v": volume, "q": quote_volume,
        "O": close_ns // MS - 86_400_000, "C": close_ns // MS, "F": 1, "L": 9, "n": 77,
    }  # fmt: skip
    return json.dumps({"stream": f"{symbol.lower()}@ticker", "data": row}).encode()


def last_market_data(world):
    seen = []

    def look():
        payloads = world.collector.take()
        assert not [each for each in payloads if not world.comparer.take(*each)], world.comparer.wrong
        seen.extend(payload for kind, _, payload in payloads if kind == "market_data")

    world.check = look
    world.run(1)
    del world.check
    return json.loads(seen[-1])


def test_24_h_figures_are_null_until_known_then_the_venues_then_ours():
    world = World()
    world.run(3)
    said = last_market_data(world)
    assert (said["volume_24h"], said["high_24h"], said["low_24h"]) == (None, None, None)
    world.feed.receive(world.lines[0], ticker_frame(world, "5000.0", "309000000", world.now_ns), world.now_ns)
    before = world.feed.tracks["BTCUSDT"].trade_summary()
    world.run(5)
    said = last_market_data(world)
    after = world.feed.tracks["BTCUSDT"].trade_summary()
    assert (said["high_24h"], said["low_24h"]) == (62500.0, 60100.0)
    traded = float(after["qty"]) - float(before["qty"])
    assert traded > 0
    assert said["volume_24h"] == pytest.approx(5000.0 + traded, rel=1e-3)


def test_the_venues_ticker_checks_our_figures():
    world = World()
    world.run(3)
    track = world.feed.tracks["BTCUSDT"]
    world.feed.receive(world.lines[0], ticker_frame(world, "5000.0", "309000000", world.now_ns), world.now_ns)
    world.run(3)
    world.feed.receive(world.lines[0], ticker_frame(world, "10000.0", "618000000", world.now_ns), world.now_ns)
    assert track.volume_error == pytest.approx(-0.5, abs=0.01)


def test_missed_trades_are_made_good_by_the_venues_ticker():
    world = World()
    world.run(3)
    track = world.feed.tracks["BTCUSDT"]
    world.feed.receive(world.lines[0], ticker_frame(world, "5000.0", "309000000", world.now_ns), world.now_ns)
    world.spoil = lambda line, time_ns, stream, frame: () if "aggTrade" in stream else ((0, frame),)
    world.run(5)
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),)
    world.run(3)
    assert track.trade_gaps == 1
    assert track.tape.missing > 0
    world.feed.receive(world.lines[0], ticker_frame(world, "7000.0", "430000000", world.now_ns), world.now_ns)
    assert last_market_data(world)["volume_24h"] == pytest.approx(7000.0, rel=1e-2)


def shifted(frame, by_ns):
    """The same frame of a venue whose clock stands elsewhere."""
    wrapped = json.loads(frame)
    for key in ("E", "T"):
        if key in wrapped["data"]:
            wrapped["data"][key] += by_ns // MS
    return json.dumps(wrapped).encode()


@pytest.mark.parametrize("venue_ahead_s", [-2 * 365 * 86_400, -3600, 3600])
def test_the_24_hours_are_the_venues(venue_ahead_s):
    world, by_ns = World(), venue_ahead_s * 10**9
    world.spoil = lambda line, time_ns, stream, frame: ((0, shifted(frame, by_ns)),)
    world.run(3)
    # While the venue's clock is unknown, trades of another year are not taken for a day without trades.
    assert last_market_data(world)["volume_24h"] is None
    world.feed.clock_offset_ns = by_ns
    ticker = ticker_frame(world, "5000.0", "309000000", world.now_ns + by_ns)
    world.feed.receive(world.lines[0], ticker, world.now_ns)
    before = float(world.feed.tracks["BTCUSDT"].trade_summary()["qty"])
    world.run(5)
    said = last_market_data(world)
    traded = float(world.feed.tracks["BTCUSDT"].trade_summary()["qty"]) - before
    assert traded > 0
    assert said["volume_24h"] == pytest.approx(5000.0 + traded, rel=1e-3)
    assert (said["high_24h"], said["low_24h"]) == (62500.0, 60100.0)
