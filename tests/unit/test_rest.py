"""The governor and its HTTP, against a small real server."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass
from email.utils import formatdate

import pytest

from mdfeed.errors import GeoBlocked, RateLimited, SnapshotError
from mdfeed.refusals import Refused
from mdfeed.rest import Rest
from tests.wire import HttpServer, certificate, reply


@dataclass
class Request:
    path: str = "/fapi/v1/time"
    weight: int = 1


class Clock:
    """UTC ns that only moves when told."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000 * 10**9  # 20 s into a minute

    def __call__(self) -> int:
        return self.ns


async def test_a_body_and_a_kept_connection():
    async with HttpServer(lambda path: reply(body=b'{"serverTime":1}')).running() as server:
        rest = Rest(server.url + "/prefix/")
        bodies = [await rest.fetch(Request()) for _ in range(3)]
        status, headers, _ = await rest.get(Request("/other?x=1"))
        rest.close()
    assert bodies == [b'{"serverTime":1}'] * 3
    assert (status, headers["content-length"]) == (200, "16")
    assert server.paths == ["/prefix/fapi/v1/time"] * 3 + ["/prefix/other?x=1"]
    assert server.connections == 1
    assert rest.answers == {"ok": 4}


async def test_a_kept_connection_that_the_venue_has_closed():
    async with HttpServer(lambda path: reply()).running() as server:
        rest = Rest(server.url)
        await rest.fetch(Request())
        for task in list(server._tasks):
            task.cancel()
        await asyncio.sleep(0.01)
        assert await rest.fetch(Request()) == b"{}"
        rest.close()
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (reply("403 Forbidden", b"<html>\n<h1>403</h1> firewall</html>"), GeoBlocked, "forbidden"),
        (reply("451 Unavailable For Legal Reasons", b'{"msg":"Service unavailable from a restricted location"}'),
         GeoBlocked, "geo_blocked"),
        (reply("500 Internal Server Error"), SnapshotError, "server_error"),
        (reply("503 Service Unavailable", b"Unknown error, please check your request"), SnapshotError, "server_error"),
        (reply("400 Bad Request", b'{"code":-1121,"msg":"Invalid symbol."}'), SnapshotError, "http"),
        (reply("404 Not Found"), SnapshotError, "not_found"),
        (reply(body=b'{"lastUpdateId":1', size=5000), SnapshotError, "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", SnapshotError, "cut"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", SnapshotError, "handshake"),
        (b"", SnapshotError, "reset"),
    ],
    ids=["403", "451", "500", "503", "400", "404", "cut", "cut-chunk", "no-http", "hang-up"],
)  # fmt: skip
async def test_refusals_told_apart(caplog, answer, error, reason):
    async with HttpServer(lambda path: answer).running() as server:
        rest = Rest(server.url)
        with pytest.raises(error) as caught:
            await rest.fetch(Request("/depth?size=lie"))
        rest.close()
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, Refused)
    assert caught.value.__cause__.refusal.reason == reason
    assert rest.answers == {reason: 1}
    assert "\n" not in str(caught.value)
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(caught.value) in line


@pytest.mark.parametrize(
    ("status", "field", "wait_s", "is_ban"),
    [
        ("429 Too Many Requests", {"Retry_After": "7"}, 7, False),
        ("429 Too Many Requests", {}, 60, False),
        ("418 I'm a teapot", {"Retry_After": "300"}, 300, True),
        ("418 I'm a teapot", {"Retry_After": "soon"}, 120, True),
    ],
)
async def test_a_limit_stops_everything(status, field, wait_s, is_ban):
    clock = Clock()
    answers = [reply(status, **field)]
    async with HttpServer(lambda path: answers.pop() if answers else reply()).running() as server:
        rest = Rest(server.url, now_ns=clock)
        for _ in range(3):  # the first is answered so, the others are not sent
            with pytest.raises(RateLimited) as caught:
                await rest.fetch(Request())
            assert caught.value.is_ban == is_ban
            assert caught.value.retry_after_s == pytest.approx(wait_s)
        assert len(server.paths) == 1
        assert rest.blocked_until == clock.ns + wait_s * 10**9
        clock.ns += wait_s * 10**9 - 1
        with pytest.raises(RateLimited):
            await rest.fetch(Request())
        clock.ns += 1
        assert await rest.fetch(Request()) == b"{}"
        assert rest.blocked_until == 0
        rest.close()
    assert len(server.paths) == 2


async def test_a_geo_block_is_asked_again_after_a_minute():
    clock = Clock()
    answers = [reply("451 Unavailable For Legal Reasons")]
    async with HttpServer(lambda path: answers.pop() if answers else reply()).running() as server:
        rest = Rest(server.url, now_ns=clock)
        for _ in range(2):
            with pytest.raises(GeoBlocked):
                await rest.fetch(Request())
        clock.ns += 60 * 10**9
        assert await rest.fetch(Request()) == b"{}"
        rest.close()
    assert len(server.paths) == 2


