"""The second rung of the ladder: snapshots by WS-API, against the simulated exchange and against refusing servers."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.server import serve

from mdfeed import venues, ws_api
from mdfeed._feed import Feed
from mdfeed.errors import SnapshotError
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.governor import Governor, Purpose
from mdfeed.rest import Rest
from mdfeed.snapshots import Snapshots
from mdfeed.ws_api import WsApi
from tests.lines import until
from tests.wire import HttpServer, reply

VENUE = venues.get("binance-usdm")
NOW_MS = 1_767_000_000_000


async def test_a_snapshot_and_the_weight_it_cost():
    async with SimulatedExchange(["BTCUSDT"]) as exchange:
        governor = Governor()
        api = WsApi(exchange.ws_api_url, governor)
        left = []
        bodies = await asyncio.gather(
            *(api.depth("BTCUSDT", 50, 2, Purpose.FIRST, on_leave=lambda: left.append(1)) for _ in range(4))
        )
        assert all(len(json.loads(body)["bids"]) == 50 for body in bodies)
        assert governor.weight_used == 8
        assert (len(left), api.answers) == (4, {"ok": 4})
        with pytest.raises(SnapshotError, match="Invalid symbol"):
            await api.depth("NOSUCH", 50, 2, Purpose.FIRST)
        await api.close()


async def test_without_weight_it_does_not_wait_and_is_no_trouble_of_the_far_side(caplog):
    governor = Governor()
    governor.settle(0, said=2400)
    api = WsApi("ws://127.0.0.1:9", governor)
    with pytest.raises(SnapshotError, match="weight is used up"):
        await api.depth("BTCUSDT", 50, 2, Purpose.FIRST)
    assert (api.answers, caplog.records) == ({}, [])


async def test_the_connection_is_made_again_and_closed_when_idle():
    async with SimulatedExchange(["BTCUSDT"]) as exchange:
        api = WsApi(exchange.ws_api_url, Governor(), idle_s=0.1)
        await api.depth("BTCUSDT", 5, 2, Purpose.FIRST)
        await until(lambda: api._connection is None)
        await api.depth("BTCUSDT", 5, 2, Purpose.FIRST)
        await api._connection.close()
        await until(lambda: api._connection is None)
        await api.depth("BTCUSDT", 5, 2, Purpose.FIRST)
        await api.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "reset"),
        ("garbage", "timeout"),
        ('{"id":1,"status":418,"error":{"code":-1003,"msg":"banned"}}', "banned"),
        ('{"id":1,"status":503,"error":{"code":-1,"msg":"busy"}}', "server_error"),
        ('{"id":1,"status":200}', "error"),
        ('{"id":1,"status":200,"result":[]}', "error"),
        ("[]", "timeout"),
    ],
)
async def test_answers_that_are_none(answer, reason):
    async def talk(connection):
        await connection.recv()
        if answer is None:
            return
        await connection.send(answer)
        await connection.wait_closed()

    async with serve(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        governor = Governor()
        api = WsApi(f"ws://127.0.0.1:{port}", governor, timeout_s=0.3)
        with pytest.raises(SnapshotError):
            await api.depth("BTCUSDT", 50, 2, Purpose.FIRST)
        assert api.answers == {reason: 1}
        assert governor.weight_used == 2, "it may have arrived"
        assert (governor.blocked_until > 0) == (reason == "banned")
        await api.close()


@pytest.mark.parametrize(("status", "unsaid_s"), [(429, 60.0), (418, 120.0)])
@pytest.mark.parametrize(
    ("data", "wait_s"),
    [
        ({"serverTime": NOW_MS, "retryAfter": NOW_MS + 3_600_000}, 3600.0),
        ({"serverTime": NOW_MS - 20_000, "retryAfter": NOW_MS + 3_580_000}, 3600.0),  # its clock is late
        ({"serverTime": 1, "retryAfter": NOW_MS + 3_600_000}, 3600.0),
        ({"retryAfter": NOW_MS + 3_600_000}, 3600.0),
        ({"retryAfter": NOW_MS - 5}, 1.0),
        ({"retryAfter": 1e300}, None),
        ({"retryAfter": "soon"}, None),
        ({"retryAfter": True}, None),
        ([], None),
    ],
)
def test_the_wait_that_an_answer_imposes(status, unsaid_s, data, wait_s):
    answer = {"id": 1, "status": status, "error": {"code": -1003, "msg": "no", "data": data}}
    assert ws_api._refusal(answer, NOW_MS).retry_after_s == (unsaid_s if wait_s is None else pytest.approx(wait_s))


@pytest.mark.parametrize(("status", "reason"), [("418 I'm a teapot", "banned"), ("429 Too Many", "rate_limited")])
async def test_a_refused_upgrade_stops_rest_and_lines_too(status, reason):
    async with HttpServer(lambda path: reply(status, b"", Retry_After=30, Connection="close")).running() as server:
        governor = Governor()
        api = WsApi(server.url.replace("http:", "ws:"), governor)
        for _ in range(2):
            with pytest.raises(SnapshotError):
                await api.depth("BTCUSDT", 50, 2, Purpose.FIRST)
        assert len(server.paths) == 1
        assert governor.block.reason == reason
        assert 29 < governor.blocked_s <= 30
        assert 29 < governor.no_dial_s <= 30
        assert governor.weight_used == 0
        assert api.answers[reason] == 2
        await api.close()


async def test_a_connection_that_stands_and_answers_nothing_is_replaced(monkeypatch):
    monkeypatch.setattr(ws_api, "ANSWER_S", 0.2)
    connections = 0

    async def talk(connection):
        nonlocal connections
        connections += 1
        number = connections
        async for text in connection:
            if number > 1:
                said = {
                    "id": json.loads(text)["id"],
                    "status": 200,
                    "result": {"lastUpdateId": 7, "bids": [], "asks": []},
                }
                await connection.send(json.dumps(said))

    async with serve(talk, "127.0.0.1", 0) as server:
        api = WsApi(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", Governor())
        with pytest.raises(SnapshotError):
            await api.depth("BTCUSDT", 50, 2, Purpose.FIRST)
        body = await api.depth("BTCUSDT", 50, 2, Purpose.FIRST)
        assert json.loads(body)["lastUpdateId"] == 7
        assert (connections, api.answers) == (2, {"timeout": 1, "ok": 1})
        await api.close()


@pytest.mark.parametrize("status", ["403 Forbidden", "451 Unavailable For Legal Reasons", "gone"])
async def test_the_ladder_goes_to_the_ws_api_when_rest_refuses(status):
    async with (
        SimulatedExchange(["BTCUSDT", "ETHUSDT"]) as exchange,
        HttpServer(lambda path: reply(status, b"<html>no</html>")).running() as refusing,
    ):
        url = refusing.url if status != "gone" else "http://127.0.0.1:1"
        feed = Feed(VENUE)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            feed.add(symbol)
            feed.open_line("x", [f"{symbol.lower()}@depth"], 1)
        rest = Rest(url)
        api = WsApi(exchange.ws_api_url, rest.governor)
        snapshots = Snapshots(feed, VENUE, rest, flush=int, ws_api=api, poll_s=0.02)
        task = asyncio.create_task(snapshots.run())
        try:
            await until(lambda: all(track.state == "LIVE" for track in feed.tracks.values()), 8)
            assert {(track.reason, track.source) for track in feed.tracks.values()} == {("synced_ws_api", "ws_api")}
            assert "ws_api: serves" in snapshots.trouble
            assert snapshots.rungs[1].outcomes["joined"] == 2
            if status != "gone":
                assert len(refusing.paths) <= 4, "a host that refuses is left alone"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await api.close()
            rest.close()
