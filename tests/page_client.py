"""A client of the page's WebSocket for tests: upgrades, frames byte by byte, and waiting for a message."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.http_rig import Rig

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}


async def status_of(
    port: int, headers: dict[str, str], method: str = "GET", version: str = "1.1", tls: ssl.SSLContext | None = None
) -> int:
    """The status of one request to /ws."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    lines = [f"{method} /ws HTTP/{version}", f"Host: 127.0.0.1:{port}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        async with asyncio.timeout(10):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


async def told(page: ClientConnection, kind: str, **fields: Any) -> dict[str, Any]:
    """The next message of that type and with these fields; others are passed over."""
    async with asyncio.timeout(20):
        while True:
            message = json.loads(await page.recv())
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return dict(message)


async def closed(page: ClientConnection) -> int:
    """The code that the other side closes with."""
    async with asyncio.timeout(20):
        try:
            while True:
                await page.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else 1006


def look_on(rig: Rig) -> connect:
    return connect(f"ws://127.0.0.1:{rig.port}/ws", proxy=None)


async def raw_upgrade(rig: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    lines = [
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}",
        *(f"{name}: {value}" for name, value in UPGRADE.items()),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def masked(opcode: int, data: bytes, is_last: bool = True) -> bytes:
    key = b"\x12\xf4\x56\x9a"
    body = bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
    return bytes([0x80 * is_last | opcode, 0x80 | len(data)]) + key + body
