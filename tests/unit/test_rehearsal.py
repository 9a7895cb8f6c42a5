"""Made-up frames that keep the feed warm: they are good ones, reach nobody, and give way to real ones."""

from __future__ import annotations

import asyncio
import os

import pytest

from mdfeed import rehearsal, venues
from mdfeed.rehearsal import Rehearsal

NAMES = [name for name in venues.names() if venues.get(name).rehearsal() is not None]
MINUTE_NS = 60 * 10**9


class Real:
    count = 0


class Clock:
    def __init__(self) -> None:
        self.ns = 1_790_000_000 * 10**9

    def __call__(self) -> int:
        self.ns += 10**6
        return self.ns


def rehearsing(name: str, real: object | None = None, period_us: int = 500) -> Rehearsal:
    venue = venues.get(name)
    play = venue.rehearsal()
    assert play is not None
    return Rehearsal(venue, play, 20, real or Real(), period_us, clock=Clock())


def test_every_binance_venue_has_one():
    assert {"binance-usdm", "binance-coinm", "binance-spot"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_frame_is_taken_proved_and_published(name):
    one = rehearsing(name)
    for _ in range(3000):
        one.step()
    track = one.feed.tracks["REHEARSAL"]
    assert (track.state, one.frames) == ("PROVED", 3000)
    assert (one.feed.decode_errors, one.feed.ignored) == ({}, {})
    assert (track.gaps, track.resyncs) == (0, {})
    kinds = one.feed.frames_by_kind
    assert set(kinds) == {"depthUpdate", "bookTicker", "aggTrade"}
    assert sum(kinds.values()) == 3000
    published = one._outbox.published
    assert min(published[kind] for kind in ("market_data", "orderbook", "trades", "book", "bbo", "trades_stream")) > 100
    assert one._outbox.pending_bytes == 0


def test_levels_come_and_go():
    one = rehearsing("binance-usdm")
    counts = set()
    for _ in range(20):
        one.step()
        counts.add(len(one.feed.tracks["REHEARSAL"].book.levels("bids", 1000)))
    assert max(counts) - min(counts) == 16


def test_it_gives_way_to_real_frames():
    real = Real()
    one = rehearsing("binance-usdm", real)
    for _ in range(10):
        real.count += 1
        one.step()
    assert one.frames == 0
    one.step()
    assert one.frames == 1


@pytest.mark.parametrize("has_timer", [True, False])
async def test_it_plays_until_cancelled_and_leaves_no_descriptor(monkeypatch, has_timer):
    if not has_timer:
        monkeypatch.setattr(rehearsal, "open_timer", lambda period_ns: -1)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    one = rehearsing("binance-usdm", period_us=1000)
    task = asyncio.create_task(one.run())
    async with asyncio.timeout(20):
        while one.frames < 20:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    played = one.frames
    await asyncio.sleep(0.02)
    assert one.frames == played
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
