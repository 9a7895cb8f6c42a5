"""The heart against the truth of a simulated market, with the faults that a venue and its lines have."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from mdfeed.errors import DecodeError
from tests.virtual import MS, S, World


def states_of(world: World) -> list[tuple[str, str]]:
    return [(state, reason) for _, _, state, reason in world.states]


def test_every_published_book_is_the_truth_and_is_proved():
    world = World(("BTCUSDT", "ETHUSDT", "SYM001USDT"))
    world.run(20)
    assert world.books_compared > 500
    assert world.comparer.levels > 80 * 400
    proof = world.proof()
    assert proof["match"] > 400
    assert proof["mismatch"] == 0
    assert {track.state for track in world.feed.tracks.values()} == {"PROVED"}
    assert all(track.gaps == 0 and track.overlaps == 0 for track in world.feed.tracks.values())


def test_states_are_published_in_order():
    world = World()
    world.run(5)
    assert states_of(world) == [("SYNCING", "start"), ("LIVE", "synced"), ("PROVED", "book_ticker")]


def test_nothing_is_published_before_the_snapshot():
    world = World(rest_latency_ns=3 * S)
    world.run(2)
    assert world.books_compared == 0
    assert world.feed.tracks["BTCUSDT"].buffer.count > 10
    world.run(6)
    assert world.books_compared > 5
    assert world.feed.tracks["BTCUSDT"].buffer.count == 0


def test_a_dropped_diff_is_a_gap_and_heals_without_touching_the_other():
    world = World(("BTCUSDT", "ETHUSDT"))
    world.run(5)
    published = world.collector.published["orderbook"]
    dropped = []

    def drop_one(line, time_ns, stream, frame):
        if stream.startswith("btcusdt@depth") and not dropped:
            dropped.append(frame)
            return ()
        return ((0, frame),)

    world.spoil = drop_one
    world.run(5)
    btc, eth = world.feed.tracks["BTCUSDT"], world.feed.tracks["ETHUSDT"]
    assert dropped
    assert (btc.gaps, btc.resyncs, btc.state) == (1, {"gap": 1}, "PROVED")
    assert (eth.gaps, eth.resyncs, eth.state) == (0, {}, "PROVED")
    assert ("SUSPECT", "gap") in states_of(world)
    assert world.collector.published["orderbook"] > published


def test_duplicates_change_nothing():
    plain, doubled = World(seed=3), World(seed=3)
    doubled.spoil = lambda line, time_ns, stream, frame: ((0, frame), (0, frame))
    plain.run(6)
    doubled.run(6)
    one, two = plain.feed.tracks["BTCUSDT"], doubled.feed.tracks["BTCUSDT"]
    assert one.book.digest() == two.book.digest()
    assert one.applied == two.applied
    assert two.stale >= two.applied - 5
    assert one.trade_summary() == two.trade_summary()
    assert plain.books_compared == doubled.books_compared


def test_snapshots_older_than_the_buffer_are_asked_for_again():
    world = World()
    world.is_fetching = False
    world.lose(0)
    stale = world.market.depth("BTCUSDT", 1000)
    world.run(2)
    world.reconnect(0)
    asked: list[str] = []

    def three_old_ones(symbol, body):
        asked.append(body)
        return stale if len(asked) <= 3 else body

    world.spoil_snapshot = three_old_ones
    world.is_fetching = True
    world.run(10)
    track = world.feed.tracks["BTCUSDT"]
    assert track.state == "PROVED"
    assert len(asked) == 5, "three old ones, a small one, a full one"
    assert track.gaps == 0


def test_failed_snapshots_are_asked_for_with_growing_pauses():
    world = World()
    world.spoil_snapshot = lambda symbol, body: None
    world.run(20)
    assert 5 <= world.snapshots_asked <= 8
    assert world.books_compared == 0
    world.spoil_snapshot = lambda symbol, body: body
    world.run(40)
    assert world.feed.tracks["BTCUSDT"].state == "PROVED"


def test_a_lost_line_makes_books_stale_and_a_reconnect_heals_them():
    world = World()
    world.run(4)
    world.lose(0)
    compared = world.books_compared
    world.run(6)
    track = world.feed.tracks["BTCUSDT"]
    assert (track.state, track.reason) == ("STALE", "line_lost")
    assert world.books_compared == compared
    assert ("market_data", "BTCUSDT") not in [(kind, symbol) for kind, symbol, _ in world.collector.take()]
    world.reconnect(0)
    world.run(5)
    assert track.state == "PROVED"
    assert world.books_compared > compared


def test_a_snapshot_that_comes_after_the_line_was_lost_is_not_published():
    world = World(rest_latency_ns=2 * S)
    world.run(1)
    world.lose(0)
    world.run(3)
    assert world.feed.tracks["BTCUSDT"].state in ("STALE", "COLD", "SYNCING")
    assert world.books_compared == 0


def test_two_lines_with_losses_of_their_own_are_one_line_without():
    world = World(("BTCUSDT", "ETHUSDT"), lines=2, rate=120)
    world.run(3)
    draw = random.Random(7)
    lags = {0: 0, 1: 35 * MS}
    world.spoil = lambda line, time_ns, stream, frame: () if draw.random() < 0.02 else ((lags[line], frame),)
    world.run(60)
    for symbol, track in world.feed.tracks.items():
        assert (track.gaps, track.resyncs, track.state) == (0, {}, "PROVED")
        ids = world.trade_ids[symbol]
        assert max(Counter(ids).values()) == 1
    assert world.proof()["mismatch"] == 0
    assert world.snapshots_asked == 4, "a small and a full one each"


def test_a_gap_that_no_line_fills_is_a_gap():
    world = World(lines=2)
    world.run(3)
    dropped: set[bytes] = set()

    def drop_on_both(line, time_ns, stream, frame):
        if "@depth" in stream and (not dropped or frame in dropped):
            dropped.add(frame)
            return ()
        return ((line * 20 * MS, frame),)

    world.spoil = drop_on_both
    world.run(6)
    track = world.feed.tracks["BTCUSDT"]
    assert (track.gaps, track.resyncs, track.state) == (1, {"gap": 1}, "PROVED")


def test_ids_that_start_over_do_not_freeze_the_book():
    world = World()
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]
    last_id = track.book.last_id

    def restart(line, time_ns, stream, frame):
        message = json.loads(frame)
        data = message["data"]
        for key in {"depthUpdate": ("U", "u", "pu"), "bookTicker": ("u",)}.get(data["e"], ()):
            data[key] -= 6_000_000_000_000
        return ((0, json.dumps(message).encode()),)

    def restart_snapshot(symbol, body):
        book = json.loads(body)
        book["lastUpdateId"] -= 6_000_000_000_000
        return json.dumps(book)

    world.spoil, world.spoil_snapshot = restart, restart_snapshot
    world.check = lambda: world.collector.take()  # the truth's ids have not started over
    world.run(6)
    assert track.resyncs == {"ids_restarted": 1}
    assert track.state == "PROVED"
    assert 0 < track.book.last_id < last_id - 5_000_000_000_000


def test_a_wrong_book_is_found_by_the_venues_own_ticker():
    world = World()
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]

    def lie_about_the_top(line, time_ns, stream, frame):
        """A diff that leaves out one change of the best bid: nothing in the ids betrays it."""
        if "@depth" not in stream or world.proof()["mismatch"] or track.resyncs:
            return ((0, frame),)
        message = json.loads(frame)
        message["data"]["b"] = []
        return ((0, json.dumps(message).encode()),)

    world.spoil = lie_about_the_top
    world.check = lambda: [world.comparer.take(*each) for each in world.collector.take()]
    world.run(3)
    assert track.resyncs.get("proof_mismatch") == 1
    assert world.comparer.wrong, "the comparer has seen it too"
    del world.check
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),)
    world.run(4)
    assert track.state == "PROVED"


def test_the_fuse_keeps_books_live_when_the_ticker_itself_changed():
    world = World()
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]

    def another_meaning(line, time_ns, stream, frame):
        message = json.loads(frame)
        if message["data"]["e"] == "bookTicker":
            message["data"]["B"] = str(float(message["data"]["B"]) * 2)
        return ((0, json.dumps(message).encode()),)

    world.spoil = another_meaning
    world.comparer.is_bbo_foreign = True
    world.run(60)
    assert (track.state, track.reason) == ("LIVE", "proof_unreliable")
    assert track.resyncs["proof_mismatch"] == 3
    assert world.feed.fuse.is_blown


def test_a_longer_fraction_rescales_everything():
    world = World()
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]
    before = (track.book.price_digits, track.trade_summary())
    done = []

    def longer(line, time_ns, stream, frame):
        if "@depth" not in stream or done:
            return ((0, frame),)
        message = json.loads(frame)
        message["data"]["b"].append(["1.00012345", "0.00000001"])
        done.append(True)
        return ((0, json.dumps(message).encode()),)

    world.spoil = longer
    world.run(4)
    assert before[0] < 8 == track.book.price_digits
    assert track.state == "PROVED"
    assert track.resyncs == {}
    assert world.proof()["mismatch"] == 0
    assert int(track.trade_summary()["count"]) >= int(before[1]["count"])


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\x00" * 64,
        b"x" * 26_000,
        b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate"',
    ],
)
def test_rubbish_is_counted_and_nobody_notices(rubbish):
    world = World(("BTCUSDT", "ETHUSDT"))
    world.run(3)
    frames = []

    def with_rubbish(line, time_ns, stream, frame):
        frames.append(frame)
        return ((0, rubbish), (0, frame))

    world.spoil = with_rubbish
    world.run(3)
    errors, ignored = sum(world.feed.decode_errors.values()), sum(world.feed.ignored.values())
    assert errors + ignored >= len(frames) - 20
    told = [event for event in world.feed.publisher.events if event.kind == "decode_error"]
    assert len(told) == (1 if errors else 0)
    assert {track.state for track in world.feed.tracks.values()} == {"PROVED"}
    assert all(track.resyncs == {} for track in world.feed.tracks.values())


def test_the_horizon_is_extended_before_it_is_reached():
    world = World(rate=400, snapshot_limit=100)
    world.run(60)
    track = world.feed.tracks["BTCUSDT"]
    assert track.gaps == 0
    assert track.ghosts == 0
    assert track.book.verified_bids >= 20
    assert track.book.verified_asks >= 20


def test_the_buffer_is_bounded():
    world = World(buffer_bytes=20_000)
    world.is_fetching = False
    world.run(30)
    assert world.feed.budget.used <= 20_000
    assert any(event.kind == "buffer_full" for event in world.feed.publisher.events)
    world.is_fetching = True
    world.run(5)
    assert world.feed.tracks["BTCUSDT"].state == "PROVED"


def test_a_quiet_symbol_is_checked_and_found_unchanged():
    world = World(("BTCUSDT", "ETHUSDT"))
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]
    last_id = track.book.last_id
    world.spoil = lambda line, time_ns, stream, frame: () if stream.startswith("btcusdt") else ((0, frame),)
    world.spoil_snapshot = lambda symbol, body: json.dumps({**json.loads(body), "lastUpdateId": last_id})
    world.run(12)
    assert ("STALE", "silent") in states_of(world)
    assert ("LIVE", "quiet") in states_of(world)
    assert track.resyncs == {}


def test_a_deaf_line_is_told_from_a_quiet_symbol():
    world = World()
    world.run(4)
    track = world.feed.tracks["BTCUSDT"]
    world.spoil = lambda line, time_ns, stream, frame: ()
    world.run(12)
    assert track.resyncs.get("silent", 0) >= 1


def test_a_withdrawn_key_comes_back():
    world = World()
    world.run(4)
    before = world.collector.published["market_data"]
    world.lose(0)
    world.run(7)
    track = world.feed.tracks["BTCUSDT"]
    assert track.state == "STALE"
    world.reconnect(0)
    world.run(4)
    assert world.collector.published["market_data"] > before


def test_the_same_frames_give_the_same_publications():
    def publications(seed):
        world = World(("BTCUSDT", "ETHUSDT"), seed=seed)
        seen = []
        world.check = lambda: seen.extend(world.collector.take())
        world.run(6)
        return seen

    assert publications(5) == publications(5)


def test_snapshot_that_is_none_raises_and_is_retried():
    world = World()
    world.run(0.05)
    with pytest.raises(DecodeError, match="snapshot of BTCUSDT"):
        world.feed.snapshot("BTCUSDT", "rest", 1000, b"<html>403</html>", world.now_ns)
    world.run(6)
    assert world.feed.tracks["BTCUSDT"].state == "PROVED"


def test_remove_and_add_at_run_time():
    world = World(("BTCUSDT", "ETHUSDT"))
    world.run(4)
    world.feed.remove("ETHUSDT", world.now_ns)
    world.comparer.forget("ETHUSDT")
    ignored = sum(world.feed.ignored.values())
    world.run(2)
    assert list(world.feed.tracks) == ["BTCUSDT"]
    assert sum(world.feed.ignored.values()) > ignored
    track = world.feed.add("ETHUSDT")
    world.run(4)
    assert track.state == "PROVED"
    assert world.feed.tracks["BTCUSDT"].resyncs == {}
