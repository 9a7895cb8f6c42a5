"""mdfeed.http and mdfeed.httphead over real loopback sockets, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from mdfeed import http as http_module
from mdfeed import httpline
from mdfeed.errors import MdfeedError
from mdfeed.http import HttpServer
from mdfeed.httphead import BadRequest, Request, parse_head

METRICS = b"# HELP a b\n# TYPE a gauge\na 1\n"
HOST = b"Host: x\r\n"


class Served:
    """A server whose answers a test may change, and raw bytes to and from it."""

    def __init__(self) -> None:
        self.is_ready = True
        self.renderings = 0
        self.metrics_text = METRICS
        self.server = HttpServer("127.0.0.1", 0, health=self.health, ready=self.ready, metrics=self.metrics)

    def health(self) -> tuple[int, dict[str, Any]]:
        return 200, {"service": "market-data", "status": "healthy"}

    def ready(self) -> tuple[int, dict[str, Any]]:
        return (200, {"status": "ready"}) if self.is_ready else (503, {"status": "not_ready", "reasons": ["redis"]})

    async def metrics(self) -> bytes:
        self.renderings += 1
        return self.metrics_text

    async def talk(self, *pieces: bytes) -> bytes:
        """Everything that the server says until it closes its side, or until it falls silent with the line open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        said = b""
        try:
            async with asyncio.timeout(5):
                while piece := await reader.read(1 << 16):
                    said += piece
        finally:
            writer.close()
        return said

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Content-Length: {len(body)}\r\n" if body else ""
        return answers(await self.talk(head.encode() + b"\r\n" + body), [method])[0]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await served.server.start()
    yield served
    await served.server.stop()


def answers(said: bytes, methods: list[str]) -> list[tuple[int, dict[str, str], bytes]]:
    """The answers in what a server said, one for each method; nothing may be left over."""
    found = []
    for method in methods:
        head, _, said = said.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = 0 if method == "HEAD" else int(headers["Content-Length"])
        assert first.startswith("HTTP/1.1 ")
        assert len(said) >= size
        found.append((int(first[9:12]), headers, said[:size]))
        said = said[size:]
    assert said == b""
    return found


async def test_the_three_paths(served: Served) -> None:
    status, headers, body = await served.ask("GET", "/health?x=1")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["Date"])
    assert json.loads(body) == {"service": "market-data", "status": "healthy"}
    assert (await served.ask("GET", "/ready"))[0] == 200
    served.is_ready = False
    status, _, body = await served.ask("GET", "/ready")
    assert (status, json.loads(body)) == (503, {"status": "not_ready", "reasons": ["redis"]})
    status, headers, body = await served.ask("GET", "/metrics")
    assert (status, headers["Content-Type"], body) == (200, "text/plain; version=0.0.4; charset=utf-8", METRICS)


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_head_has_the_length_of_get_and_no_body(served: Served, path: str) -> None:
    _, get, body = await served.ask("GET", path)
    status, head, nothing = await served.ask("HEAD", path)
    assert (status, head["Content-Length"], nothing) == (200, str(len(body)), b"")
    assert {**head, "Date": ""} == {**get, "Date": ""}


@pytest.mark.parametrize("body", [b"", b"x" * 10, b"x" * 60_000, b"x" * 300_000])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
async def test_other_methods_get_405_whatever_their_body(served: Served, method: str, body: bytes) -> None:
    status, headers, answer = await served.ask(method, "/health", body)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert "Access-Control-Allow-Origin" not in headers
    assert json.loads(answer)["error"] == "method not allowed"


async def test_chunked_expect_and_asterisk_get_their_405(served: Served) -> None:
    chunked = b"POST /ready HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    expect = b"PUT /ready HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    for request in (chunked, expect, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"):
        assert answers(await served.talk(request), ["POST"])[0][0] == 405


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_unknown_paths_get_404_as_json(served: Served, method: str) -> None:
    for path in ("/", "/healthz", "/health/", "/%2e%2e/etc/passwd", "//health"):
        status, headers, body = await served.ask(method, path)
        assert (status, headers["Content-Type"]) == (404, "application/json")
        assert method == "HEAD" or json.loads(body)["error"] == "not found"


async def test_requests_on_one_connection_are_answered_in_order(served: Served) -> None:
    last = b"GET /nothing HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    methods = ["POST", "GET", "HEAD", "GET"]
    whole = b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc\r\n"
    whole += b"GET http://x/ready HTTP/1.1\r\n" + HOST + b"\r\nHEAD /metrics HTTP/1.1\r\n" + HOST + b"\r\n" + last
    expected = [405, 200, 200, 404]
    assert [status for status, _, _ in answers(await served.talk(whole), methods)] == expected
    dribbled = await served.talk(*(whole[i : i + 1] for i in range(len(whole))))
    assert [status for status, _, _ in answers(dribbled, methods)] == expected
    old = await served.talk(b"GET /health HTTP/1.0\r\n\r\nGET /health HTTP/1.0\r\n\r\n")
    assert answers(old, ["GET"])[0][1]["Connection"] == "close"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /health\r\n\r\n", 400),
        (b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\nHost: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 3000, 431),
    ],
)
async def test_what_is_no_request_is_refused_and_the_line_closed(
    served: Served, request_bytes: bytes, status: int
) -> None:
    (answer,) = answers(await served.talk(request_bytes), ["GET"])
    assert (answer[0], answer[1]["Connection"]) == (status, "close")
    assert json.loads(answer[2])["error"]
    assert (await served.ask("GET", "/health"))[0] == 200


