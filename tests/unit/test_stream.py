"""A line's bookkeeping over many connections: counters, backoff, folding of log lines, asking for time."""

from __future__ import annotations

import asyncio
import time

from lines import Plan, Recorder, running, until
from wire import WireServer, close_frame, frame

from mdfeed.stream import Patience


async def closing_at_once(peer):
    await peer.upgrade(behind=frame("x") + close_frame(1001))
    await peer.wait_gone()


async def staying(peer):
    await peer.upgrade(behind=frame("stays"))
    await peer.wait_gone()


async def test_counters_go_on_over_connections():
    recorder = Recorder()
    before_ns = time.time_ns()
    async with (
        WireServer(closing_at_once, closing_at_once, staying).running() as server,
        running(server.url, "picows", recorder) as stream,
    ):
        assert (stream.frames, stream.bytes, stream.last_frame_ns, stream.connected_since) == (0, 0, 0, None)
        await until(lambda: stream.frames == 3)
        assert stream.bytes == len("x" + "x" + "stays")
        assert stream.reconnects == {"closed": 2}
        assert before_ns <= stream.connected_since <= stream.last_frame_ns <= time.time_ns()
        assert stream.is_connected
        assert stream.name == "public-0"
    assert not stream.is_connected
    assert stream.frames == 3
    assert [number for number, _, _ in recorder.opened] == recorder.lost_lines == [7, 8, 9]


async def test_a_venue_that_always_closes_is_asked_ever_more_rarely_and_logged_once(caplog):
    server = WireServer(closing_at_once)
    options = {"reconnect_delay_ms": 50, "max_reconnect_delay_ms": 100_000}
    async with server.running(), running(server.url, "picows", Recorder(), **options) as stream:
        stream._backoff._jitter = lambda: 1.0
        begun = time.monotonic()
        await until(lambda: server.connections == 4)
        assert time.monotonic() - begun >= 0.05 + 0.1 + 0.2
    assert [record.getMessage() for record in caplog.records] == [
        "line public-0: closed by the venue: 1001; again in 0.1 s"
    ]


async def test_a_stable_connection_resets_the_backoff():
    async def stable_for_a_while(peer):
        await peer.upgrade()
        await asyncio.sleep(0.15)
        await peer.send(close_frame(1001))
        await peer.wait_gone()

    server = WireServer(closing_at_once, closing_at_once, stable_for_a_while, staying)
    options = {"patience": Patience(stable_s=0.1)}
    async with server.running(), running(server.url, "picows", Recorder(), **options) as stream:
        await until(lambda: stream.reconnects["closed"] == 2)
        assert stream._backoff.failures == 2
        await until(lambda: stream.reconnects["closed"] == 3)
        assert stream._backoff.failures == 1


async def test_a_plan_whose_frames_fail_does_not_end_the_line():
    class Broken:
        def subscribe_frames(self, streams, first_id):
            raise KeyError("ours")

    server = WireServer(staying)
    recorder = Recorder()
    async with server.running():
        plan = Plan(server.url, late_streams=("c@x",))
        async with running(server.url, "picows", recorder, plan=plan, venue=Broken()) as stream:
            await until(lambda: bool(stream.refused_streams))
            await until(lambda: recorder.frames == [b"stays"])
            assert "KeyError" in stream.last_error
            assert stream.is_connected
