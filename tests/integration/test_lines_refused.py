"""Lines that can't be had or die quietly: refusals told apart, half-open sockets, TLS, subscriptions."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time

import pytest

from mdfeed.stream import Patience, Stream
from tests.lines import Plan, Recorder, Venue, on_both_loops, running, until
from tests.wire import PONG, TEXT, Peer, WireServer, certificate, frame

pytestmark = on_both_loops


async def serving(peer: Peer) -> None:
    await peer.upgrade(behind=frame("served"))
    await peer.wait_gone()


def answering(status: str, *fields: str, body: bytes = b"<html><b>go away</b></html>"):
    async def script(peer):
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields])
        await peer.send(head.encode() + b"\r\n\r\n" + body)
        await peer.wait_gone()

    return script


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("403 Forbidden", "forbidden"),
        ("451 Unavailable For Legal Reasons", "geo_blocked"),
        ("404 Not Found", "not_found"),
        ("418 I'm a teapot", "banned"),
        ("429 Too Many Requests", "rate_limited"),
        ("503 Service Unavailable", "server_error"),
        ("301 Moved Permanently", "http"),
    ],
)
async def test_refused_upgrades(transport, recorder, caplog, status, reason):
    script = answering(status, "Retry-After: 0.1", "Location: ws://127.0.0.1:1/")
    async with WireServer(script, serving).running() as server:
        begun = time.monotonic()
        async with running(server.url, transport, recorder) as stream:
            await until(lambda: recorder.frames == [b"served"])
            assert time.monotonic() - begun >= 0.1, "Retry-After is honoured"
            assert stream.reconnects == {reason: 1}
            assert stream.reason == reason
            assert status.split()[0] in stream.last_error
            assert "go away" in stream.last_error
            assert "<b>" not in stream.last_error
    assert len(recorder.opened) == 1, "no line is opened for a refusal"
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert stream.last_error in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize(
    "script",
    [answering("200 OK"), answering("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", body=b"")],
    ids=["200", "no-accept"],
)
async def test_an_answer_that_is_no_upgrade(transport, recorder, script):
    async with WireServer(script, serving).running() as server, running(server.url, transport, recorder) as stream:
        await until(lambda: recorder.frames == [b"served"])
        assert set(stream.reconnects) <= {"http", "handshake"}
        assert stream.reconnects.total() == 1


async def test_an_extension_that_was_not_offered(transport, recorder):
    async def forcing(peer):
        assert b"sec-websocket-extensions" not in peer.head.lower()
        await peer.upgrade(extra=b"Sec-WebSocket-Extensions: permessage-deflate\r\n", behind=frame("\x01\x02", rsv=4))
        await peer.wait_gone()

    async with WireServer(forcing, serving).running() as server, running(server.url, transport, recorder) as stream:
        await until(lambda: recorder.frames == [b"served"])
        assert stream.reconnects == {"handshake": 1}


async def test_an_upgrade_that_is_never_answered_and_one_too_late(transport, recorder):
    async def mute(peer):
        await peer.wait_gone()

    async def late(peer):
        await asyncio.sleep(0.3)
        await peer.upgrade(behind=frame("late"))
        await peer.wait_gone()

    patience = Patience(connect_s=0.2)
    async with (
        WireServer(mute, late, serving).running() as server,
        running(server.url, transport, recorder, patience=patience) as stream,
    ):
        await until(lambda: bool(recorder.frames))
        await asyncio.sleep(0.2)
        assert stream.reconnects == {"timeout": 2}
    assert recorder.frames == [b"served"]
    assert len(recorder.opened) == 1


async def test_closed_before_the_upgrade_and_nobody_there(transport, recorder):
    async def hanging_up(peer):
        peer.reset()

    async with (
        WireServer(hanging_up, serving).running() as server,
        running(server.url, transport, recorder) as stream,
    ):
        await until(lambda: recorder.frames == [b"served"])
        assert stream.reconnects == {"reset": 1}
    async with running(server.url, transport, Recorder()) as stream:
        await until(lambda: stream.reconnects["refused"] >= 3)
        assert set(stream.reconnects) == {"refused"}
        assert not stream.is_connected


async def test_half_open(transport, recorder):
    async def mute(peer):
        await peer.upgrade(behind=frame("one"))
        await asyncio.sleep(30)

    async with WireServer(mute, serving).running() as server:
        patience = Patience(silence_s=0.2)
        async with running(server.url, transport, recorder, patience=patience) as stream:
            await until(lambda: len(recorder.frames) == 2)
            assert stream.reconnects == {"silent": 1}
    assert recorder.frames == [b"one", b"served"]


async def test_a_quiet_line_that_answers_pings_stays(transport, recorder):
    pings = []

    async def quiet(peer):
        await peer.upgrade()
        while True:
            opcode, payload = await peer.receive()
            pings.append(opcode)
            await peer.send(frame(payload, PONG))

    async with WireServer(quiet).running() as server:
        patience = Patience(silence_s=0.2)
        async with running(server.url, transport, recorder, patience=patience) as stream:
            await until(lambda: len(pings) >= 5)
            assert stream.is_connected
            assert not stream.reconnects


@pytest.mark.parametrize("case", ["trusted", "unknown", "wrong host"])
async def test_tls(transport, recorder, tmp_path, case):
    context, path = certificate(tmp_path, "DNS:elsewhere.test" if case == "wrong host" else "IP:127.0.0.1")
    trust = None if case == "unknown" else ssl.create_default_context(cafile=str(path))
    async with (
        WireServer(serving).running(context) as server,
        running(server.url, transport, recorder, ssl_context=trust) as stream,
    ):
        if case == "trusted":
            await until(lambda: recorder.frames == [b"served"])
            assert not stream.reconnects
            return
        await until(lambda: stream.reconnects["tls"] >= 2)
        assert "not trusted" in stream.last_error
    assert not recorder.opened


async def test_subscribing_is_paced_and_refusals_are_told(transport, recorder, caplog):
    heard = []

    async def script(peer):
        await peer.upgrade()
        for answer in ('{"result":null,"id":1}', '{"id":2,"error":{"code":2,"msg":"Invalid request: no such stream"}}'):
            message = await peer.receive()
            heard.append((time.monotonic(), message))
            await peer.send(frame(answer))
        await peer.send(frame('{"stream":"a@x","data":{}}'))
        await peer.wait_gone()

    async with WireServer(script).running() as server:
        plan = Plan(server.url, streams=("a@x",), late_streams=("c@x", "d@x", "e@x"))
        patience = Patience(messages_per_s=8)
        async with running(server.url, transport, recorder, plan=plan, patience=patience) as stream:
            await until(lambda: len(recorder.frames) == 3)
            assert stream.last_error == "subscription refused: 2 Invalid request: no such stream"
            assert stream.refused_streams.total() == 1
            assert stream.is_connected
    assert [message for _, message in heard] == [(TEXT, b"SUBSCRIBE 1 c@x d@x"), (TEXT, b"SUBSCRIBE 2 e@x")]
    assert heard[1][0] - heard[0][0] >= 0.1
    assert recorder.opened[0][2] == ("a@x", "c@x", "d@x", "e@x")
    assert sum("no such stream" in record.getMessage() for record in caplog.records) == 1


async def test_streams_without_a_first_message_are_reported(transport, recorder, caplog):
    caplog.set_level(logging.INFO)

    async def script(peer):
        await peer.upgrade(behind=frame('{"stream":"a@x","data":{}}') * 3)
        await asyncio.sleep(0.3)
        await peer.send(frame('{"data":{"s":"b@x"},"stream":"b@x"}'))
        await peer.wait_gone()

    async with (
        WireServer(script).running() as server,
        running(server.url, transport, recorder, patience=Patience(first_message_s=0.1)) as stream,
    ):
        await until(lambda: stream.silent_streams == ("b@x",))
        await until(lambda: stream.silent_streams == ())
        assert not stream.reconnects
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "first message" in text] == [
        "line public-0: connected, but without a first message: b@x"
    ]
    assert "line public-0: every stream has shown a message" in said


async def test_a_stop_sends_close(transport, recorder):
    codes = []

    async def polite(peer):
        await peer.upgrade(behind=frame("x"))
        codes.append(await peer.receive_close())

    async with WireServer(polite).running() as server:
        async with running(server.url, transport, recorder):
            await until(lambda: recorder.frames == [b"x"])
        await until(lambda: codes == [1000])


async def test_a_stop_in_the_turn_of_the_upgrade_leaves_no_socket(transport):
    ends = []

    async def polite(peer):
        await peer.upgrade(behind=frame("x"))
        ends.append(await peer.receive_close())

    class Impatient(Recorder):
        def receive(self, line, text, recv_ns):
            task.cancel()  # dial() has not returned yet

    recorder = Impatient()
    async with WireServer(polite).running() as server:
        stream = Stream(Plan(server.url), Venue(), recorder, flush=recorder.flush, transport=transport)
        task = asyncio.create_task(stream.run())
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await until(lambda: bool(ends))
    assert recorder.lost_lines == [7]
