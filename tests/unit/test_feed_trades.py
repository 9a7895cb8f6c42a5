"""Trades, each exactly once: holes in their ids, what REST brings late, what is lost for good."""

from __future__ import annotations

import json

import pytest

from mdfeed import venues
from mdfeed._seeds import Seeds
from mdfeed.errors import DecodeError
from mdfeed.exchange.rest import Desk
from mdfeed.exchange.weight import Scales
from tests.virtual import MS, World

VENUE = venues.get("binance-usdm")


def rest_of(world: World):
    """GET by the market's own desk."""
    desk = Desk(world.market, lambda: world.now_ns, Scales(weight_max=10**9))

    def get(request) -> bytes:
        answer = desk.answer("GET", request.path, "test")
        assert answer.status == 200, answer.body
        return answer.body

    return get


def silence_trades(line, time_ns, stream, frame):
    return () if "aggTrade" in stream else ((0, frame),)


def all_frames(line, time_ns, stream, frame):
    return ((0, frame),)


def fill_holes(world: World, symbol: str = "BTCUSDT") -> int:
    get, seeds, found = rest_of(world), Seeds(world.feed), 0
    for first_id, last_id in world.feed.tracks[symbol].agg_trades.holes:
        rows = VENUE.parse_agg_trades(
            get(VENUE.agg_trades_request(symbol, first_id, min(1000, last_id - first_id + 1)))
        )
        found += seeds.trades(symbol, rows, world.now_ns)
    world.check()
    return found


def test_a_hole_is_filled_once_and_in_order():
    world = World(rate=150)
    world.run(4)
    for _ in range(3):
        world.spoil = silence_trades
        world.run(2)
        world.spoil = all_frames
        world.run(2)
    track = world.feed.tracks["BTCUSDT"]
    tape = track.agg_trades
    missing = tape.missing
    assert len(tape.holes) == 3
    assert missing > 20
    last_price = track.trade_summary()["last"]
    fresh_ns = track.last_frame_ns
    assert fill_holes(world) == missing == tape.filled
    assert fill_holes(world) == 0
    assert (tape.holes, tape.missing, tape.lost) == ([], 0, 0)
    assert track.trade_summary()["last"] == last_price, "a late trade is not the last one"
    assert track.last_frame_ns == fresh_ns, "REST says nothing about freshness"
    ids = world.trade_ids["BTCUSDT"]
    assert sorted(ids) == list(range(min(ids), max(ids) + 1))
    assert ids[-missing:] == sorted(ids[-missing:])
    world.run(1)
    traded = {agg.agg_id: agg for agg in world.market.tape("BTCUSDT").aggs}
    assert sorted(world.trade_ids["BTCUSDT"]) == sorted(n for n in traded if n <= tape.last_id)


def test_a_line_that_was_lost_leaves_one_hole():
    world = World()
    world.run(3)
    world.lose(0)
    world.run(5)
    world.reconnect(0)
    world.run(3)
    tape = world.feed.tracks["BTCUSDT"].agg_trades
    assert (len(tape.holes), tape.gaps) == (1, 1)
    assert fill_holes(world) > 10
    assert tape.holes == []


def test_what_a_line_brings_late_is_not_published_again():
    world = World(lines=2)
    held = []

    def hold_back(line, time_ns, stream, frame):
        if "aggTrade" in stream and world.now_ns % 3 == 0 and line == 0:
            held.append(frame)
            return ()
        return ((line * 400 * MS, frame),)

    world.spoil = hold_back
    world.run(8)
    fill_holes(world)
    world.run(2)
    ids = world.trade_ids["BTCUSDT"]
    assert len(ids) == len(set(ids))
    assert sorted(ids) == list(range(min(ids), max(ids) + 1))


def test_rows_that_are_not_missing_are_nothing():
    world = World()
    world.run(3)
    tape = world.feed.tracks["BTCUSDT"].agg_trades
    before = len(world.trade_ids["BTCUSDT"])
    body = rest_of(world)(VENUE.agg_trades_request("BTCUSDT", 1, 1000))
    assert Seeds(world.feed).trades("BTCUSDT", VENUE.parse_agg_trades(body), world.now_ns) == 0
    world.check()
    assert len(world.trade_ids["BTCUSDT"]) == before
    assert tape.duplicates == 0


def test_given_up_trades_are_counted():
    world = World()
    world.run(3)
    world.spoil = silence_trades
    world.run(3)
    world.spoil = all_frames
    world.run(2)
    tape = world.feed.tracks["BTCUSDT"].agg_trades
    [(first_id, last_id)] = tape.holes
    assert tape.give_up(first_id, last_id) == last_id - first_id + 1 == tape.lost
    assert (tape.holes, tape.missing) == ([], 0)


def test_more_holes_than_are_remembered_are_counted_as_lost():
    world = World(rate=300)
    world.run(2)
    count = [0]

    def drop_every_third(line, time_ns, stream, frame):
        if "aggTrade" not in stream:
            return ((0, frame),)
        count[0] += 1
        return () if count[0] % 3 == 0 else ((0, frame),)

    world.spoil = drop_every_third
    world.run(20)
    tape = world.feed.tracks["BTCUSDT"].agg_trades
    assert len(tape.holes) == 32
    assert tape.lost > 0
    newest = world.trade_ids["BTCUSDT"]
    assert tape.missing + tape.lost + len(newest) == max(newest) - min(newest) + 1


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'[{"a":1}]', b'[{"a":1,"p":"x","q":"1","T":1,"m":true,"f":1,"l":1}]', b"<html>"]
)
def test_a_body_that_is_none_raises_one_error_type(body):
    with pytest.raises(DecodeError):
        VENUE.parse_agg_trades(body)
    with pytest.raises(DecodeError):
        VENUE.parse_klines(body)


def test_fills_that_are_no_market_trades_count_nothing():
    world = World(channels=("depth@100ms", "bookTicker", "trade"))
    world.comparer.leave_out("trades", "trades_stream")  # the market remembers aggregate trades
    world.run(2)
    track = world.feed.tracks["BTCUSDT"]
    before, volume = len(world.trade_ids["BTCUSDT"]), track.trade_summary()
    for offset, kind in enumerate(("INSURANCE_FUND", "ADL", "NA"), 1):
        frame = {
            "stream": "btcusdt@trade",
            "data": {"e": "trade", "E": world.now_ns // MS, "T": world.now_ns // MS, "s": "BTCUSDT", "p": "99999",
                     "t": track.single_trades.last_id + 1, "q": "9", "X": kind, "m": False},
        }  # fmt: skip
        assert offset
        assert world.feed.receive(world.lines[0], json.dumps(frame).encode(), world.now_ns) == 0
    world.check()
    assert len(world.trade_ids["BTCUSDT"]) == before
    assert track.trade_summary() == volume
    assert track.single_trades.gaps == 0
