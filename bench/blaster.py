"""A server that sends pre-framed WebSocket bytes to the first client, flat out or at a pace: a process of its own.

The simulated exchange thinks before it speaks; this one doesn't, so the client is what is measured. Prints its port,
then, when all is sent, one JSON line: the monotonic times (ns) of the first byte and of each frame's send when paced.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import socket
import struct
import sys
import time
from pathlib import Path

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def frame_text(payload: bytes) -> bytes:
    """An unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def accept_client(server: socket.socket) -> socket.socket:
    client, _ = server.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(65536)
    headers = dict(line.lower().split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    key = next(
        line.split(b": ", 1)[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    if headers.get(b"upgrade", b"").lower() != b"websocket":
        sys.exit("blaster: the client does not ask for a WebSocket")
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )
    return client


def send(client: socket.socket, frames: list[bytes], rate: float) -> tuple[int, list[int]]:
    """Sends all; `rate` is frames a second, 0: flat out. Monotonic ns of the start, and of each frame when paced."""
    started = time.monotonic_ns()
    if not rate:
        client.sendall(b"".join(frames))
        return started, []
    sent = []
    for index, frame in enumerate(frames):
        due = started + int(index * 1e9 / rate)
        while (wait := due - time.monotonic_ns()) > 0:
            time.sleep(wait / 1e9)
        sent.append(time.monotonic_ns())
        client.sendall(frame)
    return started, sent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path, help="one raw frame a line")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--settle", type=float, default=0.3, help="seconds between the handshake and the first byte")
    options = parser.parse_args()
    frames = [frame_text(line) for line in options.file.read_bytes().split(b"\n") if line]
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client = accept_client(server)
    time.sleep(options.settle)
    started, sent = send(client, frames, options.rate)
    client.sendall(struct.pack("!BBH", 0x88, 2, 1000))
    print(json.dumps({"started": started, "sent": sent}), flush=True)
    client.settimeout(60)
    while client.recv(65536):  # until the client has read everything and closes
        pass


if __name__ == "__main__":
    main()
