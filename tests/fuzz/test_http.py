"""Raw bytes at the HTTP port: a well-formed answer or a closed line, never a traceback, never a server that is gone.

The rule: each answer is one of the known statuses with its length stated truly; and afterwards the server still
answers the next one.
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

from mdfeed import http as http_module
from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed.api import PREFIX, Api
from mdfeed.exposition import Exposition
from mdfeed.gate import Gate
from mdfeed.http import HttpServer
from mdfeed.metrics import FeedCollector
from mdfeed.settings import Auth

TOKEN = "sesame-sesame-12"
STATUSES = {200, 400, 401, 404, 405, 408, 431, 503, 505}
WORDS = st.sampled_from(
    [
        *(b"GET ", b"HEAD ", b"POST ", b"OPTIONS * ", b"CONNECT ", b"/health", b"/ready", b"/metrics", b"/ws"),
        *(PREFIX.encode(), b"/orderbook/BTCUSDT", b"/trades/", b"/ticker/../x", b"/%2e", b"?q=%00", b" HTTP/1.1"),
        *(b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"Host: x", b"Content-Length: 3"),
        *(b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked", b"Expect: 100-continue"),
        *(b"Connection: close", b"Connection: keep-alive", b"Upgrade: websocket", b"Authorization: Basic "),
        *(b"Authorization: Bearer ", TOKEN.encode(), b"b3BzOnB3", b"0\r\n\r\n", b"\x00", b"\xff\xfe", b" "),
        *(b"\x16\x03\x01", b"a" * 3000, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"),
    ]
)
STREAM = st.lists(st.one_of(WORDS, st.binary(max_size=30)), max_size=25).map(b"".join)


def check_answers(said: bytes) -> None:
    """Every answer in `said` is whole (HEAD's have no body), or the line was cut in the last one's body."""
    for match in re.finditer(rb"HTTP/1\.1 (\d{3}) [^\r\n]+\r\n((?:[^\r\n]+\r\n)+)\r\n", said):
        assert int(match[1]) in STATUSES, match[0]
        assert b"Content-Length: " in match[2]
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


@pytest.mark.parametrize(
    "auth", [Auth(), Auth(token="sesame-sesame-12", user="ops", password="pw")], ids=["open", "auth"]
)
def test_raw_bytes_get_an_answer_or_a_closed_line(
    auth: Auth, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: dict[str, float] = {**http_module.PHASE_S, "head": 0.5, "body": 0.5, "idle": 0.5, "linger": 0.2}
    monkeypatch.setattr(http_module, "PHASE_S", phases)
    caplog.set_level(logging.INFO)
    with asyncio.Runner() as runner:
        feed = Feed(venues.get("binance-usdm"))
        feed.add("BTCUSDT", 1, 3)

        def say(status: int) -> Any:
            return lambda: (status, {"status": "x"})

        server = HttpServer(
            "127.0.0.1", 0, health=say(200), ready=say(503), metrics=Exposition(FeedCollector(feed)).render,
            api=Api(feed, 20), gate=Gate(auth),
        )  # fmt: skip
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
