"""Snapshots as the heart wants and takes them: cheap first, full in a shadow, audits, partial depth, testimonies."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from mdfeed import venues
from mdfeed._encode import Collector
from mdfeed._feed import Feed
from mdfeed.exchange.market import START_NS
from tests.virtual import MS, S, World


def note_limits(world: World) -> list[tuple[str, int]]:
    """(symbol, levels of the longer side) of each snapshot that is handed over from now on."""
    asked: list[tuple[str, int]] = []

    def note(symbol, body):
        book = json.loads(body)
        asked.append((symbol, max(len(book["bids"]), len(book["asks"]))))
        return body

    world.spoil_snapshot = note
    return asked


def test_a_cheap_snapshot_seats_the_book_and_a_full_one_follows_in_a_shadow():
    world = World(("BTCUSDT", "ETHUSDT"), rest_latency_ns=400 * MS)
    asked = note_limits(world)
    world.run(0.9)
    track = world.feed.tracks["BTCUSDT"]
    assert (track.state, track.book.verified_bids) in [("LIVE", n) for n in range(40, 60)] + [
        ("PROVED", n) for n in range(40, 60)
    ]
    world.run(3)
    assert asked[:2] == [("BTCUSDT", 50), ("ETHUSDT", 50)] or asked[:2] == [("ETHUSDT", 50), ("BTCUSDT", 50)]
    assert sorted(asked[2:]) == [("BTCUSDT", 1000), ("ETHUSDT", 1000)]
    assert track.book.verified_bids > 900
    assert (track.state, track.resyncs, track.ghosts) == ("PROVED", {}, 0)


def test_wishes_come_in_the_order_of_their_urgency():
    world = World(("BTCUSDT", "ETHUSDT", "SYM001USDT"))
    world.run(4)
    world.is_fetching = False
    world.spoil = lambda line, time_ns, stream, frame: () if stream.startswith("sym001usdt") else ((0, frame),)
    world.run(4)
    dropped = []

    def drop_one(line, time_ns, stream, frame):
        if stream.startswith("ethusdt@depth") and not dropped:
            dropped.append(stream)
            return ()
        return () if stream.startswith("sym001usdt") else ((0, frame),)

    world.spoil = drop_one
    world.run(4)
    wanted = world.feed.wanted(world.now_ns)
    assert [(one.symbol, one.limit, one.priority) for one in wanted] == [("ETHUSDT", 50, 0), ("SYM001USDT", 5, 3)]


def test_ghosts_far_from_the_touch_are_counted_and_mended():
    world = World(rate=200)
    world.run(5)
    track = world.feed.tracks["BTCUSDT"]
    spoiled = []

    def plant(line, time_ns, stream, frame):
        """One diff leaves a level 300 deep that is not there: no id and no ticker betrays it."""
        if "@depth" not in stream or spoiled:
            return ((0, frame),)
        message = json.loads(frame)
        price, qty = track.book.levels("bids", 300)[-1]
        message["data"]["b"].append([str(price - Decimal("0.01")), str(qty)])
        spoiled.append(price)
        return ((0, json.dumps(message).encode()),)

    world.spoil = plant
    world.run(5)
    assert spoiled
    assert (track.state, track.ghosts) == ("PROVED", 0)
    world.run(5 * 60)
    assert track.ghosts == 1
    assert track.resyncs == {}
    reseated = [event for event in world.feed.publisher.events if event.kind == "reseated"]
    assert [event.detail["ghosts"] for event in reseated] == [0, 1]


def partial_world(**options) -> World:
    world = World(channels=("depth@100ms", "bookTicker", "aggTrade", "depth20@100ms"), **options)
    world.is_fetching = False
    return world


def test_partial_depth_seats_a_book_that_nothing_else_can():
    world = partial_world(rate=200)
    world.run(30)
    track = world.feed.tracks["BTCUSDT"]
    assert (track.state, track.reason, track.source) == ("PROVED", "book_ticker_depth20", "depth20")
    assert track.resyncs == {}
    assert world.books_compared > 250
    assert world.comparer.levels > 0.97 * 80 * world.books_compared, "close to 20 levels a side all the time"
    assert world.proof()["mismatch"] == 0
    # The sources above come back.
    world.is_fetching = True
    world.run(3)
    assert (track.state, track.reason, track.source) == ("PROVED", "book_ticker", "rest")
    assert track.book.verified_bids > 900


@pytest.mark.parametrize("delay_ms", [-60, 60])
def test_partial_depth_ahead_of_and_behind_the_diffs(delay_ms):
    world = partial_world()

    def shift(line, time_ns, stream, frame):
        is_late = ("@depth20" in stream) == (delay_ms > 0)
        return ((abs(delay_ms) * MS if is_late else 0, frame),)

    world.spoil = shift
    world.run(10)
    track = world.feed.tracks["BTCUSDT"]
    assert (track.state, track.source, track.resyncs) == ("PROVED", "depth20", {})


def test_a_gap_heals_by_partial_depth():
    world = partial_world()
    world.run(5)
    dropped = []

    def drop_one(line, time_ns, stream, frame):
        if "@depth@" in stream and not dropped:
            dropped.append(frame)
            return ()
        return ((0, frame),)

    world.spoil = drop_one
    world.run(2)
    track = world.feed.tracks["BTCUSDT"]
    assert (track.gaps, track.resyncs, track.state) == (1, {"gap": 1}, "PROVED")


def test_the_source_is_said_in_the_reason():
    world = World()
    world.is_fetching = False
    world.run(1)
    world.feed.snapshot_requested("BTCUSDT", world.now_ns)
    world.feed.snapshot("BTCUSDT", "ws_api", 50, world.market.depth("BTCUSDT", 50).encode(), world.now_ns)
    world.run(2)
    assert [(state, reason) for _, _, state, reason in world.states][-2:] == [
        ("LIVE", "synced_ws_api"),
        ("PROVED", "book_ticker_ws_api"),
    ]


def test_failures_of_the_host_do_not_make_a_symbol_wait_long():
    world = World()
    world.spoil_snapshot = lambda symbol, body: None
    world.run(120)
    world.spoil_snapshot = lambda symbol, body: body
    world.run(5)
    assert world.feed.tracks["BTCUSDT"].state == "PROVED"


def test_a_snapshot_for_a_book_with_a_parked_gap_waits():
    world = World(lines=2)
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]
    lags = {0: 0, 1: 500 * MS}
    world.spoil = lambda line, time_ns, stream, frame: ((lags[line], frame),)
    world.run(2)
    dropped = []

    def drop_on_the_first(line, time_ns, stream, frame):
        if "@depth" in stream and line == 0 and not dropped:
            dropped.append(frame)
            return ()
        return ((lags[line], frame),)

    world.spoil = drop_on_the_first
    while not track.buffer.count:
        world.run(0.01)
    body = world.market.depth("BTCUSDT", 1000).encode()
    assert world.feed.wanted(world.now_ns + 3600 * S) == []
    assert world.feed.snapshot("BTCUSDT", "rest", 1000, body, world.now_ns) == "old"
    world.run(3)
    assert (track.gaps, track.resyncs, track.state) == (0, {}, "PROVED")


def test_what_led_to_a_contradicted_book_is_testified():
    world = World(("BTCUSDT", "ETHUSDT"), recall_bytes=1 << 20)
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]

    def lie_about_the_top(line, time_ns, stream, frame):
        if not stream.startswith("btcusdt@depth") or track.resyncs:
            return ((0, frame),)
        message = json.loads(frame)
        message["data"]["b"] = []
        return ((0, json.dumps(message).encode()),)

    world.spoil = lie_about_the_top
    world.check = lambda: world.collector.take()
    world.run(3)
    [testimony] = world.feed.testimonies
    assert testimony.symbol == "BTCUSDT"
    assert testimony.mismatch == track.last_mismatch
    assert len(testimony.frames) > 50
    assert all(b'"BTCUSDT"' in frame for _, frame in testimony.frames)
    assert [at for at, _ in testimony.frames] == sorted(at for at, _ in testimony.frames)
    assert testimony.frames[-1][0] == testimony.at_ns, "the frame that contradicted is the last one"
    last_id, bids, asks = testimony.book
    assert last_id >= testimony.mismatch[0]
    assert len(bids) == len(asks) == 50


class Hand:
    """A feed of one symbol, fed by hand: what it publishes as market data, and its track."""

    def __init__(self) -> None:
        self.collector = Collector(outputs=("market_data", "orderbook"))
        self.feed = Feed(venues.get("binance-usdm"), outboxes=[self.collector], depth=2)
        self.track = self.feed.add("BTCUSDT")
        self.line = self.feed.open_line("one", ["btcusdt@depth"], 0)
        self.last_id = 10

    def diff(self, at_s: float, bids=(), asks=()) -> list[str]:
        """The kinds of what was published for it."""
        self.collector.take()
        row = {"e": "depthUpdate", "E": 1, "T": 1, "s": "BTCUSDT", "U": self.last_id + 1, "u": self.last_id + 2,
               "pu": self.last_id, "b": bids, "a": asks}  # fmt: skip
        self.last_id += 2
        self.feed.receive(
            self.line, json.dumps({"stream": "btcusdt@depth", "data": row}).encode(), START_NS + round(at_s * S)
        )
        return [kind for kind, _, _ in self.collector.take()]

    def snapshot(self, at_s: float, bids, asks, limit: int) -> str:
        body = json.dumps({"lastUpdateId": self.last_id, "bids": bids, "asks": asks}).encode()
        now_ns = START_NS + round(at_s * S)
        self.feed.snapshot_requested("BTCUSDT", now_ns)
        return self.feed.snapshot("BTCUSDT", "rest", limit, body, now_ns)

    def tick(self, at_s: float) -> list[tuple[str, int]]:
        """(reason, priority) of the snapshots that are wanted then."""
        self.feed.tick(START_NS + round(at_s * S))
        return [(want.reason, want.priority) for want in self.feed.wanted(START_NS + round(at_s * S))]


def test_a_top_beyond_what_a_snapshot_has_shown_is_not_published():
    """Every ask that the snapshot has shown is taken: 13 is there by a diff, and better ones may be, unseen."""
    hand = Hand()
    hand.diff(0)
    assert hand.snapshot(0.1, [["9", "1"], ["8", "1"]], [["10", "1"], ["11", "1"]], 2) == "joined"
    assert hand.diff(0.2, bids=[["9", "2"]]) == ["market_data", "orderbook"]
    assert hand.diff(0.3, asks=[["10", "0"], ["11", "0"], ["13", "1"]]) == []
    assert hand.track.book.best_ask == (Decimal(13), Decimal(1))
    assert hand.track.state == "LIVE"
    assert hand.tick(0.4) == [("horizon", 0)]
    # Short of a snapshot it says so, and goes on applying.
    hand.tick(1.5)
    assert (hand.track.state, hand.track.reason) == ("STALE", "horizon")
    assert hand.diff(1.6, bids=[["9", "3"]]) == []
    assert hand.track.book.last_id == hand.last_id
    assert hand.tick(1.7) == [("horizon", 0)]
    # A better ask than the book's best was there all the time.
    asks = [["12", "1"], ["13", "1"]]
    assert hand.snapshot(1.8, [["9", "3"], ["8", "1"]], asks, 2) == "swapped"
    assert [kind for kind, _, _ in hand.collector.take()] == ["market_data", "orderbook"]
    assert (hand.track.state, hand.track.reason) == ("LIVE", "resumed")
    assert hand.track.book.best_ask == (Decimal(12), Decimal(1))
    assert hand.track.resyncs == {}


def test_a_market_that_comes_back_into_sight_is_published_again():
    hand = Hand()
    hand.diff(0)
    hand.snapshot(0.1, [["9", "1"], ["8", "1"]], [["10", "1"], ["11", "1"]], 2)
    assert hand.diff(0.2, bids=[["9", "0"], ["8", "0"], ["6", "1"]]) == []
    hand.tick(1.5)
    assert hand.track.state == "STALE"
    assert hand.diff(1.6, bids=[["8", "4"]]) == ["market_data", "orderbook"]
    assert (hand.track.state, hand.track.reason) == ("LIVE", "resumed")
