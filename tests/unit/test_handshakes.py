"""mdfeed.handshakes under an HttpServer, on asyncio and on uvloop: half-open TLS is bounded, and harms nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mdfeed import handshakes
from mdfeed import http as http_module
from mdfeed.handshakes import TlsServer
from mdfeed.http import HttpServer
from tests.wire import certificate

HELLO = b"\x16\x03\x01\x02\x00\x01"  # the beginning of a client's first message
ASK = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Scenario = Callable[[HttpServer, ssl.SSLContext], Awaitable[None]]


async def with_server(folder: Path, scenario: Scenario) -> None:
    context, cert = certificate(folder, "IP:127.0.0.1")
    answer = 200, {"status": "healthy"}
    server = HttpServer("127.0.0.1", 0, health=lambda: answer, ready=lambda: answer, metrics=rendered, tls=context)
    await server.start()
    try:
        await scenario(server, ssl.create_default_context(cafile=str(cert)))
    finally:
        await server.stop()
    await until(lambda: under_way(server) == 0 and not server.connections)


async def rendered() -> bytes:
    return b""


def under_way(server: HttpServer) -> int:
    assert isinstance(server._server, TlsServer)
    return len(server._server.under_way)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def half_open(server: HttpServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HELLO)
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


async def ask(server: HttpServer, client: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
    writer.write(ASK)
    async with asyncio.timeout(10):
        said = await reader.read()
    writer.close()
    return said.partition(b"\r\n")[0]


@RUNNERS
def test_half_open_handshakes_are_bounded_in_number_and_the_oldest_makes_room(
    run: Callable[[Awaitable[None]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "MAX_CONNECTIONS", 32)  # 28 connections, 4 handshakes

    async def scenario(server: HttpServer, client: ssl.SSLContext) -> None:
        assert server.max_connections == 28
        lines = []
        for number in range(10):
            lines.append(await half_open(server))
            await until(lambda number=number: under_way(server) == min(number + 1, 4))
        for reader, _ in lines[:6]:
            await ended(reader)
        assert await ask(server, client) == b"HTTP/1.1 200 OK"  # it pushes one out, and is through
        await ended(lines[6][0])
        await until(lambda: under_way(server) == 3)
        for _, writer in lines:
            writer.close()
        await until(lambda: under_way(server) == 0)

    run(with_server(tmp_path, scenario))


@RUNNERS
def test_a_handshake_has_its_time_and_a_stop_does_not_wait_for_it(
    run: Callable[[Awaitable[None]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.3)

    async def scenario(server: HttpServer, client: ssl.SSLContext) -> None:
        await ended((await half_open(server))[0])
        silent, _ = await asyncio.open_connection("127.0.0.1", server.port)
        await ended(silent)
        plain, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ASK)
        async with asyncio.timeout(10):
            await plain.read()
        await until(lambda: under_way(server) == 0)
        monkeypatch.setattr(handshakes, "HANDSHAKE_S", 60.0)
        await half_open(server)
        await until(lambda: under_way(server) == 1)

    run(with_server(tmp_path, scenario))


@RUNNERS
def test_a_request_in_one_piece_with_the_handshakes_end_is_answered(
    run: Callable[[Awaitable[None]], None], tmp_path: Path
) -> None:
    async def scenario(server: HttpServer, client: ssl.SSLContext) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(1 << 16))
        tls.write(ASK)
        writer.write(outgoing.read())
        said = b""
        while b"healthy" not in said:
            try:
                said += tls.read(1 << 16)
            except ssl.SSLWantReadError:
                piece = await reader.read(1 << 16)
                assert piece, said
                incoming.write(piece)
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()

    run(with_server(tmp_path, scenario))


@RUNNERS
def test_clients_that_leave_in_the_middle_leave_nothing(run: Callable[[Awaitable[None]], None], tmp_path: Path) -> None:
    async def scenario(server: HttpServer, client: ssl.SSLContext) -> None:
        for _ in range(20):
            _, writer = await half_open(server)
            writer.transport.abort()
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
            writer.transport.abort()
        await until(lambda: under_way(server) == 0 and not server.connections)

    run(with_server(tmp_path, scenario))