async def test_the_venues_header_says_what_is_used_and_the_minute_ends():
    clock = Clock()
    used = iter(["100", "90", "2150"])
    async with HttpServer(lambda path: reply(X_MBX_USED_WEIGHT_1M=next(used, "20"))).running() as server:
        rest = Rest(server.url, now_ns=clock)
        for expected in (100, 100, 2150):  # 90 is an answer that was overtaken
            await rest.fetch(Request(weight=20))
            assert rest.weight_used == expected
        waiting = asyncio.create_task(rest.fetch(Request(weight=20)))  # 2170 > 90 % of 2400
        await asyncio.sleep(0.05)
        assert len(server.paths) == 3
        clock.ns += 41 * 10**9  # the next minute, and a second for the grain of Date
        assert rest.weight_used == 0
        await waiting
        assert rest.weight_used == 20
        rest.close()


async def test_the_venues_minute_is_told_by_its_date():
    clock = Clock()
    ahead_s = 25

    def answer(path):
        date = formatdate(clock.ns / 1e9 + ahead_s, usegmt=True)
        return reply(X_MBX_USED_WEIGHT_1M="2000", Date=date)

    async with HttpServer(answer).running() as server:
        rest = Rest(server.url, now_ns=clock)
        await rest.fetch(Request())
        assert rest.weight_used == 2000
        clock.ns += 15 * 10**9  # 35 s for us; the minute of the venue may have just begun
        assert rest.weight_used == 2000
        clock.ns += 1 * 10**9
        assert rest.weight_used == 0
        rest.close()


async def test_weight_without_a_header_and_in_flight_is_counted():
    gate = asyncio.Event()

    async def later(path):
        await gate.wait()
        return reply()

    async with HttpServer(later).running() as server:
        rest = Rest(server.url, now_ns=Clock(), weight_per_minute=100, connections=4)
        tasks = [asyncio.create_task(rest.fetch(Request(weight=40))) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert len(server.paths) == 2, "a third would make 120 of 90"
        gate.set()
        await asyncio.gather(*tasks[:2])
        assert rest.weight_used == 80
        tasks[2].cancel()
        await asyncio.gather(tasks[2], return_exceptions=True)
        rest.close()


async def test_no_answer_and_a_dribbled_answer_end_in_time():
    async def never(path):
        await asyncio.sleep(30)
        return b""

    async with HttpServer(never).running() as server:
        rest = Rest(server.url, timeout_s=0.2)
        begun = time.monotonic()
        with pytest.raises(SnapshotError, match="no answer in time"):
            await rest.fetch(Request())
        assert time.monotonic() - begun < 5
        rest.close()

    async def dribble(reader, writer):
        writer.write(reply(size=100_000))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    server = await asyncio.start_server(dribble, "127.0.0.1", 0)
    rest = Rest(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=0.2)
    with pytest.raises(SnapshotError, match="no answer in time"):
        await rest.fetch(Request())
    server.close()


async def test_nobody_there_is_logged_once(caplog):
    async with HttpServer(lambda path: reply()).running() as server:
        pass
    rest = Rest(server.url)
    for _ in range(5):
        with pytest.raises(SnapshotError, match="connection refused"):
            await rest.fetch(Request())
    assert len(caplog.records) == 1
    assert "connection refused" in caplog.records[0].getMessage()


async def test_on_leave_comes_after_the_wait_and_not_when_nothing_leaves():
    clock = Clock()
    left = []
    async with HttpServer(lambda path: reply("429 Too Many Requests")).running() as server:
        rest = Rest(server.url, now_ns=clock)
        for _ in range(2):
            with pytest.raises(RateLimited):
                await rest.fetch(Request(), on_leave=lambda: left.append(len(server.paths)))
        rest.close()
    assert left == [0]


async def test_https_and_a_certificate_that_is_not_trusted(tmp_path):
    context, path = certificate(tmp_path, "IP:127.0.0.1")
    async with HttpServer(lambda path: reply(body=b"secret")).running(context) as server:
        trusting = Rest(server.url, ssl_context=ssl.create_default_context(cafile=str(path)))
        assert [await trusting.fetch(Request()) for _ in range(2)] == [b"secret"] * 2
        trusting.close()
        with pytest.raises(SnapshotError, match="not trusted"):
            await Rest(server.url).fetch(Request())
    assert server.paths == ["/fapi/v1/time"] * 2


async def test_many_at_once_share_connections_and_cancelling_ends_them():
    gate = asyncio.Event()

    async def later(path):
        await gate.wait()
        return reply(body=path.encode())

    async with HttpServer(later).running() as server:
        rest = Rest(server.url, connections=3)
        tasks = [asyncio.create_task(rest.fetch(Request(f"/{i}"))) for i in range(12)]
        tasks[0].cancel()
        await asyncio.sleep(0.05)
        assert len(server.paths) == 3
        tasks[1].cancel()
        gate.set()
        bodies = await asyncio.gather(*tasks, return_exceptions=True)
        rest.close()
    assert bodies[2:] == [f"/{i}".encode() for i in range(2, 12)]
    assert server.connections <= 4
