"""/ws under viewers that say nonsense, do not read, do not answer, or are too many; and what nobody's looking costs."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
import uvloop
from websockets.exceptions import InvalidStatus

from mdfeed import viewers as viewers_module
from tests.http_rig import advance, rig_of
from tests.page_client import UPGRADE, closed, look_on, masked, raw_upgrade, told


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x00\x01", 1003),
        ("", 1007),
        ("BTCUSDT", 1007),
        ("[]", 1007),
        ('{"subscribe": "BTCUSDT"}', 1007),
        ('{"subscribe": [1]}', 1007),
        ('{"subscribe": [], "more": 1}', 1007),
        ('{"subscribe": ' + "[" * 900 + "}", 1007),
        (json.dumps({"subscribe": [f"S{i}" for i in range(9)]}), 1008),
        (json.dumps({"subscribe": ["B" * 1100]}), 1009),
    ],
)
async def test_a_message_that_is_none_ends_the_line(message: str | bytes, code: int) -> None:
    async with rig_of() as rig, look_on(rig) as page:
        await page.send(message)
        assert await closed(page) == code
        async with look_on(rig) as other:
            await told(other, "hello")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\x81\x02{}", 1002),  # not masked
        (b"\xf1\x80abcd", 1002),  # reserved bits
        (b"\x83\x80abcd", 1002),  # reserved opcode
        (masked(0, b"x"), 1002),  # a continuation of nothing
        (masked(1, b'{"subscribe": ["\xff"]}'), 1007),
        (masked(1, b"\xff", is_last=False) + masked(0, b"\xfe"), 1007),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009),
        (masked(9, b"") * 30, 1008),
        (masked(1, b"", is_last=False) + masked(0, b"", is_last=False) * 30, 1008),
    ],
)
async def test_bytes_that_are_no_websocket_end_the_line(said: bytes, code: int) -> None:
    async with rig_of() as rig:
        reader, writer = await raw_upgrade(rig)
        writer.write(said)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        assert b"\x88" in answer
        closing = answer[answer.rindex(b"\x88") :]
        assert int.from_bytes(closing[2:4], "big") == code
        while rig.viewers.viewers:
            await asyncio.sleep(0.01)


async def test_fragments_and_pings_are_understood() -> None:
    async with rig_of() as rig:
        reader, writer = await raw_upgrade(rig)
        writer.write(masked(1, b'{"subscribe"', is_last=False) + masked(9, b"hi") + masked(0, b':["BTCUSDT"]}'))
        async with asyncio.timeout(20):
            await reader.readuntil(b"\x8a\x02hi")
            await reader.readuntil(b'"type":"book"')
        writer.write(masked(8, b"\x03\xe8"))
        async with asyncio.timeout(20):
            assert (await reader.read()).endswith(b"\x88\x02\x03\xe8")
        writer.close()


async def test_who_does_not_read_is_skipped_then_cut_and_nobody_else_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers_module, "TICK_S", 0.002)
    monkeypatch.setattr(viewers_module, "BEHIND_S", 1.0)
    async with rig_of() as rig, look_on(rig) as page:
        await page.send('{"subscribe": ["BTCUSDT"]}')
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", rig.port))
        lines = [f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}", *(f"{k}: {v}" for k, v in UPGRADE.items())]
        await asyncio.get_running_loop().sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode())
        await asyncio.get_running_loop().sock_sendall(sock, masked(1, b'{"subscribe":["BTCUSDT"]}'))
        while len(rig.viewers.viewers) < 2:
            await asyncio.sleep(0.01)
        slow = list(rig.viewers.viewers)[-1]
        most, last_id = 0, 10
        async with asyncio.timeout(60):
            while slow in rig.viewers.viewers:
                last_id += 1
                advance(rig, last_id, [["61800.10", f"{last_id}.5"]])
                most = max(most, slow.transport.get_write_buffer_size())
                await asyncio.sleep(0.001)
        assert 0 < most < 2 * viewers_module.BACKLOG_BYTES
        sock.close()
        advance(rig, last_id + 1, [["61800.10", "1"]])
        assert await told(page, "book", last_update_id=last_id + 1)


async def test_a_silent_peer_is_pinged_and_a_dead_one_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers_module, "PING_S", 0.1)
    monkeypatch.setattr(viewers_module, "SILENCE_S", 1.0)
    async with rig_of() as rig, look_on(rig) as page:
        reader, writer = await raw_upgrade(rig)
        async with asyncio.timeout(20):
            assert b"\x89\x00" in await reader.read()  # it is pinged, answers nothing, and is cut
        writer.close()
        await told(page, "health")  # this one answers
        assert len(rig.viewers.viewers) == 1


async def test_viewers_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers_module, "MAX_VIEWERS", 2)
    async with rig_of() as rig:
        async with look_on(rig) as one, look_on(rig) as other:
            await told(one, "hello")
            await told(other, "hello")
            with pytest.raises(InvalidStatus) as refused:
                await look_on(rig)
            assert refused.value.response.status_code == 503
        while len(rig.viewers.viewers) > 1:
            await asyncio.sleep(0.01)
        async with look_on(rig) as page:
            await told(page, "hello")


async def test_nothing_is_made_for_nobody_and_nothing_twice_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig_of() as rig:
        made = []
        renew, book = rig.view.renew, rig.view.book
        monkeypatch.setattr(rig.view, "renew", lambda now_s: (made.append("renew"), renew(now_s)))
        monkeypatch.setattr(rig.view, "book", lambda track, now_s: (made.append("book"), book(track, now_s))[1])
        advance(rig, 11, [["61800.10", "3"]])
        await asyncio.sleep(0.3)
        assert made == []
        pages = [await look_on(rig) for _ in range(5)]
        for page in pages:
            await page.send('{"subscribe": ["BTCUSDT"]}')
        while any(viewer.symbols == () for viewer in rig.viewers.viewers):
            await asyncio.sleep(0.01)
        for page in pages:
            await told(page, "book")
        made.clear()
        advance(rig, 12, [["61800.10", "4"]])
        for page in pages:
            await told(page, "book", last_update_id=12)
        renewals = made.count("renew")
        assert made.count("book") <= renewals
        for page in pages:
            await page.close()
        while rig.viewers.viewers or rig.viewers._timer is not None:
            await asyncio.sleep(0.01)
        made.clear()
        await asyncio.sleep(0.3)
        assert made == []
        assert not rig.view.books


async def test_an_end_in_order_says_so() -> None:
    async with rig_of() as rig:
        page = await look_on(rig)
        await told(page, "hello")
        stopping = asyncio.create_task(rig.server.stop())
        assert await closed(page) == 1001
        await stopping
        assert not rig.viewers.viewers


async def test_a_mistake_of_ours_ends_the_viewers_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig_of() as rig, look_on(rig) as page:
        monkeypatch.setattr(rig.view, "renew", lambda now_s: 1 / 0)
        assert await closed(page) == 1011
        assert caplog.text.count("what the page shows cannot be told") == 1


@pytest.mark.parametrize("scenario", [test_fragments_and_pings_are_understood, test_an_end_in_order_says_so])
def test_the_same_on_uvloop(scenario: Any) -> None:
    uvloop.run(scenario())
