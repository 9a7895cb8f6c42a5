"""The nginx example in a running nginx: TLS, password, limits, what is open without one, and the page's WebSocket.

The daemon's place is taken by a small server that tells what reached it, so that what nginx passes on can be seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from tests.http_rig import rig_of

CONF = Path(__file__).parents[2] / "deploy/nginx/mdfeed.conf"
PASSWORD = "Basic b3BzOnBhc3M="  # ops:pass

pytestmark = [
    pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl"),
    pytest.mark.skipif(not shutil.which("curl"), reason="needs curl"),
]


@dataclass
class Front:
    """A running nginx: where it listens, and its certificate."""

    https: int
    http: int
    certificate: Path

    def curl(self, path: str, *options: str) -> tuple[int, dict[str, Any]]:
        """(status, JSON body or {})."""
        url = f"https://localhost:{self.https}{path}"
        command = ["curl", "-s", "-4", "--max-time", "5", "--cacert", self.certificate, "-w", "\n%{http_code}"]
        said = subprocess.run([*command, *options, url], capture_output=True, text=True, check=False).stdout
        body, _, status = said.rpartition("\n")
        return int(status), json.loads(body) if body.startswith("{") else {}


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    """A server that answers GET with what it was asked, and sends back what comes to /ws."""

    def tell(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/ws":
            return None
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        return connection.respond(HTTPStatus.OK, json.dumps({"path": request.path, "headers": headers}))

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    loop, ready = asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []

    async def run() -> None:
        async with serve(echo, "127.0.0.1", 0, process_request=tell) as server:
            ports.append(next(iter(server.sockets)).getsockname()[1])
            ready.set()
            await stopped.wait()

    stopped = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(10)
    yield ports[0]
    loop.call_soon_threadsafe(stopped.set)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def front(backend: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with nginx_before(backend, tmp_path_factory.mktemp("nginx")) as front:
        yield front


@contextmanager
def nginx_before(backend: int, folder: Path) -> Iterator[Front]:
    """The shipped configuration with this machine's ports and a certificate, in a running nginx."""
    folder.chmod(0o755)
    certificate, key, passwords = folder / "cert.pem", folder / "key.pem", folder / "htpasswd"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*new, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    digest = subprocess.run(["openssl", "passwd", "-apr1", "pass"], check=True, capture_output=True, text=True).stdout
    passwords.write_text(f"ops:{digest}")
    https, http = free_ports(2)
    text = CONF.read_text()
    for ours, theirs in (
        ("/etc/ssl/certs/mdfeed.pem", certificate),
        ("/etc/ssl/private/mdfeed.key", key),
        ("/etc/nginx/mdfeed.htpasswd", passwords),
        ("server 127.0.0.1:8080;", f"server 127.0.0.1:{backend};"),
        ("listen 80;", f"listen 127.0.0.1:{http};"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{https} ssl http2;"),
        ("    listen [::]:80;\n", ""),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("server_name mdfeed.example.net;", "server_name localhost;"),
    ):
        assert ours in text, f"{ours} is not in the shipped file any more"
        text = text.replace(ours, str(theirs))
    (folder / "mdfeed.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Started by root, its workers would be somebody who cannot see into the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{ access_log off; {temporary} include {folder}/mdfeed.conf; }}\n"
    )
    command = ["nginx", "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    judged = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    if "unknown directive" in judged.stderr and "limit_" in judged.stderr:
        pytest.skip(f"this nginx was built without a module: {judged.stderr}")
    assert judged.returncode == 0, judged.stderr
    assert "[warn]" not in judged.stderr
    running = subprocess.Popen(command)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", https)) == 0:
                    break
            time.sleep(0.05)
        yield Front(https, http, certificate)
    finally:
        running.terminate()
        running.wait(10)


def test_password_is_asked(front: Front) -> None:
    assert front.curl("/")[0] == 401
    assert front.curl("/api/v1/market-data/symbols")[0] == 401
    assert front.curl("/", "-u", "ops:wrong")[0] == 401
    status, seen = front.curl("/ready", "-u", "ops:pass")
    assert (status, seen["path"]) == (200, "/ready")


def test_daemon_sees_who_asks_but_not_the_password(front: Front) -> None:
    headers = front.curl("/", "-u", "ops:pass", "-H", "X-Forwarded-For: 6.6.6.6")[1]["headers"]
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "https"
    assert "authorization" not in headers


def test_health_is_open_and_metrics_only_to_this_machine(front: Front) -> None:
    assert front.curl("/health")[0] == 200
    assert front.curl("/metrics")[0] == 200
    elsewhere = ["--interface", "127.0.0.2"]
    assert front.curl("/metrics", *elsewhere)[0] == 403
    assert front.curl("/metrics", *elsewhere, "-u", "ops:pass")[0] == 403
    assert front.curl("/health", *elsewhere)[0] == 200


def test_plain_http_is_sent_to_tls(front: Front) -> None:
    command = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{redirect_url}",
        f"http://127.0.0.1:{front.http}/a?b=1",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert said == "301 https://127.0.0.1/a?b=1"


@pytest.mark.parametrize(("version", "is_served"), [("1.1", False), ("1.2", True), ("1.3", True)])
def test_old_tls_is_refused(front: Front, version: str, is_served: bool) -> None:
    status, _ = front.curl("/health", f"--tlsv{version}", "--tls-max", version, "--ciphers", "DEFAULT@SECLEVEL=0")
    assert (status == 200) is is_served


def test_body_is_limited_and_not_passed_on(front: Front) -> None:
    assert front.curl("/", "-u", "ops:pass", "-d", "x" * 2000)[0] == 413
    headers = front.curl("/", "-u", "ops:pass", "-X", "GET", "-d", "x" * 10)[1]["headers"]
    assert headers.get("content-length", "0") == "0"


def test_security_headers(front: Front) -> None:
    said = subprocess.run(
        ["curl", "-s", "-i", "--cacert", front.certificate, f"https://localhost:{front.https}/"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.lower()
    for header in (
        "strict-transport-security: max-age=31536000",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
    ):
        assert header in said
    assert "server: nginx\n" in said.replace("\r", "")


async def test_websocket_passes_with_the_password_only(front: Front) -> None:
    trust = ssl.create_default_context(cafile=str(front.certificate))
    url = f"wss://localhost:{front.https}/ws"
    async with connect(url, ssl=trust, additional_headers={"Authorization": PASSWORD}) as page:
        await page.send("BTCUSDT")
        assert await page.recv() == "BTCUSDT"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, ssl=trust)
    assert refused.value.response.status_code == 401


async def test_the_page_and_its_data_come_through(tmp_path: Path) -> None:
    """The real thing behind it, its origin check included: Host must reach it as the browser said it."""
    async with rig_of() as rig:
        with nginx_before(rig.port, tmp_path) as front:
            trust = ssl.create_default_context(cafile=str(front.certificate))
            own = f"https://localhost:{front.https}"
            said = await asyncio.to_thread(
                subprocess.run,
                ["curl", "-s", "-i", "-u", "ops:pass", "--cacert", front.certificate, f"{own}/"],
                capture_output=True,
                text=True,
            )
            head, _, body = said.stdout.replace("\r", "").lower().partition("\n\n")
            assert "content-security-policy: default-src 'none'" in head
            for name in ("x-content-type-options", "x-frame-options", "etag", "cache-control"):
                assert head.count(f"\n{name}:") == 1, name
            assert body.startswith("<!doctype html>")
            headers = {"Authorization": PASSWORD}
            url = own.replace("https", "wss") + "/ws"
            async with connect(url, ssl=trust, additional_headers=headers, origin=own, proxy=None) as page:
                await page.send('{"subscribe": ["BTCUSDT"]}')
                async with asyncio.timeout(20):
                    while (message := json.loads(await page.recv()))["type"] != "book":
                        pass
                assert message["bids"] == [["61800.1", "2.5"]]
            for origin in ("https://elsewhere.example.net", "https://localhost"):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(url, ssl=trust, additional_headers=headers, origin=origin, proxy=None)
                assert refused.value.response.status_code == 403


def test_a_loop_without_a_pause_is_held_back(front: Front) -> None:
    """Last: it uses up this address's allowance."""
    asked = 120
    many = ["curl", "-s", "--cacert", front.certificate, "-o", "/dev/null", "-w", "%{http_code}\n"]
    many += ["--interface", "127.0.0.3"]
    url = f"https://localhost:{front.https}/health?[1-{asked}]"
    statuses = subprocess.run([*many, url], capture_output=True, text=True, check=False).stdout.split()
    assert len(statuses) == asked
    assert set(statuses) == {"200", "429"}
    assert statuses.count("200") >= 40  # the burst
