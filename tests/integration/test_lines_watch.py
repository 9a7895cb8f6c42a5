"""Streams that fall silent, never speak, or are elsewhere: found, reported, mended."""

from __future__ import annotations

from dataclasses import replace

import pytest
import uvloop

from mdfeed import lines as lines_module
from mdfeed import venues
from mdfeed.exchange.garbling import Silence
from mdfeed.exchange.script import Script
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.session import Patience
from tests.linerig import rigged
from tests.lines import until

SYMBOLS = ["BTCUSDT", "ETHUSDT"]


@pytest.fixture
def event_loop_policy():
    return uvloop.EventLoopPolicy()


class SilentLink(Silence):
    """Silences a stream on the connections that are open when it begins, not on later ones."""

    def __init__(self, **window):
        super().__init__(**window)
        self.silenced = set()

    def begin(self, source):
        self.silenced = set(self.chosen_wires())

    def frame(self, wire, stream, frame):
        return super().frame(wire, stream, frame) if wire in self.silenced else ((0.0, frame),)


async def test_depth_that_is_silent_beside_bookticker_is_an_alarm_and_the_line_is_replaced():
    silence = SilentLink(stream="btcusdt@depth*", at_s=3.0)
    async with (
        SimulatedExchange(SYMBOLS, seed=21, rate=100, seam=Script([silence])) as exchange,
        rigged(exchange, SYMBOLS) as rig,
    ):
        btc, eth = rig.feed.tracks.values()
        await until(lambda: btc.resyncs.get("depth_silent", 0) >= 1, 15)
        await until(lambda: rig.is_proved and rig.lines.replaced == {"public-0": "btcusdt@depth"}, 10)
        applied = btc.applied
        await until(lambda: btc.applied > applied + 10)
        rig.take()
        assert any(event.kind == "line_replaced" for event in rig.events)
        assert (eth.gaps, eth.resyncs) == (0, {}), "the other symbol of the line has not noticed"
        public = next(stream for stream in rig.lines.streams if stream.name == "public-0")
        assert public.rollovers == {"silent_stream": 1}


async def test_a_redundant_line_whose_diffs_stop_is_replaced_unnoticed():
    class OneLink(SilentLink):
        def begin(self, source):
            self.silenced = set(self.chosen_wires()[:1])

    silence = OneLink(stream="*@depth*", path="/public*", at_s=3.0)
    async with (
        SimulatedExchange(SYMBOLS, seed=22, rate=150, seam=Script([silence])) as exchange,
        rigged(exchange, SYMBOLS, redundancy=2) as rig,
    ):
        await until(lambda: rig.rollovers == 1, 25)
        assert silence.count > 20
        assert list(rig.lines.replaced) in (["public-0a"], ["public-0b"])
        rig.assert_nothing_happened()


async def test_a_channel_on_another_route_than_the_table_says_is_found_and_kept(caplog):
    venue = venues.get("binance-usdm")
    wrong = replace(venue, routes=(("aggTrade", "public"), *venue.routes))
    async with (
        SimulatedExchange(SYMBOLS, seed=23, rate=100) as exchange,
        rigged(exchange, SYMBOLS, venue=wrong, patience=Patience(first_message_s=1.5, overlap_s=1.0)) as rig,
    ):
        assert [stream.name for stream in rig.lines.streams] == ["public-0"]
        await until(lambda: all(track.trades > 3 for track in rig.feed.tracks.values()), 15)
        assert rig.lines.findings == {"aggTrade": "market"}
        assert sorted(stream.name for stream in rig.lines.streams) == ["market-0", "public-0"]
        await until(lambda: not rig.lines.streams[0].silent_streams)
        rig.assert_nothing_happened()
        assert [event.detail for event in rig.events if event.kind == "rerouted"] == [
            {"channel": "aggTrade", "route": "market"}
        ]
    assert any("aggTrade is silent on the route public and speaks on market" in text for text in caplog.messages)


async def test_a_stream_that_is_nowhere_is_reported_and_moves_nothing(caplog):
    async with (
        SimulatedExchange(["BTCUSDT"], seed=24, rate=100) as exchange,
        rigged(exchange, ["BTCUSDT"], patience=Patience(first_message_s=1.0, overlap_s=0.5, settle_s=0.05)) as rig,
    ):
        rig.feed.add("NOSUCHUSDT")
        rig.lines.follow(["BTCUSDT", "NOSUCHUSDT"])
        await until(lambda: any("silent on the route market too" in text for text in caplog.messages), 15)
        assert rig.lines.findings == {}


async def test_an_odd_error_of_the_transport_while_routes_are_chosen_is_retried(monkeypatch):
    dial, odd = lines_module.dial, []

    async def fail_once(*args, **options):
        if not odd:
            odd.append(RuntimeError("for the test"))
            raise odd[0]
        return await dial(*args, **options)

    monkeypatch.setattr(lines_module, "dial", fail_once)
    async with SimulatedExchange(["BTCUSDT"], seed=24, rate=100) as exchange, rigged(exchange, ["BTCUSDT"]) as rig:
        await until(lambda: rig.feed.tracks["BTCUSDT"].state == "PROVED", 20)
    assert odd


async def test_a_fault_while_silent_streams_are_looked_for_ends_no_line(caplog):
    async def fail(plan):
        raise RuntimeError("for the test")

    async with (
        SimulatedExchange(["BTCUSDT"], seed=24, rate=100) as exchange,
        rigged(exchange, ["BTCUSDT"], patience=Patience(first_message_s=1.0, overlap_s=0.5, settle_s=0.05)) as rig,
    ):
        rig.lines._shown_by = fail
        rig.feed.add("NOSUCHUSDT")
        rig.lines.follow(["BTCUSDT", "NOSUCHUSDT"])
        await until(lambda: any("silent streams, a fault of ours" in text for text in caplog.messages), 15)
        seq = rig.feed.tracks["BTCUSDT"].seq
        await until(lambda: rig.feed.tracks["BTCUSDT"].seq > seq + 5)


async def test_symbols_come_and_go_without_touching_the_others():
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    async with (
        SimulatedExchange(symbols, seed=25, rate=100) as exchange,
        rigged(exchange, ["BTCUSDT", "ETHUSDT"], max_streams=4) as rig,
    ):
        btc = rig.feed.tracks["BTCUSDT"]
        assert [stream.name for stream in rig.lines.streams] == ["public-0", "market-0"]
        rig.feed.add("SOLUSDT")
        rig.lines.follow(symbols)
        assert [stream.name for stream in rig.lines.streams] == ["public-0", "market-0", "public-1"]
        await until(lambda: rig.is_proved and rig.feed.tracks["SOLUSDT"].trades > 0, 15)
        seq = btc.seq
        rig.feed.remove("ETHUSDT", 1)
        rig.lines.follow(["BTCUSDT", "SOLUSDT"])
        await until(lambda: btc.seq > seq + 10)
        await until(lambda: not any("eth" in name for link in exchange.links for name in link.streams))
        rig.trade_ids = {symbol: ids for symbol, ids in rig.trade_ids.items() if symbol in rig.feed.tracks}
        rig.assert_nothing_happened()
        rig.feed.remove("SOLUSDT", 1)
        rig.lines.follow(["BTCUSDT"])
        await until(lambda: len(exchange.links) == 2)
        assert [stream.name for stream in rig.lines.streams] == ["public-0", "market-0"]
