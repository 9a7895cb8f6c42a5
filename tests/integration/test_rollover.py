"""Make before break: connections are replaced under load, and a consumer notices nothing."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from linerig import rigged
from lines import until

from mdfeed.dial import TRANSPORTS
from mdfeed.exchange.cutting import Shutdown
from mdfeed.exchange.garbling import Drop
from mdfeed.exchange.link import Limits
from mdfeed.exchange.script import Script
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.session import Patience

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


class Loss(Drop):
    """Each connection loses frames by itself; what both would lose (one in ten thousand) the second one keeps."""

    def __init__(self, share):
        super().__init__(share=share)
        self.lost = set()

    def frame(self, wire, stream, frame):
        passed = super().frame(wire, stream, frame) if frame not in self.lost else ((0.0, frame),)
        if not passed:
            self.lost.add(frame)
        return passed


@pytest.fixture
def event_loop_policy():
    return uvloop.EventLoopPolicy()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_twenty_rollovers_under_load_lose_and_double_nothing(transport):
    async with (
        SimulatedExchange(SYMBOLS, seed=6, rate=150) as exchange,
        rigged(exchange, SYMBOLS, transport=transport, max_age_s=0.7) as rig,
    ):
        await until(lambda: rig.rollovers >= 20, 60)
        rig.assert_nothing_happened()
        assert all(stream.rollovers["age"] >= 5 and not stream.reconnects for stream in rig.lines.streams)
        assert len(exchange.links) <= 2 * len(rig.lines.streams), "the old connections are closed"
        assert min(rig.books.values()) > 50


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_two_lines_with_one_percent_loss_each(transport):
    loss = Loss(0.01)
    async with (
        SimulatedExchange(SYMBOLS, seed=7, rate=150, seam=Script([loss])) as exchange,
        rigged(exchange, SYMBOLS, transport=transport, redundancy=2) as rig,
    ):
        names = ["market-0a", "market-0b", "public-0a", "public-0b"]
        assert sorted(stream.name for stream in rig.lines.streams) == names
        await until(lambda: loss.count >= 30, 60)
        rig.assert_nothing_happened()
        races = rig.feed.races
        a, b = races["public-0a"], races["public-0b"]
        assert min(a.diffs, b.diffs) > 50
        applied = sum(track.applied for track in rig.feed.tracks.values())
        assert 0 < a.wins + b.wins <= applied
        assert -0.1e9 < a.delay_ns < 1e9


async def test_losing_one_of_two_lines_leaves_the_books_live():
    async with (
        SimulatedExchange(SYMBOLS, seed=8, rate=150) as exchange,
        rigged(exchange, SYMBOLS, redundancy=2, reconnect_delay_ms=300, max_reconnect_delay_ms=300) as rig,
    ):
        for _ in range(3):
            victim = next(link for link in exchange.links if link.path.startswith("/public"))
            victim.abort()
            await asyncio.sleep(0.4)
        await until(lambda: all(stream.is_connected for stream in rig.lines.streams))
        rig.assert_nothing_happened()
        assert sum(stream.reconnects.total() for stream in rig.lines.streams) == 3


async def test_the_24_h_cut_is_forestalled_and_survived():
    async with (
        SimulatedExchange(SYMBOLS, seed=9, rate=100, limits=Limits(max_age_s=5.0)) as exchange,
        rigged(exchange, SYMBOLS, max_age_s=1.5) as rig,
    ):
        await until(lambda: rig.rollovers >= 6, 30)
        rig.assert_nothing_happened()
        assert not any(stream.reconnects for stream in rig.lines.streams)
    async with (
        SimulatedExchange(SYMBOLS, seed=9, rate=100, limits=Limits(max_age_s=2.0)) as exchange,
        rigged(exchange, SYMBOLS, max_age_s=60.0) as rig,
    ):
        await until(lambda: all(stream.reconnects["closed"] for stream in rig.lines.streams), 10)
        await until(lambda: rig.is_proved)


async def test_a_server_that_shuts_down_is_left_before_it_closes():
    shutdown = Shutdown(at_s=3.0, grace_s=2.0)
    async with (
        SimulatedExchange(SYMBOLS, seed=10, rate=100, seam=Script([shutdown])) as exchange,
        rigged(exchange, SYMBOLS) as rig,
    ):
        await until(lambda: shutdown.is_over, 15)
        assert shutdown.count == 2
        rig.assert_nothing_happened()
        assert [stream.rollovers["shutdown"] for stream in rig.lines.streams] == [1, 1]
        assert not any(stream.reconnects for stream in rig.lines.streams)


async def test_a_successor_that_cannot_be_had_leaves_the_old_connection_in_use(caplog):
    class Full(Script):
        is_full = False

        def opened(self, wire):
            super().opened(wire)
            if self.is_full:
                wire.abort()

    seam = Full([])
    async with (
        SimulatedExchange(SYMBOLS, seed=11, rate=100, seam=seam) as exchange,
        rigged(exchange, SYMBOLS, patience=Patience(connect_s=1.0, overlap_s=1.0, settle_s=0.05)) as rig,
    ):
        seam.is_full = True
        for stream in rig.lines.streams:
            stream.roll_over("age")
        await until(lambda: all(stream.reconnects.total() >= 2 for stream in rig.lines.streams))
        seam.is_full = False
        await until(lambda: rig.rollovers == 2)
        rig.assert_nothing_happened()
