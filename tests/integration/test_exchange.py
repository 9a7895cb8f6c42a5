"""The simulated exchange over real sockets, to a client that knows only the venue's documentation."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mdfeed.errors import CaptureError, UsageError
from mdfeed.exchange.faults import Answer, Asked, Seam
from mdfeed.exchange.link import Limits
from mdfeed.exchange.playback import Playback
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.sim import run


async def get(url: str) -> tuple[int, dict[str, str], bytes]:
    def fetch() -> tuple[int, dict[str, str], bytes]:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    return await asyncio.to_thread(fetch)


async def hear(
    socket: ClientConnection, seconds: float, streams: Iterable[str] = (), least: int = 0
) -> list[dict[str, Any]]:
    """What comes within `seconds`, and longer on a slow machine until all `streams` were heard and `least` frames."""
    heard: list[dict[str, Any]] = []
    missing = set(streams)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    while loop.time() < end_s or missing or len(heard) < least:
        try:
            async with asyncio.timeout(30.0 if missing or len(heard) < least else max(0.0, end_s - loop.time())):
                heard.append(json.loads(await socket.recv()))
        except TimeoutError:
            break
        missing.discard(heard[-1].get("stream", ""))
    return heard


async def ask(socket: ClientConnection, document: Any) -> dict[str, Any]:
    """Send a request and return the first answer that is not an event."""
    await socket.send(document if isinstance(document, str) else json.dumps(document))
    while True:
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
        if "stream" not in answer and "e" not in answer:
            return answer


def set_levels(book: dict[str, str], rows: list[list[str]]) -> None:
    for price, qty in rows:
        book[price] = qty
        if not float(qty):
            del book[price]


async def test_a_client_following_the_recipe_has_the_true_book() -> None:
    """How to manage a local order book correctly: buffer, snapshot, drop, join, chain."""
    async with SimulatedExchange(["BTCUSDT", "ETHUSDT"], seed=4, rate=400) as exchange:
        streams = "btcusdt@depth@100ms/btcusdt@bookTicker/ethusdt@depth@100ms"
        async with connect(f"{exchange.ws_url}/public/stream?streams={streams}", compression=None) as socket:
            heard = await hear(socket, 0.5)
            status, headers, body = await get(f"{exchange.rest_url}/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
            assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, "20")
            heard += await hear(socket, 2.0, streams.split("/"), 100)
        snapshot = json.loads(body)
        truth = exchange.market.truth("BTCUSDT")
        true = truth.book_at(snapshot["lastUpdateId"])
        assert [tuple(row) for row in snapshot["bids"]] == true.levels("bids", 1000)
        bids = dict(true.levels("bids"))  # the snapshot's 1000 and those beyond them
        asks = dict(true.levels("asks"))
        last_id, applied = 0, 0
        for frame in heard:
            data = frame["data"]
            if frame["stream"] == "btcusdt@bookTicker":
                assert (data["b"], data["B"], data["a"], data["A"]) == truth.book_at(data["u"]).top()
            if frame["stream"] != "btcusdt@depth@100ms" or data["u"] < snapshot["lastUpdateId"]:
                continue
            if last_id:
                assert data["pu"] == last_id
            else:
                assert data["U"] <= snapshot["lastUpdateId"] <= data["u"] or data["pu"] == snapshot["lastUpdateId"]
            last_id = data["u"]
            # Levels are absolute: those of the first diff that the snapshot has already are set again.
            for book, rows in ((bids, data["b"]), (asks, data["a"])):
                set_levels(book, [row for row in rows if float(row[1]) or row[0] in book])
            applied += 1
            true = truth.book_at(last_id)
            assert dict(true.levels("bids")) == bids
            assert dict(true.levels("asks")) == asks
        assert applied >= 10
        assert {frame["stream"] for frame in heard} == set(streams.split("/"))


async def test_wrong_route_is_silent() -> None:
    both = "btcusdt@bookTicker/btcusdt@aggTrade"
    async with SimulatedExchange(["BTCUSDT"], rate=1000) as exchange:
        for path, expected in (
            (f"/public/stream?streams={both}", {"btcusdt@bookTicker"}),
            (f"/market/stream?streams={both}", {"btcusdt@aggTrade"}),
            (f"/private/stream?streams={both}", set()),
            (f"/stream?streams={both}", {"btcusdt@bookTicker"}),
        ):
            async with connect(exchange.ws_url + path) as socket:
                assert {frame["stream"] for frame in await hear(socket, 0.7, expected)} == expected
                listed = await ask(socket, {"method": "LIST_SUBSCRIPTIONS", "id": 1})
                assert listed == {"result": both.split("/"), "id": 1}
        async with connect(f"{exchange.ws_url}/market/ws/btcusdt@aggTrade") as socket:
            assert json.loads(await asyncio.wait_for(socket.recv(), 5))["e"] == "aggTrade"


async def test_single_routes() -> None:
    async with SimulatedExchange(["BTCUSDT"], rate=1000, routes="single") as exchange:
        both = "btcusdt@bookTicker/btcusdt@aggTrade"
        async with connect(f"{exchange.ws_url}/stream?streams={both}") as socket:
            assert {frame["stream"] for frame in await hear(socket, 1.0, both.split("/"))} == set(both.split("/"))
        for path in ("/public/stream?streams=a", "/nothing"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(exchange.ws_url + path)
            assert refused.value.response.status_code == 404


async def test_requests_and_their_errors() -> None:
    async with (
        SimulatedExchange(["BTCUSDT"], rate=500, limits=Limits(streams_max=3, incoming_per_s=100)) as exchange,
        connect(f"{exchange.ws_url}/public/stream") as socket,
    ):
        subscribe = {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker", "xxx@depth"], "id": 1}
        assert await ask(socket, subscribe) == {"result": None, "id": 1}
        assert {frame["stream"] for frame in await hear(socket, 0.5, least=1)} == {"btcusdt@bookTicker"}
        many = {"method": "SUBSCRIBE", "params": ["a@depth", "b@depth"], "id": 2}
        assert (await ask(socket, many))["error"]["code"] == 2
        assert await ask(socket, {"method": "GET_PROPERTY", "params": ["combined"], "id": 3}) == {
            "result": True,
            "id": 3,
        }
        assert await ask(socket, {"method": "SET_PROPERTY", "params": ["combined", False], "id": 4}) == {
            "result": None,
            "id": 4,
        }
        assert {frame["e"] for frame in await hear(socket, 0.5, least=1)} == {"bookTicker"}
        unsubscribe = {"method": "UNSUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 5}
        assert await ask(socket, unsubscribe) == {"result": None, "id": 5}
        assert await hear(socket, 0.3) == []
        for wrong, code in (
            ("{", 3),
            ("[]", 2),
            ({"method": "SUBSCRIBE", "params": []}, 2),
            ({"method": "SUBSCRIBE", "params": [], "id": "x"}, 2),
            ({"method": "SUBSCRIBE", "params": [1], "id": 6}, 2),
            ({"method": "SUBSCRIBE", "params": "btcusdt@depth", "id": 6}, 2),
            ({"method": "NOTHING", "id": 7}, 2),
            ({"id": 7}, 2),
            ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 8}, 1),
            ({"method": "GET_PROPERTY", "params": ["other"], "id": 9}, 0),
        ):
            answer = await ask(socket, wrong)
            assert answer["error"]["code"] == code, wrong
            number = wrong.get("id") if isinstance(wrong, dict) else None
            assert answer.get("id") == (number if isinstance(number, int) else None)
        with pytest.raises(InvalidStatus):
            await connect(f"{exchange.ws_url}/public/stream?streams=a@depth/b@depth/c@depth/d@depth")


async def test_more_than_ten_messages_a_second_end_the_connection() -> None:
    async with (
        SimulatedExchange(["BTCUSDT"], rate=0) as exchange,
        connect(f"{exchange.ws_url}/public/ws") as socket,
    ):
        for number in range(10):
            await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        assert [json.loads(await socket.recv())["id"] for _ in range(10)] == list(range(10))
        await socket.ping()  # control frames count
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_client_that_answers_no_ping_is_cut() -> None:
    mute = Limits(ping_interval_s=0.2, pong_timeout_s=0.3)
    async with SimulatedExchange(["BTCUSDT"], rate=0, limits=mute) as exchange:
        reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
        writer.write(
            b"GET /public/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        rest = await asyncio.wait_for(reader.read(), 10)  # this client answers no ping
        writer.close()
        assert rest[0] == 0x89
        assert b"Pong timeout" in rest


async def test_old_connections_are_cut() -> None:
    async with SimulatedExchange(["BTCUSDT"], rate=0, limits=Limits(max_age_s=0.2)) as exchange:
        async with connect(f"{exchange.ws_url}/public/ws") as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


async def test_rest_and_ws_api_share_port_and_weight() -> None:
    async with SimulatedExchange(["BTCUSDT"], rate=50) as exchange:
        async with connect(exchange.ws_api_url) as socket:
            request = {"id": "d", "method": "depth", "params": {"symbol": "BTCUSDT", "limit": 1000}}
            answer = await ask(socket, request)
        assert len(answer["result"]["bids"]) == 1000
        status, headers, _ = await get(f"{exchange.rest_url}/fapi/v1/time")
        assert (status, headers["X-MBX-USED-WEIGHT-1M"]) in ((200, "21"), (200, "1"))
        status, headers, body = await get(f"{exchange.rest_url}/fapi/v1/depth?symbol=BTCUSDT&limit=3")
        assert (status, headers["Content-Type"], json.loads(body)["code"]) == (400, "application/json", -4021)


async def test_tls(tmp_path: Path) -> None:
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    try:
        made = await asyncio.create_subprocess_exec(*request.split(), *names.split(), cwd=tmp_path, stderr=DEVNULL)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    assert await made.wait() == 0
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with SimulatedExchange(["BTCUSDT"], rate=500, ssl=server) as exchange:
        assert exchange.ws_url.startswith("wss://")
        async with connect(f"{exchange.ws_url}/public/ws/btcusdt@depth@100ms", ssl=client) as socket:
            assert json.loads(await asyncio.wait_for(socket.recv(), 5))["e"] == "depthUpdate"


async def test_the_seam_sees_everything_that_leaves() -> None:
    class Script(Seam):
        seen: list[str]

        def asked(self, asked: Asked) -> Answer | None:
            if "klines" in asked.path:
                return Answer(451, b"<html>", content_type="text/html")
            return Answer(403, b"no") if asked.is_upgrade and "bnb" in asked.path else None

        def answered(self, asked: Asked, answer: Answer) -> Answer:
            answer.headers["X-Seen"] = asked.path
            return answer

        def frame(self, wire: Any, stream: str, frame: bytes) -> Sequence[tuple[float, bytes]]:
            if "@depth" in stream:
                return ()
            return ((0.0, frame), (0.05, frame)) if "ethusdt" in stream else ((0.0, frame),)

    async with SimulatedExchange(["BTCUSDT", "ETHUSDT"], rate=500, seam=Script()) as exchange:
        streams = "btcusdt@depth/btcusdt@bookTicker/ethusdt@bookTicker"
        async with connect(f"{exchange.ws_url}/public/stream?streams={streams}") as socket:
            heard = await hear(socket, 1.0, streams.split("/")[1:], 50)
        ids = [(frame["stream"], frame["data"]["u"]) for frame in heard]
        assert {stream for stream, _ in ids} == {"btcusdt@bookTicker", "ethusdt@bookTicker"}
        assert len({i for i in ids if i[0][0] == "b"}) == sum(i[0][0] == "b" for i in ids)
        assert len({i for i in ids if i[0][0] == "e"}) < sum(i[0][0] == "e" for i in ids)
        assert (await get(f"{exchange.rest_url}/fapi/v1/klines?symbol=BTCUSDT"))[0] == 451
        assert (await get(f"{exchange.rest_url}/fapi/v1/time"))[1]["X-Seen"] == "/fapi/v1/time"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{exchange.ws_url}/public/ws/bnbusdt@depth")
        assert refused.value.response.status_code == 403


async def test_playback_over_sockets(tmp_path: Path) -> None:
    start = 1_700_000_000_000_000_000
    lines = [(start, {"lastUpdateId": 5, "E": 1, "T": 1, "bids": [["1.0", "2"]], "asks": [["1.1", "2"]]})]
    for u in range(6, 26):
        data = {"e": "depthUpdate", "E": u, "T": u, "s": "AUSDT", "U": u, "u": u, "pu": u - 1, "a": []}
        lines.append((start + u * 10**6, {"stream": "ausdt@depth@0ms", "data": data | {"b": [["1.0", str(u)]]}}))
    file = tmp_path / "capture.txt"
    file.write_text("".join(f"{time_ns} {json.dumps(line)}\n" for time_ns, line in lines))
    async with SimulatedExchange(source=Playback([file])) as exchange:
        async with connect(f"{exchange.ws_url}/public/stream?streams=ausdt@depth@100ms") as socket:
            heard = await hear(socket, 0.2, least=20)
        assert {frame["stream"] for frame in heard} == {"ausdt@depth@100ms"}
        assert [frame["data"]["u"] for frame in heard] == list(range(6, 26))
        status, _, body = await get(f"{exchange.rest_url}/fapi/v1/depth?symbol=AUSDT&limit=5")
        assert (status, json.loads(body)["bids"]) == (200, [["1.0", "25"]])
        with pytest.raises(LookupError):
            exchange.market  # noqa: B018


async def test_a_taken_port_is_an_error_and_close_leaves_nothing() -> None:
    async with SimulatedExchange(["BTCUSDT"], rate=0) as exchange:
        with pytest.raises(OSError, match=str(exchange.port)):
            await SimulatedExchange(["BTCUSDT"], rate=0, port=exchange.port).start()
    before = len(asyncio.all_tasks())
    async with SimulatedExchange(["BTCUSDT"], rate=10) as exchange:
        socket = await connect(f"{exchange.ws_url}/public/ws/btcusdt@depth")
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 5)
    await socket.close()
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == before


async def test_the_verb_serves_until_interrupted() -> None:
    verb = "from mdfeed.sim import run; run(0, ['6'], 1, 20.0, None, [])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", verb, stderr=PIPE)
    try:
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
        found = re.fullmatch(r"mdfeed sim: streams (ws://\S+), REST (http://\S+), WS-API (ws://\S+)\n", line)
        assert found is not None, line
        _, _, body = await get(f"{found[2]}/fapi/v1/exchangeInfo")
        names = [row["symbol"] for row in json.loads(body)["symbols"]]
        assert names == ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "SYM000USDT", "SYM001USDT"]
        async with connect(f"{found[1]}/public/ws/sym001usdt@depth@100ms") as socket:
            assert json.loads(await asyncio.wait_for(socket.recv(), 10))["s"] == "SYM001USDT"
        process.send_signal(signal.SIGINT)
        said = (await asyncio.wait_for(process.stderr.read(), 10)).decode()
        assert "KeyboardInterrupt" in said  # the command line turns it into exit code 130
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_the_verb_refuses_contradictions(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(0, [], 1, 50.0, None, ["meteor"])
    with pytest.raises(UsageError):
        run(0, [], 1, -1.0, None, [])
    with pytest.raises(CaptureError):
        run(0, [], 1, 50.0, tmp_path / "absent", [])


async def test_what_ends_the_market_is_raised() -> None:
    class Broken(Seam):
        def frame(self, wire: Any, stream: str, frame: bytes) -> Sequence[tuple[float, bytes]]:
            raise RuntimeError("script")

    exchange = SimulatedExchange(["BTCUSDT"], rate=1000, seam=Broken())
    await exchange.start()
    async with connect(f"{exchange.ws_url}/public/ws/btcusdt@depth@100ms"):
        await asyncio.wait_for(exchange.wait(), 10)
    with pytest.raises(RuntimeError, match="script"):
        await exchange.close()
