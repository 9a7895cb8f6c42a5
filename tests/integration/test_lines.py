"""The lines' contract: both transports, on asyncio and uvloop, deliver the same frames from the same bytes."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
import time

import pytest

from tests.lines import on_both_loops, running, until
from tests.wire import BINARY, CONTINUATION, PING, PONG, TEXT, Peer, WireServer, close_frame, frame

MIB = 1 << 20


pytestmark = on_both_loops


def sending(*segments: bytes, behind: bytes = b""):
    """A script that upgrades, sends these segments and waits for the client to go."""

    async def script(peer: Peer) -> None:
        await peer.upgrade(behind=behind)
        for segment in segments:
            await peer.send(segment)
            await asyncio.sleep(0.005)  # apart: a read each
        await peer.wait_gone()

    return script


async def delivered(transport, recorder, script, count, **options):
    async with WireServer(script).running() as server, running(server.url, transport, recorder, **options) as stream:
        await until(lambda: len(recorder.frames) >= count or stream.reason is not None)
        return stream


async def test_split_segments(transport, recorder):
    texts = [f'{{"n":{i},"pad":"{"x" * (i * 7)}"}}'.encode() for i in range(30)]

    async def script(peer):
        await peer.upgrade()
        await peer.dribble(b"".join(map(frame, texts)))
        await peer.wait_gone()

    await delivered(transport, recorder, script, len(texts))
    assert recorder.frames == texts


async def test_frames_packed_behind_the_upgrade_and_in_one_segment(transport, recorder):
    texts = [b'{"n":%d}' % i for i in range(400)]
    script = sending(b"".join(map(frame, texts[1:])), behind=frame(texts[0]))
    await delivered(transport, recorder, script, len(texts))
    assert recorder.frames == texts


async def test_one_clock_a_read_and_a_flush_behind_it(transport, recorder):
    texts = [b"%d" % i for i in range(50)]
    await delivered(transport, recorder, sending(b"".join(map(frame, texts)), frame("next")), 51)
    stamps = recorder.recv_ns[:50]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) < 5, "400 bytes in one write are one read, or nearly"
    at = recorder.journal.index(b"next")
    assert recorder.journal[:at].count("flush") < 15, "one a read, more only when a read takes milliseconds"
    assert recorder.journal[at - 1 : at + 2] == ["flush", b"next", "flush"]
    assert recorder.recv_ns[50] > stamps[-1]


async def test_a_read_that_takes_long_is_flushed_on_the_way(transport, recorder):
    receive = recorder.receive

    def slow(line, text, recv_ns):
        receive(line, text, recv_ns)
        time.sleep(0.0004)

    recorder.receive = slow
    await delivered(transport, recorder, sending(b"".join(frame("x") for _ in range(60))), 60)
    runs = "".join("F" if entry == "flush" else "x" for entry in recorder.journal).split("F")
    assert sum(map(len, runs)) == 60
    assert max(map(len, runs)) <= 4, "1 ms is three of them"


async def test_ping_is_answered_and_does_not_swallow_the_flush(transport, recorder):
    answers = []

    async def script(peer):
        await peer.upgrade()
        await peer.send(frame("one") + frame(b"beat", PING) + frame("two") + frame(b"tail", PING))
        answers.extend([await peer.receive(), await peer.receive()])
        await peer.wait_gone()

    async with WireServer(script).running() as server, running(server.url, transport, recorder):
        await until(lambda: len(answers) == 2)
    assert answers == [(PONG, b"beat"), (PONG, b"tail")]
    assert recorder.frames == [b"one", b"two"]
    assert recorder.journal[-1] == "flush"


async def test_fragments(transport, recorder):
    script = sending(
        frame("ab", fin=False) + frame(b"beat", PING) + frame("cd", CONTINUATION, fin=False),
        frame("", CONTINUATION) + frame("whole"),
        frame("", fin=False) + frame("late", CONTINUATION),
    )
    await delivered(transport, recorder, script, 3)
    assert recorder.frames == [b"abcd", b"whole", b"late"]


async def test_empty_binary_and_huge_frames(transport, recorder):
    huge = bytes(range(256)) * (5 * 4096)  # 5 MiB
    await delivered(
        transport, recorder, sending(frame(""), frame(b"\x00\xff", BINARY), frame(huge) + frame("after")), 4
    )
    assert recorder.frames[:2] == [b"", b"\x00\xff"]
    assert hashlib.sha256(recorder.frames[2]).digest() == hashlib.sha256(huge).digest()
    assert recorder.frames[3] == b"after"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"x")[:1] + b"\x7f" + (17 * MIB).to_bytes(8, "big") + b"x" * 100_000, 1009),
        (frame(b"x" * (16 * MIB), fin=False) + frame(b"x", CONTINUATION), 1009),
        (frame("lost", CONTINUATION), 1002),
        (frame("a", fin=False) + frame("b", TEXT), 1002),
        (frame("packed", rsv=4), 1002),
        (frame("odd", opcode=3), 1002),
        (frame(b"big" * 60, PING), 1002),
    ],
    ids=[
        "too-large",
        "too-large-in-fragments",
        "continuation-first",
        "text-in-fragments",
        "rsv1",
        "opcode",
        "long-ping",
    ],
)
async def test_bytes_that_the_protocol_forbids(transport, recorder, data, code):
    told = []

    async def bad(peer):
        await peer.upgrade(behind=frame("good"))
        await peer.send(data)
        told.append(await peer.receive_close())
        await peer.wait_gone()

    async with (
        WireServer(bad, sending(frame("healed"))).running() as server,
        running(server.url, transport, recorder) as stream,
    ):
        await until(lambda: b"healed" in recorder.frames)
        assert stream.reconnects == {"protocol": 1}
    assert [text for text in recorder.frames if text != b"good"] == [b"healed"]
    assert told == [code]


@pytest.mark.parametrize(
    ("data", "reason", "echo"),
    [
        (close_frame(1000), "closed", 1000),
        (close_frame(1001, "going away"), "closed", 1001),
        (close_frame(1008, "too many messages"), "policy", 1008),
        (close_frame(1013), "close_code", 1013),
    ],
    ids=["1000", "1001", "1008", "1013"],
)
async def test_close_is_answered_and_leads_to_a_new_line(transport, recorder, data, reason, echo):
    told = []

    async def closing(peer):
        await peer.upgrade()
        await peer.send(frame("last") + data)
        told.append(await peer.receive_close())

    async with (
        WireServer(closing, sending(frame("first"))).running() as server,
        running(server.url, transport, recorder) as stream,
    ):
        await until(lambda: b"first" in recorder.frames)
        assert stream.reconnects == {reason: 1}
        assert str(echo) in stream.last_error
        assert stream.frames == 2
        assert stream.is_connected
    assert told == [echo]
    assert recorder.frames == [b"last", b"first"]
    assert len(recorder.opened) == 2


async def test_close_without_a_code(transport, recorder):
    async with (
        WireServer(sending(frame("", 8)), sending(frame("x"))).running() as server,
        running(server.url, transport, recorder) as stream,
    ):
        await until(lambda: recorder.frames == [b"x"])
        assert stream.reconnects == {"closed": 1}


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "fin"])
async def test_end_without_a_close_handshake(transport, recorder, is_reset):
    async def ending(peer):
        await peer.upgrade(behind=frame("a"))
        await peer.send(frame("half a frame")[:5])
        await asyncio.sleep(0.02)
        if is_reset:
            peer.reset()

    async with (
        WireServer(ending, sending(frame("b"))).running() as server,
        running(server.url, transport, recorder) as stream,
    ):
        await until(lambda: b"b" in recorder.frames)
        assert stream.reconnects == {"reset": 1}
    assert recorder.frames == [b"a", b"b"]


async def test_receiver_and_sinks_that_fail_do_not_end_the_line(transport, recorder, caplog):
    caplog.set_level(logging.ERROR)
    receive = recorder.receive

    def failing(line, text, recv_ns):
        receive(line, text, recv_ns)
        raise ValueError("receiver")

    def no_flush():
        raise ValueError("flush")

    recorder.receive = failing
    await delivered(transport, recorder, sending(frame("a"), frame("b") + frame("c")), 3, flush=no_flush)
    assert recorder.frames == [b"a", b"b", b"c"]
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "the receiver failed" in said
    assert "the sinks could not be flushed" in said


async def test_mutated_bytes_never_end_the_line(transport, recorder):
    """Whatever bytes come: frames are delivered or the connection is given up, and the next one serves."""
    rng = random.Random(7)
    whole = b"".join(
        (frame("plain"), frame(b"beat", PING), frame("ab", fin=False), frame("cd", CONTINUATION), frame(b"y" * 300))
    )

    def mutated():
        data = bytearray(whole + close_frame(1001, "bye"))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data[: rng.randrange(1, len(data) + 1)])

    def wrecking(data):
        async def script(peer):
            await peer.upgrade(behind=data[: len(data) // 2])
            await peer.send(data[len(data) // 2 :])

        return script

    unhandled = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    scripts = [wrecking(mutated()) for _ in range(60)]
    options = {"reconnect_delay_ms": 0, "max_reconnect_delay_ms": 0}
    async with (
        WireServer(*scripts, sending(frame("healed"))).running() as server,
        running(server.url, transport, recorder, **options) as stream,
    ):
        await until(lambda: b"healed" in recorder.frames, 30)
        assert stream.reconnects.total() == 60
        assert set(stream.reconnects) <= {"protocol", "reset", "closed", "close_code", "policy"}
    gc.collect()  # an exception that nobody fetched would be told now
    assert not unhandled
