"""Raw bytes at the HTTP port: a well-formed answer or a closed line, never a traceback, never a server that is gone.

The rule: each answer is one of the known statuses with its length stated truly; what follows an upgrade is whole
WebSocket frames, whatever is said; and afterwards the server still answers the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdfeed import httpline, venues
from mdfeed._feed import Feed
from mdfeed.api import PREFIX, Api
from mdfeed.exposition import Exposition
from mdfeed.gate import Gate
from mdfeed.http import HttpServer
from mdfeed.metrics import FeedCollector
from mdfeed.page import Page
from mdfeed.settings import Auth
from mdfeed.view import View
from mdfeed.viewers import Viewers

TOKEN = "sesame-sesame-12"
STATUSES = {101, 200, 304, 400, 401, 403, 404, 405, 408, 426, 431, 503, 505}
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Authorization: Bearer sesame-sesame-12\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
WORDS = st.sampled_from(
    [
        *(b"GET ", b"HEAD ", b"POST ", b"OPTIONS * ", b"CONNECT ", b"/health", b"/ready", b"/metrics", b"/ws"),
        *(PREFIX.encode(), b"/orderbook/BTCUSDT", b"/trades/", b"/ticker/../x", b"/%2e", b"?q=%00", b" HTTP/1.1"),
        *(b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"Host: x", b"Content-Length: 3"),
        *(b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked", b"Expect: 100-continue"),
        *(b"Connection: close", b"Connection: keep-alive", b"Upgrade: websocket", b"Authorization: Basic "),
        *(b"Authorization: Bearer ", TOKEN.encode(), b"b3BzOnB3", b"0\r\n\r\n", b"\x00", b"\xff\xfe", b" "),
        *(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY, b"Connection: Upgrade", b"Origin: http://x"),
        *(b"If-None-Match: *", b"Cookie: mdfeed_ticket=", b"Accept: text/html", b"GET / HTTP/1.1\r\n", HANDSHAKE),
        *(b"\x16\x03\x01", b"a" * 3000, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"),
    ]
)
STREAM = st.lists(st.one_of(WORDS, st.binary(max_size=30)), max_size=25).map(b"".join)


def check_answers(said: bytes) -> None:
    """Every answer in `said` is whole (HEAD's have no body), or the line was cut in the last one's body."""
    for match in re.finditer(rb"HTTP/1\.1 (\d{3}) [^\r\n]+\r\n((?:[^\r\n]+\r\n)+)\r\n", said):
        assert int(match[1]) in STATUSES, match[0]
        assert b"Content-Length: " in match[2] or match[1] in (b"101", b"304")
        if b"Content-Type: application/json" in match[2] and (body := said[match.end() :]).startswith(b"{"):
            json.loads(body[: int(re.search(rb"Content-Length: (\d+)", match[2])[1])])  # type: ignore[index]
    assert said == b"" or said.startswith(b"HTTP/1.1 ")


async def raw(port: int, pieces: list[bytes]) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(5):
            while piece := await reader.read(1 << 16):
                said += piece
    except OSError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return said


def server_of(auth: Auth) -> tuple[HttpServer, Viewers]:
    feed = Feed(venues.get("binance-usdm"))
    feed.add("BTCUSDT", 1, 3)

    def say(status: int) -> Any:
        return lambda: (status, {"status": "x"})

    api = Api(feed, 20)
    viewers = Viewers(View(feed, api, ready=say(503)))
    server = HttpServer(
        "127.0.0.1", 0, health=say(200), ready=say(503), metrics=Exposition(FeedCollector(feed)).render,
        api=api, page=Page(viewers), gate=Gate(auth),
    )  # fmt: skip
    return server, viewers


@pytest.mark.parametrize(
    "auth", [Auth(), Auth(token="sesame-sesame-12", user="ops", password="pw")], ids=["open", "auth"]
)
def test_raw_bytes_get_an_answer_or_a_closed_line(
    auth: Auth, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: dict[str, float] = {**httpline.PHASE_S, "head": 0.5, "body": 0.5, "idle": 0.5, "linger": 0.2}
    monkeypatch.setattr(httpline, "PHASE_S", phases)
    caplog.set_level(logging.INFO)
    with asyncio.Runner() as runner:
        server, _ = server_of(auth)
        runner.run(server.start())

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(stream=STREAM, cut=st.integers(1, 4000))
        def ask(stream: bytes, cut: int) -> None:
            step = max(cut, len(stream) // 20 + 1)
            pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
            check_answers(runner.run(raw(server.port, pieces)))

        ask()
        alive = runner.run(raw(server.port, [b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]))
        assert alive.startswith(b"HTTP/1.1 401" if auth.token else b"HTTP/1.1 200")
        runner.run(server.stop())
        assert not server.connections
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert "sesame" not in caplog.text


DATA = [b'{"subscribe":["BTCUSDT"]}', b'{"subscribe":[]}', b"[", b"\xff", b"", b"\x03\xe8bye", b"x" * 1200]
FIRST = st.one_of(st.sampled_from([0x81, 0x01, 0x00, 0x80, 0x82, 0x88, 0x89, 0x8A]), st.integers(0, 255))
FRAMES = st.lists(
    st.one_of(st.sampled_from(DATA), st.binary(max_size=130)).flatmap(
        lambda data: st.builds(frame, FIRST, st.sampled_from([0x80, 0x80, 0x80, 0]), st.just(data))
    ),
    max_size=12,
).map(b"".join)


def frame(first: int, mask: int, data: bytes) -> bytes:
    """A frame with any first byte: final or not, reserved bits, any opcode. Its mask is zero, so data is as it is."""
    size = bytes([mask | len(data)]) if len(data) < 126 else bytes([mask | 126]) + len(data).to_bytes(2, "big")
    return bytes([first]) + size + b"\0\0\0\0" * bool(mask) + data


def check_frames(said: bytes) -> None:
    """Whole unmasked frames: text that is JSON, PINGs, PONGs, and a CLOSE as the last one."""
    while said:
        opcode, size = said[0] & 0x0F, said[1]
        start = 4 if size == 126 else 2
        size = int.from_bytes(said[2:4], "big") if size == 126 else size
        data, said = said[start : start + size], said[start + size :]
        assert len(data) == size
        if opcode == 1:
            assert json.loads(data)["type"] in ("hello", "health", "symbols", "book", "unknown")
        elif opcode == 8:
            assert said == b""
            assert data == b"" or int.from_bytes(data[:2], "big") >= 1000
        else:
            assert opcode in (9, 10)


def test_raw_bytes_after_the_upgrade_get_frames_or_a_closed_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with asyncio.Runner() as runner:
        server, viewers = server_of(Auth())
        runner.run(server.start())

        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        @given(stream=st.one_of(FRAMES, st.binary(max_size=200)), cut=st.integers(1, 400))
        def ask(stream: bytes, cut: int) -> None:
            pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
            head, _, frames = runner.run(raw(server.port, [HANDSHAKE, *pieces])).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            check_frames(frames)

        ask()
        assert runner.run(raw(server.port, [HANDSHAKE])).startswith(b"HTTP/1.1 101 ")
        runner.run(server.stop())
        assert not viewers.viewers
        assert not server.connections
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]
