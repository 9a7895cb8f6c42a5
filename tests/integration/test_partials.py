"""The last rung of the ladder over real sockets: no REST, no WS-API, and the books are good all the same."""

from __future__ import annotations

import asyncio

from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.lines import Lines
from mdfeed.rest import Rest
from mdfeed.snapshots import Snapshots
from tests.lines import until
from tests.wire import HttpServer, reply

SYMBOLS = ("BTCUSDT", "ETHUSDT")


async def test_partial_depth_is_subscribed_while_nothing_else_serves_and_no_longer():
    venue = venues.get("binance-usdm")
    async with SimulatedExchange(SYMBOLS, rate=100.0) as exchange:
        refused = reply("451 Unavailable For Legal Reasons", b"{}")

        def answer(path):
            if refusing:
                return refused
            body = exchange.market.depth("BTCUSDT" if "BTC" in path else "ETHUSDT", 1000)
            return reply(body=body.encode())

        refusing = [True]
        async with HttpServer(answer).running() as server:
            feed = Feed(venue)
            for symbol in SYMBOLS:
                feed.add(symbol)
            lines = Lines(venue, feed, ["depth@100ms", "bookTicker"], flush=int, ws_url=exchange.ws_url)
            lines.follow(SYMBOLS)
            rest = Rest(server.url)
            snapshots = Snapshots(feed, venue, rest, flush=int, follow_partials=lines.follow_partials)
            tasks = [asyncio.create_task(part.run()) for part in (lines, snapshots)]
            tracks = feed.tracks.values()
            try:
                await until(lambda: all(track.state == "PROVED" for track in tracks), 15)
                assert {track.source for track in tracks} == {"depth20"}
                assert [stream.name for stream in lines.streams if stream.name.startswith("partial")] == ["partial-0"]
                refusing.clear()
                rest._blocked_until = 0
                snapshots.rungs[0]._paused_until_s = 0.0
                await until(lambda: not snapshots.partials, 15)
                assert {track.source for track in tracks} == {"rest"}
                await until(lambda: not any(stream.name.startswith("partial") for stream in lines.streams), 5)
                assert all(track.resyncs == {} for track in tracks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                rest.close()