async def test_metrics_are_rendered_at_most_once_a_second(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        await served.ask("GET", "/metrics")
    assert served.renderings == 1
    monkeypatch.setattr(http_module, "METRICS_AGE_S", 0.0)
    await served.ask("GET", "/metrics")
    assert served.renderings == 2


async def test_a_failing_answer_is_a_500_and_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.server.routes["/ready"] = lambda request: 1 / 0  # type: ignore[assignment,return-value]
    status, _, body = await served.ask("GET", "/ready")
    assert (status, json.loads(body)) == (500, {"error": "internal error"})
    assert "no answer to /ready" in caplog.text


async def test_a_slow_head_is_timed_out_and_a_silent_line_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpline, "PHASE_S", {**httpline.PHASE_S, "head": 0.05, "idle": 0.05, "linger": 0.05})
    assert answers(await served.talk(b"GET /health HT"), ["GET"])[0][0] == 408
    assert await served.talk(b"") == b""


async def test_a_client_that_does_not_read_is_held_and_then_served(served: Served) -> None:
    served.metrics_text = METRICS * 10_000
    count = 60
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, limit=1 << 14)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * count)
    async with asyncio.timeout(5):
        while [connection.phase for connection in served.server.connections] != ["blocked"]:
            await asyncio.sleep(0.01)
    (connection,) = served.server.connections
    assert connection.transport.get_write_buffer_size() < 3 * len(served.metrics_text)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = bytearray()
    async with asyncio.timeout(30):
        while piece := await reader.read(1 << 16):
            said += piece
    writer.close()
    assert len(answers(bytes(said), ["GET"] * (count + 1))) == count + 1


async def test_the_longest_idle_connection_makes_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "MAX_CONNECTIONS", 2)
    lines = [await asyncio.open_connection("127.0.0.1", served.server.port) for _ in range(2)]
    lines[0][1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await lines[0][0].readuntil(b"}\n")
    assert (await served.ask("GET", "/health"))[0] == 200
    assert await lines[1][0].read() == b""
    for _, writer in lines:
        writer.close()


async def test_connections_take_half_of_the_descriptors_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((5, 2), (1024, 512), (8192, 2048), (resource.RLIM_INFINITY, 2048)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, resource.RLIM_INFINITY))
        served = Served()
        await served.server.start()
        assert served.server.max_connections == most
        await served.server.stop()


async def test_a_taken_port_says_by_whom_and_what_to_do(served: Served) -> None:
    second = Served()
    second.server = HttpServer("127.0.0.1", served.server.port, health=dict, ready=dict, metrics=bytes)  # type: ignore[arg-type]
    with pytest.raises(MdfeedError, match=r"http 127\.0\.0\.1:\d+: the port is taken by another mdfeed; stop it, or"):
        await second.server.start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        second.server = HttpServer("127.0.0.1", other.getsockname()[1], health=dict, ready=dict, metrics=bytes)  # type: ignore[arg-type]
        with pytest.raises(MdfeedError, match="taken by another program"):
            await second.server.start()


async def test_an_address_that_is_not_ours_is_named() -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        server = HttpServer(host, 0, health=dict, ready=dict, metrics=bytes)  # type: ignore[arg-type]
        with pytest.raises(MdfeedError, match=r"this machine has no such address; set http\.host"):
            await server.start()


async def test_stop_closes_idle_lines_and_the_port() -> None:
    served = Served()
    assert not served.server.is_listening
    await served.server.start()
    assert served.server.is_listening
    port = served.server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"}\n")
    await served.server.stop()
    assert await reader.read() == b""
    assert not served.server.is_listening
    writer.close()
    with pytest.raises(OSError, match=str(port)):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(
    "scenario",
    [
        test_the_three_paths,
        test_chunked_expect_and_asterisk_get_their_405,
        test_requests_on_one_connection_are_answered_in_order,
        test_a_client_that_does_not_read_is_held_and_then_served,
        test_a_taken_port_says_by_whom_and_what_to_do,
    ],
)
def test_the_same_on_uvloop(scenario: Callable[[Served], Awaitable[None]]) -> None:
    async def run() -> None:
        served = Served()
        await served.server.start()
        await scenario(served)
        await served.server.stop()

    uvloop.run(run())


def test_a_large_body_gets_its_405_on_uvloop_too() -> None:
    async def run() -> int:
        served = Served()
        await served.server.start()
        status, _, _ = await served.ask("POST", "/health", b"x" * 300_000)
        await served.server.stop()
        return status

    assert uvloop.run(run()) == 405


@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(
                [b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"Host", b": ", b"x", b"Content-Length: 5", b"\n"]
            )
        ).map(b"".join),
    )
)
def test_any_head_is_a_request_or_refused(head: bytes) -> None:
    try:
        parsed: Request | BadRequest = parse_head(head)
    except BadRequest as error:
        parsed = error
    if isinstance(parsed, Request):
        assert head.startswith(parsed.method.encode() + b" ")
        assert parsed.path == "*" or parsed.path.startswith("/")
    else:
        assert parsed.status in (400, 505)
