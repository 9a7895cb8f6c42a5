"""Lines, governor and heart together, against the simulated exchange: books equal its truth, on both transports."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import pytest
import uvloop

from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed.dial import TRANSPORTS
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.rest import Rest
from mdfeed.snapshots import Snapshots
from mdfeed.stream import Patience, Stream
from tests.lines import until

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


@pytest.fixture
def event_loop_policy():
    return uvloop.EventLoopPolicy()


@asynccontextmanager
async def served(exchange, transport, **plan):
    """(feed, streams, rest) of a running service without sinks."""
    venue = venues.get("binance-usdm")
    feed = Feed(venue)
    for symbol in SYMBOLS:
        feed.add(symbol)
    rest = Rest(exchange.rest_url)
    lines = venue.plan(SYMBOLS, ["depth@100ms", "bookTicker", "aggTrade"], ws_url=exchange.ws_url, **plan)
    streams = [
        Stream(
            line,
            venue,
            feed,
            flush=lambda: None,
            transport=transport,
            reconnect_delay_ms=10,
            patience=Patience(first_message_s=5.0),
        )
        for line in lines
    ]
    snapshots = Snapshots(feed, venue, rest, flush=lambda: None)

    async def tick():
        while True:
            feed.tick(time.time_ns())
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(run) for run in (tick(), snapshots.run(), *(stream.run() for stream in streams))]
    try:
        yield feed, streams, rest
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        rest.close()


def are_proved(feed):
    return all(track.state == "PROVED" for track in feed.tracks.values())


def compared_levels(feed, exchange):
    """Every level of every book within the snapshot's depth against the truth at its id: how many were compared."""
    count = 0
    for symbol, track in feed.tracks.items():
        true = exchange.market.truth(symbol).book_at(track.book.last_id)
        for side in ("bids", "asks"):
            ours = track.book.levels(side, 20)
            theirs = [(Decimal(price), Decimal(qty)) for price, qty in true.levels(side, 20)]
            assert ours == theirs
            count += len(ours)
    return count


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_books_are_proved_and_equal_the_truth(transport):
    async with SimulatedExchange(SYMBOLS, seed=3, rate=300) as exchange:
        async with served(exchange, transport) as (feed, streams, rest):
            assert sorted(stream.plan.route for stream in streams) == ["market", "public"]
            await until(lambda: are_proved(feed), 30)
            await until(lambda: all(track.applied > 20 for track in feed.tracks.values()), 30)
            assert compared_levels(feed, exchange) == len(SYMBOLS) * 40
            assert all(stream.frames and not stream.reconnects for stream in streams)
            assert rest.answers["ok"] >= len(SYMBOLS)
            assert sum(rest.governor.spent.values()) >= 20 * len(SYMBOLS)  # the venue's minute may be a new one
            assert not feed.decode_errors
            assert feed.processing.count == feed.receive_to_write.count == sum(stream.frames for stream in streams)
        assert all(track.gaps == 0 and track.proof["mismatch"] == 0 for track in feed.tracks.values())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_books_heal_after_every_connection_was_cut(transport):
    async with (
        SimulatedExchange(SYMBOLS, seed=4, rate=300) as exchange,
        served(exchange, transport) as (feed, streams, _),
    ):
        await until(lambda: are_proved(feed), 30)
        for link in tuple(exchange.links):
            link.abort()
        await until(lambda: all(stream.reconnects for stream in streams), 10)
        await until(lambda: are_proved(feed) and all(stream.is_connected for stream in streams), 30)
        assert compared_levels(feed, exchange) == len(SYMBOLS) * 40
        assert all(track.proof["mismatch"] == 0 for track in feed.tracks.values())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_late_streams_are_subscribed(transport):
    venue = venues.get("binance-usdm")
    feed = Feed(venue)
    for symbol in SYMBOLS:
        feed.add(symbol)
    late_streams = ("ethusdt@bookTicker", "solusdt@depth@100ms")
    async with SimulatedExchange(SYMBOLS, seed=5, rate=300) as exchange:
        url = f"{exchange.ws_url}/public/stream?streams=btcusdt@bookTicker"
        plan = venues.LinePlan("public-0", "public", url, ("btcusdt@bookTicker",), late_streams)
        stream = Stream(plan, venue, feed, flush=lambda: None, transport=transport)
        task = asyncio.create_task(stream.run())
        await until(lambda: all(track.frames for track in feed.tracks.values()))
        await until(lambda: feed.ignored.get("reply", 0) == 1)
        assert not stream.refused_streams
        assert not stream.reconnects
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
