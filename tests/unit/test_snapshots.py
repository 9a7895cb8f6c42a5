"""Snapshots against a small real HTTP server: what is asked, when, and what the heart is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from mdfeed.errors import DecodeError
from mdfeed.governor import SHARES, Governor, Purpose
from mdfeed.rest import Rest
from mdfeed.snapshots import Snapshots
from tests.lines import until
from tests.wire import HttpServer, reply


@dataclass
class Wanted:
    symbol: str
    limit: int = 1000
    priority: int = 0


@dataclass
class Request:
    path: str
    weight: int = 20


class Venue:
    def depth_request(self, symbol: str, limit: int) -> Request:
        return Request(f"/depth?symbol={symbol}&limit={limit}")


@dataclass
class Heart:
    """Wants its symbols until they have come, and writes down what it is told."""

    symbols: list[str]
    told: list[tuple[str, ...]] = field(default_factory=list)
    flushes: int = 0

    def wanted(self, now_ns):
        return [Wanted(symbol) for symbol in self.symbols]

    def snapshot_requested(self, symbol, now_ns):
        assert now_ns > 0
        self.told.append(("requested", symbol))

    def snapshot(self, symbol, source, limit, body, recv_ns):
        assert (source, limit) == ("rest", 1000)
        self.told.append(("snapshot", symbol, body.decode()))
        if body == b"garbage":
            raise DecodeError("snapshot: not_json", body)
        if symbol in self.symbols:
            self.symbols.remove(symbol)
        return "joined"

    def snapshot_failed(self, symbol, reason, now_ns):
        self.told.append(("failed", symbol, reason))

    def flush(self):
        self.flushes += 1


@asynccontextmanager
async def serving(heart, url, *, governor=None, **options):
    rest = Rest(url, governor=governor)
    options = {"poll_s": 0.01, "longest_pause_s": 0.05} | options
    snapshots = Snapshots(heart, Venue(), rest, flush=heart.flush, **options)
    task = asyncio.create_task(snapshots.run())
    try:
        yield snapshots
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        rest.close()


async def test_wanted_snapshots_arrive_in_the_hearts_order():
    heart = Heart(["B", "A", "C"])
    async with (
        HttpServer(lambda path: reply(body=path[-16:].encode())).running() as server,
        serving(heart, server.url, concurrency=1) as snapshots,
    ):
        await until(lambda: not heart.symbols)
        await until(lambda: snapshots.outcomes == {"joined": 3})
    assert [told[:2] for told in heart.told] == [
        (what, symbol) for symbol in "BAC" for what in ("requested", "snapshot")
    ]
    assert server.paths[0] == "/depth?symbol=B&limit=1000"
    assert heart.flushes == 3


async def test_one_request_a_symbol_and_few_at_once():
    gate = asyncio.Event()
    heart = Heart([f"S{i}" for i in range(10)])

    async def later(path):
        await gate.wait()
        return reply()

    async with HttpServer(later).running() as server, serving(heart, server.url, concurrency=3) as snapshots:
        for _ in range(20):
            snapshots.kick()
            await asyncio.sleep(0.005)
        assert sorted(server.paths) == [f"/depth?symbol=S{i}&limit=1000" for i in range(3)]
        gate.set()
        await until(lambda: not heart.symbols)
    assert len(server.paths) == len(set(server.paths)) == 10


async def test_a_kick_does_not_wait_for_the_poll():
    heart = Heart([])
    async with HttpServer(lambda path: reply()).running() as server, serving(heart, server.url, poll_s=60) as snapshots:
        await asyncio.sleep(0.02)
        heart.symbols.append("A")
        snapshots.kick()
        await until(lambda: not heart.symbols, 5)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply("500 Internal Server Error"), "server_error"),
        (reply("400 Bad Request", b'{"code":-1121,"msg":"Invalid symbol."}'), "http"),
        (reply(size=100) + b"", "cut"),
        (b"", "reset"),
        (reply("429 Too Many Requests", Retry_After="0.1"), "rate_limited"),
        (reply("418 I'm a teapot", Retry_After="0.1"), "banned"),
    ],
    ids=["500", "400", "cut", "hang-up", "429", "418"],
)
async def test_failures_are_told_and_heal(answer, reason):
    heart = Heart(["A"])
    answers = [answer]
    closing = reply(body=b"fine", Connection="close")

    async with HttpServer(lambda path: answers.pop() if answers else closing).running() as server:
        if reason == "cut":
            server.answer = lambda path: answers.pop() + b"\r\nConnection: close" if answers else closing
        async with serving(heart, server.url) as snapshots:
            await until(lambda: not heart.symbols)
            await until(lambda: snapshots.outcomes["joined"] == 1)
    assert heart.told[:2] == [("requested", "A"), ("failed", "A", reason)]
    assert heart.told[-1] == ("snapshot", "A", "fine")
    assert snapshots.outcomes == {reason: 1, "joined": 1}, "nothing is sent while the venue forbids it"
    assert heart.flushes == 2


async def test_a_host_in_trouble_is_asked_rarely_whatever_is_wanted():
    heart = Heart([f"S{i}" for i in range(50)])
    async with HttpServer(lambda path: reply()).running() as server:
        pass
    async with serving(heart, server.url, poll_s=0.002, concurrency=2, longest_pause_s=30.0) as snapshots:
        await until(lambda: snapshots.outcomes["refused"] >= 2)
        await asyncio.sleep(0.1)
        assert snapshots.outcomes.total() <= 8, "not 50 symbols 50 times"


async def test_a_body_that_is_no_snapshot_and_a_fault_of_ours():
    heart = Heart(["A"])
    bodies = [b"fine", b"garbage"]
    async with (
        HttpServer(lambda path: reply(body=bodies.pop())).running() as server,
        serving(heart, server.url) as snapshots,
    ):
        await until(lambda: not heart.symbols)
        await until(lambda: snapshots.outcomes == {"not_a_snapshot": 1, "joined": 1})
    assert [told[0] for told in heart.told] == ["requested", "snapshot"] * 2, "the heart has noted it itself"

    def broken(symbol, limit):
        raise KeyError(symbol)

    heart = Heart(["A"])
    async with serving(heart, server.url) as snapshots:
        snapshots._venue.depth_request = broken
        await until(lambda: ("failed", "A", "error") in heart.told)


def in_a_minute_without_end(used: float) -> Governor:
    governor = Governor(now_ns=lambda: 1_700_000_000 * 10**9)
    governor.settle(0, said=int(used))
    return governor


class Ranked(Heart):
    """Wants some full books, and what is put into `urgent` before them."""

    def __init__(self, symbols: list[str]) -> None:
        super().__init__(symbols)
        self.urgent: list[str] = []

    def wanted(self, now_ns):
        return [Wanted(symbol) for symbol in self.urgent] + [Wanted(symbol, priority=4) for symbol in self.symbols]

    def snapshot(self, symbol, source, limit, body, recv_ns):
        if symbol in self.urgent:
            self.urgent.remove(symbol)
        return super().snapshot(symbol, source, limit, body, recv_ns)


async def test_what_waits_for_the_next_minute_does_not_keep_the_urgent_from_its_place():
    heart = Ranked([f"S{i}" for i in range(10)])
    governor = in_a_minute_without_end(2400 * SHARES[Purpose.FULL] - 20)
    async with (
        HttpServer(lambda path: reply()).running() as server,
        serving(heart, server.url, governor=governor, concurrency=2) as snapshots,
    ):
        await until(lambda: len(server.paths) == 1)
        await asyncio.sleep(0.05)
        assert len(server.paths) == 1, "only one full book has room"
        heart.urgent.append("U")
        await until(lambda: not heart.urgent)
        assert server.paths[1:] == ["/depth?symbol=U&limit=1000"]
        await until(lambda: snapshots.outcomes == {"joined": 2})
    assert [told for told in heart.told if told[0] == "failed"] == []


async def test_what_others_took_in_between_is_asked_for_again():
    heart = Ranked(["A"])
    governor = in_a_minute_without_end(0)
    admit, refused = governor.admit, []

    async def admitted(*given, waits):
        if not refused:
            governor.settle(0, said=2400)
        refused.append(given)
        return await admit(*given, waits=waits)

    governor.admit = admitted
    async with (
        HttpServer(lambda path: reply()).running() as server,
        serving(heart, server.url, governor=governor) as snapshots,
    ):
        await until(lambda: bool(refused))
        await asyncio.sleep(0.05)
        assert (server.paths, heart.told, snapshots.outcomes, len(refused)) == ([], [], {}, 1)
        governor._said = 0
        await until(lambda: not heart.symbols)
