"""/ws as a client finds it: who may look on, and what is told."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import connect

from mdfeed.gate import TICKET_S
from mdfeed.settings import Auth
from tests.http_rig import advance, contexts, rig_of
from tests.page_client import UPGRADE, closed, look_on, status_of, told
from tests.wire import certificate

TOKEN = "sesame-sesame-12"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BASIC = {"Authorization": "Basic b3BzOnB3"}
CREDENTIALS = Auth(token=TOKEN, user="ops", password="pw", exempt_health=True)


@pytest.mark.parametrize("scheme", ["http", "https", "mutual"])
async def test_every_credential_origin_and_ticket(tmp_path: Path, scheme: str) -> None:
    context, client = contexts(scheme, tmp_path)
    async with rig_of(CREDENTIALS, context, origins=["https://dash.example.net"]) as rig:
        gate, own = rig.server.gate, f"http://127.0.0.1:{rig.port}"
        good, old = f"mdfeed_ticket={gate.ticket(time.time())}", f"mdfeed_ticket={gate.ticket(time.time() - TICKET_S)}"
        forged = f"{good[:-1]}{'0' if good[-1] != '0' else '1'}"
        foreign = "https://elsewhere.example.net"
        for headers, status in (
            ({}, 401),
            (BEARER, 101),
            (BASIC, 101),
            ({"Authorization": "Basic b3BzOng="}, 401),
            ({"Authorization": f"Bearer {TOKEN}x"}, 401),
            (BEARER | {"Origin": own}, 101),
            (BEARER | {"Origin": own.replace("http:", "https:")}, 101),
            (BEARER | {"Origin": foreign}, 403),
            (BASIC | {"Origin": foreign}, 403),
            (BASIC | {"Origin": "null"}, 403),
            (BASIC | {"Origin": f"http://127.0.0.1:{rig.port + 1}"}, 403),
            (BASIC | {"Origin": f"{own}.example.net"}, 403),
            (BASIC | {"Origin": "https://dash.example.net"}, 101),
            ({"Origin": "https://dash.example.net"}, 401),
            ({"Cookie": good, "Origin": own}, 101),
            ({"Cookie": f"a=b; {good}; c", "Origin": own}, 101),
            ({"Cookie": good}, 401),
            ({"Cookie": good, "Origin": foreign}, 401),
            ({"Cookie": good, "Origin": "https://dash.example.net"}, 401),
            ({"Cookie": old, "Origin": own}, 401),
            ({"Cookie": forged, "Origin": own}, 401),
            ({"Cookie": "mdfeed_ticket=", "Origin": own}, 401),
            ({"Cookie": "mdfeed_ticket=zz.00", "Origin": own}, 401),
        ):
            assert await status_of(rig.port, UPGRADE | headers, tls=client) == status, headers
        for method, headers, status in (
            ("GET", BASIC, 426),
            ("HEAD", BASIC, 426),
            ("GET", {}, 401),
            ("POST", BASIC | UPGRADE, 405),
            ("DELETE", BASIC, 405),
            ("PUT", {}, 401),
        ):
            assert await status_of(rig.port, headers, method, tls=client) == status, (method, headers)


async def test_without_credentials_a_foreign_page_is_kept_out_all_the_same() -> None:
    async with rig_of() as rig:
        own = f"http://127.0.0.1:{rig.port}"
        for headers, status in (({}, 101), ({"Origin": own}, 101), ({"Origin": "https://elsewhere.example.net"}, 403)):
            assert await status_of(rig.port, UPGRADE | headers) == status, headers


async def test_what_is_no_handshake_is_refused() -> None:
    async with rig_of() as rig:
        for headers, version, status in (
            ({"Sec-WebSocket-Version": "8"}, "1.1", 400),
            ({"Sec-WebSocket-Key": "short"}, "1.1", 400),
            ({"Sec-WebSocket-Key": ""}, "1.1", 400),
            ({"Connection": "keep-alive"}, "1.1", 400),
            ({"Upgrade": "h2c"}, "1.1", 426),
            ({"Content-Length": "5"}, "1.1", 400),
            ({"Transfer-Encoding": "chunked"}, "1.1", 400),
            ({}, "1.0", 400),
        ):
            assert await status_of(rig.port, UPGRADE | headers, version=version) == status, headers
        assert await status_of(rig.port, UPGRADE) == 101


async def test_the_page_gives_a_ticket_that_opens_its_socket_alone() -> None:
    async with rig_of(Auth(user="ops", password="pw")) as rig:
        url, own = f"http://127.0.0.1:{rig.port}", f"http://127.0.0.1:{rig.port}"

        def ask(path: str, **headers: str) -> tuple[int, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=10)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return answer.status, answer.headers

        assert (await asyncio.to_thread(ask, "/"))[1]["Set-Cookie"] is None
        status, headers = await asyncio.to_thread(lambda: ask("/", **BASIC))
        ticket, *attributes = headers["Set-Cookie"].split("; ")
        assert status == 200
        assert set(attributes) == {"Path=/ws", f"Max-Age={TICKET_S}", "HttpOnly", "SameSite=Strict"}
        for path in ("/", "/ready", "/api/v1/market-data/symbols"):
            assert (await asyncio.to_thread(lambda path=path: ask(path, Cookie=ticket, Origin=own)))[0] == 401
        async with connect(url.replace("http", "ws") + "/ws", additional_headers={"Cookie": ticket}, origin=own,
                           proxy=None) as page:  # fmt: skip
            assert (await told(page, "hello"))["symbols"] == ["BTCUSDT", "ETHUSDT"]
        proxied = {**BASIC, "X-Forwarded-Proto": "https"}
        assert "; Secure" in (await asyncio.to_thread(lambda: ask("/", **proxied)))[1]["Set-Cookie"]


async def test_the_book_is_the_apis_and_the_newest_one_wins() -> None:
    async with rig_of() as rig, look_on(rig) as page:
        hello = await told(page, "hello")
        assert (hello["protocol"], hello["venue"], hello["levels"]) == (1, "binance-usdm", 20)
        await page.send('{"subscribe": ["btcusdt"]}')
        book = await told(page, "book")
        status, api = rig.api.answer("/api/v1/market-data/orderbook/BTCUSDT") or (0, {})
        assert status == 200
        for name in ("symbol", "state", "reason", "last_update_id", "bids", "asks"):
            assert book[name] == api[name]
        assert (book["spread"], book["mid"]) == ("0.2", "61800.2")
        assert [trade[:4] for trade in book["trades"]] == [[8, "61800.25", "0.12", True], [7, "61800.2", "0.12", True]]
        assert "venue_delay_ms" in book
        # Everything of one turn of the loop comes as one message with the newest of it.
        for last_id in range(11, 61):
            advance(rig, last_id, [["61800.10", f"{last_id}.5"]])
        book = await told(page, "book")
        assert (book["last_update_id"], book["bids"][0]) == (60, ["61800.1", "60.5"])
        assert book["counts"]["applied"] == 50
        health = await told(page, "health")
        assert (health["is_ready"], health["reasons"]) == (False, ["ETHUSDT: COLD"])
        rig.feed.processing.observe(20_000, 99)
        rig.feed.processing.observe(400_000)
        while health["latency"]["processing"]["start"]["count"] != 100:
            health = await told(page, "health")
        recent, start = (health["latency"]["processing"][since] for since in ("recent", "start"))
        assert recent["count"] == start["count"] == 100
        for name, true_us in (("p50_us", 20), ("p99_us", 20), ("p99_9_us", 400)):
            assert 0.93 * true_us < start[name] < 1.07 * true_us, name
            assert true_us <= recent[name] < 1.1 * true_us, name
        rows = {row["symbol"]: row for row in (await told(page, "symbols"))["symbols"]}
        assert (rows["BTCUSDT"]["bid"], rows["ETHUSDT"]["state"], rows["ETHUSDT"]["bid"]) == ("61800.1", "COLD", None)


async def test_a_book_that_is_not_good_is_never_told_as_data() -> None:
    async with rig_of() as rig, look_on(rig) as page:
        await page.send('{"subscribe": ["ETHUSDT", "BTCUSDT"]}')
        cold = await told(page, "book", symbol="ETHUSDT")
        assert cold["state"] == "COLD"
        assert "bids" in await told(page, "book", symbol="BTCUSDT")
        rig.feed.lost(rig.line, time.time_ns())
        lost = await told(page, "book", symbol="BTCUSDT", state="STALE")
        for message in (cold, lost):
            assert not {"bids", "asks", "mid", "spread", "day"} & message.keys()
        rows = {row["symbol"]: row for row in (await told(page, "symbols"))["symbols"]}
        while rows["BTCUSDT"]["state"] == "LIVE":  # a row may be a second old
            rows = {row["symbol"]: row for row in (await told(page, "symbols"))["symbols"]}
        assert (rows["BTCUSDT"]["bid"], rows["BTCUSDT"]["ask"]) == (None, None)


async def test_unknown_symbols_are_named_and_nothing_else_happens() -> None:
    async with rig_of() as rig, look_on(rig) as page:
        await page.send('{"subscribe": ["BTCUST", "BTCUSDT"]}')
        assert (await told(page, "unknown"))["symbols"] == ["BTCUST"]
        assert (await told(page, "book"))["symbol"] == "BTCUSDT"
        await page.send('{"subscribe": []}')
        await told(page, "health")
        async with asyncio.timeout(20):
            while rig.view.books:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "scenario",
    [
        test_the_book_is_the_apis_and_the_newest_one_wins,
        test_what_is_no_handshake_is_refused,
    ],
)
def test_the_same_on_uvloop(scenario: Any) -> None:
    uvloop.run(scenario())


def test_tls_on_uvloop(tmp_path: Path) -> None:
    async def run() -> None:
        context, cert = certificate(tmp_path, "IP:127.0.0.1")
        client = ssl.create_default_context(cafile=str(cert))
        async with rig_of(CREDENTIALS, context) as rig:
            url = f"wss://127.0.0.1:{rig.port}/ws"
            async with connect(url, ssl=client, additional_headers=BEARER, proxy=None) as page:
                await page.send('{"subscribe": ["BTCUSDT"]}')
                assert (await told(page, "book"))["last_update_id"] == 10
                await page.send("nonsense")
                assert await closed(page) == 1007

    uvloop.run(run())
