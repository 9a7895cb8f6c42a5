"""The reply path of the Redis sink: whatever a server says, the sink goes on, in bounded memory, without a traceback.

The rule: a reply is counted, or the connection is ended with a reason. Nothing else ever happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdfeed._resp import NOTHING
from mdfeed.redis_link import MAX_REPLY_BYTES, Link
from mdfeed.sinks import redis as sink_module
from mdfeed.sinks.redis import MAX_CODES, RedisSink


class Wire:
    """Stands for the transport."""

    is_aborted = False

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def write(self, data: bytes) -> None:
        assert data

    def abort(self) -> None:
        self.is_aborted = True


def link_of(outstanding: int) -> tuple[Link, Wire]:
    sink = RedisSink("redis://u:hunter2@h", None, epoch=1)
    link, wire = Link(sink, 1 << 20, sink._ledger), Wire()
    link.connection_made(wire)  # type: ignore[arg-type]
    if outstanding:
        link.send(b"x", bytes((NOTHING,)) * outstanding)
    return link, wire


HOSTILE = [
    b"$536870912\r\n" + b"x" * 100,
    b"*1000000000\r\n",
    b"*100000\r\n" * 40,
    b"+OK\r\n*2147483647\r\n",
    b"%400000000\r\n",
    b">3\r\n",
    b"~9\r\n",
    b"-",
    b"-READONLY\r\n",
    b"-NOAUTH\r\n",
    b"-\xff\xfe\r\n",
    b"-ERR " + b"A" * 5000 + b"\r\n",
    b"$-9\r\n",
    b":99999999999999999999999\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\x00" * 64,
]
USUAL = [b"+OK\r\n", b":1\r\n", b"$3\r\n1-0\r\n", b"\r\n"]
PIECES = st.lists(st.one_of(st.sampled_from(HOSTILE), st.sampled_from(USUAL), st.binary(max_size=40)), max_size=30)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=PIECES, cuts=st.integers(1, 50), outstanding=st.integers(0, 40))
def test_any_bytes_are_counted_or_end_the_connection(pieces: list[bytes], cuts: int, outstanding: int) -> None:
    async def scenario() -> None:
        link, wire = link_of(outstanding)
        said = b"".join(pieces)
        for at in range(0, len(said), cuts):
            if link.closed.done():
                break
            link.data_received(said[at : at + cuts])
        assert wire.is_aborted == link.closed.done()
        assert 0 <= link.outstanding <= outstanding or link.closed.done()
        if link.closed.done():
            assert link.closed.result()

    asyncio.run(scenario())


@pytest.mark.parametrize("start", [b"$536870912\r\n", b"-", b"+", b":", b"$"])
def test_a_reply_without_end_ends_the_connection(start: bytes) -> None:
    async def scenario() -> int:
        link, _ = link_of(1)
        link.data_received(start)
        fed = 0
        while not link.closed.done():
            link.data_received(b"1" * 65536)
            fed += 65536
            assert fed <= MAX_REPLY_BYTES + 65536
        return fed

    assert asyncio.run(scenario()) > 0


def test_invented_error_codes_do_not_fill_memory_or_metrics() -> None:
    async def scenario() -> RedisSink:
        link, _ = link_of(10_000)
        for number in range(10_000):
            code = "".join(chr(65 + int(digit)) for digit in str(number))
            link.data_received(f"-X{code} {'y' * 50_000 if number % 1000 == 0 else ''}\r\n".encode())
        assert isinstance(link._owner, RedisSink)
        return link._owner

    sink = asyncio.run(scenario())
    counters = sink.counters()
    assert len(counters["errors"]) <= MAX_CODES + 1
    assert sum(counters["errors"].values()) == 10_000
    assert len(counters["last_error"]) <= 500
    assert len(sink._said) <= 51


@asynccontextmanager
async def hostile_server(said: bytes) -> AsyncIterator[int]:
    """Answers the handshake as Redis does, then says `said` over and over."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1 << 16)
            writer.write(b"+OK\r\n+PONG\r\n" if said != b"silent" else b"")
            for _ in range(50):
                writer.write(said)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("said", HOSTILE, ids=lambda said: repr(said[:16]))
async def test_the_sink_outlives_a_hostile_server(
    said: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "FIRST_RETRY_S", 0.01)
    caplog.set_level(logging.DEBUG)
    async with hostile_server(said) as port:
        sink = RedisSink(f"redis://127.0.0.1:{port}", None, epoch=1, reply_timeout_s=0.2)
        task = asyncio.create_task(sink.run())
        await asyncio.sleep(0.4)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sink.close(0.1)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert len([record for record in caplog.records if record.name.startswith("mdfeed")]) < 30
