"""24 h figures and missed trades against the simulated venue's own tape, over hours of virtual time."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from mdfeed.exchange.faults import Answer
from tests.venue_world import VenueWorld
from tests.virtual import S

MINUTE_NS = 60 * S


def truth(world: VenueWorld, symbol: str, minutes: int) -> dict[str, int]:
    """The market's figures of the minute under way and so many before it; ticks and steps."""
    oldest_ms = (world.now_ns // MINUTE_NS - minutes) * 60_000
    rows = [row for row in world.market.tape(symbol).candles(1, None, None, 1500) if row[0] >= oldest_ms]
    return {
        "open": rows[0][1],
        "high": max(row[2] for row in rows),
        "low": min(row[3] for row in rows),
        "volume": sum(row[5] for row in rows),
        "quote_volume": sum(row[6] for row in rows),
        "count": sum(row[7] for row in rows),
    }


def ours(world: VenueWorld, symbol: str) -> dict[str, int]:
    """What the window says, in the market's ticks and steps."""
    track, profile = world.feed.tracks[symbol], world.market.profile(symbol)
    figures = track.window.figures(world.now_ns)
    price = Decimal(profile.tick_size).scaleb(track.book.price_digits)
    qty = Decimal(profile.step_size).scaleb(track.book.qty_digits)
    units = {"volume": qty, "quote_volume": price * qty, "count": 1}
    return {name: int(Decimal(value) / units.get(name, price)) for name, value in figures.items()}


def run_long(world: VenueWorld, seconds: int) -> None:
    """World.run in steps of a second, frames without latency: for hours."""
    for _ in range(seconds):
        world.now_ns += S
        for said in world.market.step(world.now_ns):
            world.feed.receive(world.lines[0], said.frame, said.time_ns)
        world.loop.advance((world.now_ns - world.start_ns) / 1e9)
    world.collector.take()


@pytest.mark.timeout(240)
def test_from_the_first_second_and_exact_after_the_klines_for_more_than_a_day(world_of):
    # Trades alone: books would take minutes.
    world = world_of(("BTCUSDT", "SYM001USDT"), rate=3.0, channels=("aggTrade",))
    world.figures._poll_s = 10.0
    for task in (world.tasks[0], world.tasks[2]):
        task.cancel()
    del world.tasks[2], world.tasks[0]
    run_long(world, 3)
    for symbol in world.feed.tracks:
        said, true = ours(world, symbol), truth(world, symbol, 1440)
        assert said["volume"] == pytest.approx(true["volume"], rel=0.01)
        assert (said["high"], said["low"]) == (true["high"], true["low"])
    run_long(world, 180)
    assert world.figures.outcomes == {"ticker": 2, "minutes": 2}
    for hours in (1, 5, 17, 2, 2):
        run_long(world, hours * 3600)
        for symbol in world.feed.tracks:
            assert ours(world, symbol) == truth(world, symbol, 1440), hours
    assert all(track.window.dropped == 0 for track in world.feed.tracks.values())


def test_what_is_published_says_it(world_of):
    world = world_of(rate=20.0)
    world.run(90)
    seen = []
    world.check = lambda: seen.extend(world.collector.take())
    world.run(1)
    said = json.loads([payload for kind, _, payload in seen if kind == "market_data"][-1], parse_float=Decimal)
    figures = world.feed.tracks["BTCUSDT"].window.figures(world.now_ns)
    digits = world.feed.tracks["BTCUSDT"].book.price_digits
    assert said["open_24h"] == Decimal(figures["open"]).scaleb(-digits)
    assert said["change_24h"] == said["last_price"] - said["open_24h"]
    assert said["vwap_24h"] == pytest.approx(said["quote_volume_24h"] / said["volume_24h"], abs=Decimal("0.001"))
    assert said["low_24h"] <= said["vwap_24h"] <= said["high_24h"]
    assert 0 <= figures["count"] - said["trades_24h"] < 100


def test_missed_trades_are_filled_and_counted_in_their_minute(world_of):
    world = world_of(rate=60.0)
    world.run(130)
    gone = []

    def lose_a_while(line, time_ns, stream, frame):
        if "aggTrade" in stream and time_ns % (20 * S) < 3 * S:
            gone.append(frame)
            return ()
        return ((0, frame),)

    world.spoil = lose_a_while
    world.run(120)
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),)
    world.run(15)
    tape = world.feed.tracks["BTCUSDT"].agg_trades
    assert tape.gaps >= 5
    assert (tape.holes, tape.missing, tape.lost) == ([], 0, 0)
    assert world.backfill.filled == len(gone) == tape.filled
    ids = world.trade_ids["BTCUSDT"]
    assert sorted(ids) == list(range(min(ids), max(ids) + 1)), "every trade exactly once"
    said, true = ours(world, "BTCUSDT"), truth(world, "BTCUSDT", 1440)
    assert said["volume"] == pytest.approx(true["volume"], rel=2e-4)
    assert set(world.statuses) == {200}


def test_holes_that_nobody_fills_are_given_up_and_the_minutes_asked_again(world_of):
    world = world_of(rate=60.0)
    world.run(130)
    world.refuse = lambda path: Answer(200, b"[]") if "aggTrades" in path else None
    world.spoil = lambda line, time_ns, stream, frame: () if "aggTrade" in stream else ((0, frame),)
    world.run(5)
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),)
    world.run(15)
    tape = world.feed.tracks["BTCUSDT"].agg_trades
    assert tape.holes == []
    assert tape.lost == world.backfill.lost > 10
    assert [event.kind for event in world.feed.publisher.events].count("trades_lost") == 1
    world.run(70)
    assert world.figures.outcomes["minutes"] == 2
    said, true = ours(world, "BTCUSDT"), truth(world, "BTCUSDT", 1440)
    assert said["volume"] == pytest.approx(true["volume"], rel=2e-4)


def test_a_hole_that_is_too_large_is_not_asked_for(world_of):
    world = world_of()
    world.backfill._largest = 5
    world.run(5)
    world.spoil = lambda line, time_ns, stream, frame: () if "aggTrade" in stream else ((0, frame),)
    world.run(5)
    world.spoil = lambda line, time_ns, stream, frame: ((0, frame),)
    world.run(5)
    assert world.backfill.lost > 5
    assert world.asked["aggTrades"] == 0


def test_figures_survive_a_host_in_trouble(world_of):
    world = world_of(("BTCUSDT", "ETHUSDT"))
    world.refuse = lambda path: Answer(500, b"{}") if "ticker" in path or "klines" in path else None
    world.run(20)
    assert world.feed.tracks["BTCUSDT"].window.figures(world.now_ns) is None
    assert world.asked["24hr"] < 20
    world.refuse = lambda path: Answer(200, b"[1,2") if "klines" in path else None
    world.run(90)
    assert world.feed.tracks["ETHUSDT"].window.figures(world.now_ns) is not None
    world.refuse = lambda path: None
    world.run(120)
    assert world.figures.outcomes["minutes"] == 2
