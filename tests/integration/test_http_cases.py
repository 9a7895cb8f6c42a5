"""Every path, method, credential and TLS case of the contract's HTTP, asked by http.client and by curl."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mdfeed import handshakes
from mdfeed.api import PREFIX
from mdfeed.config import Config, load_config
from mdfeed.errors import ConfigError
from mdfeed.gate import tls_context
from mdfeed.settings import Auth
from tests.http_rig import contexts, served
from tests.wire import certificate

TOKEN = "sesame-sesame-12"
GOOD_TOKEN, BAD_TOKEN = f"Bearer {TOKEN}", f"Bearer {TOKEN}x"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def ask(port: int, method: str, path: str, authorization: str = "", tls: ssl.SSLContext | None = None):
    """(status, headers, body) by the standard library's client."""
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=tls)
    try:
        connection.request(method, path, headers={"Authorization": authorization} if authorization else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


# path -> status of GET with good credentials, and its content type's beginning.
PATHS = {
    "/health": 200,
    "/ready": 503,
    "/metrics": 200,
    "/": 200,
    "/?x=1": 200,
    "/ws": 426,
    "/ws?token=x": 426,
    "/ws/": 404,
    "/index.html": 404,
    "/page.js": 404,
    "/nothing": 404,
    "/health/": 404,
    "/he%61lth": 200,
    "//health": 404,
    "/HEALTH": 404,
    f"{PREFIX}/symbols": 200,
    f"{PREFIX}/orderbook/BTCUSDT": 200,
    f"{PREFIX}/orderbook/btcusdt?limit=5": 200,
    f"{PREFIX}/orderbook/BTC%55SDT": 200,
    f"{PREFIX}/orderbook/ETHUSDT": 503,
    f"{PREFIX}/ticker/BTCUSDT": 200,
    f"{PREFIX}/ticker/ETHUSDT": 503,
    f"{PREFIX}/trades/BTCUSDT": 200,
    f"{PREFIX}/trades/ETHUSDT": 200,
    f"{PREFIX}/trades/BTCUST": 404,
    f"{PREFIX}/trades/": 404,
    f"{PREFIX}/symbols/": 404,
    f"{PREFIX}/symbols?x=%00": 200,
    f"{PREFIX}/trades/BTCUSDT/x": 404,
    f"{PREFIX}/orders/BTCUSDT": 404,
    f"{PREFIX}": 404,
}
NO_PATHS = {path for path, status in PATHS.items() if status == 404} - {f"{PREFIX}/trades/BTCUST"}
AUTHS = {
    "open": (Auth(), [("", True), (BAD_TOKEN, True)]),
    "token": (
        Auth(token=TOKEN),
        [
            (GOOD_TOKEN, True),
            (f"bearer  {TOKEN}", True),
            ("", False),
            (BAD_TOKEN, False),
            (TOKEN, False),
            (basic(f"x:{TOKEN}"), False),
            ("Basic !!!", False),
            (f"Bearer {TOKEN[:-1]}", False),
        ],
    ),
    "basic": (
        Auth(user="ops", password="pä:ss"),
        [
            (basic("ops:pä:ss"), True),
            (basic("ops:pä:s"), False),
            (basic("op:pä:ss"), False),
            ("", False),
            ("Bearer ops:pass", False),
            ("Basic", False),
        ],
    ),
    "either": (
        Auth(token=TOKEN, user="ops", password="pw", exempt_health=True),
        [(GOOD_TOKEN, True), (basic("ops:pw"), True), ("", False), (basic(":"), False)],
    ),
}


@pytest.mark.parametrize("scheme", ["http", "https", "mutual"])
@pytest.mark.parametrize("auth", AUTHS)
async def test_every_path_method_and_credential(tmp_path: Path, scheme: str, auth: str) -> None:
    context, client = contexts(scheme, tmp_path)
    settings, cases = AUTHS[auth]
    async with served(settings, context) as port:
        for path, usual in PATHS.items():
            for method in ("GET", "HEAD", "POST", "DELETE") if scheme == "http" else ("GET", "POST"):
                for authorization, is_good in cases:
                    case = (path, method, authorization)
                    status, headers, body = await asyncio.to_thread(ask, port, method, path, authorization, client)
                    is_in = is_good or (settings.exempt_health and path in ("/health", "/he%61lth"))
                    expected = usual if is_in else 401
                    if is_in and method not in ("GET", "HEAD") and path not in NO_PATHS:
                        expected = 405
                    assert status == expected, case
                    assert ("WWW-Authenticate" in headers) == (status == 401), case
                    assert ("Access-Control-Allow-Origin" in headers) == (method in ("GET", "HEAD")), case
                    assert (headers.get("Allow") == "GET, HEAD") == (status == 405), case
                    kind = {"/metrics": "text/plain", "/": "text/html"}.get(path.partition("?")[0], "")
                    is_text = status == 200 and bool(kind)
                    assert headers["Content-Type"].startswith(kind if is_text else "application/json"), case
                    assert headers["X-Content-Type-Options"] == "nosniff", case
                    assert ("Set-Cookie" in headers) == (status == 200 and kind == "text/html" and auth != "open"), case
                    assert (headers.get("Upgrade") == "websocket") == (status == 426), case
                    assert (body == b"") == (method == "HEAD"), case
                    if method != "HEAD" and not is_text:
                        assert isinstance(json.loads(body), dict), case
                    if status == 401:
                        assert b"BTC" not in body
                        schemes = headers["WWW-Authenticate"]
                        assert ("Bearer" in schemes, "Basic" in schemes) == (bool(settings.token), bool(settings.user))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
async def test_curl_agrees(tmp_path: Path) -> None:
    context, cert = certificate(tmp_path, "IP:127.0.0.1")
    async with served(Auth(token=TOKEN, user="ops", password="pw"), context) as port:
        for options, path, status in (
            ((), "/health", 401),
            (("-H", f"Authorization: {GOOD_TOKEN}"), "/health", 200),
            (("--oauth2-bearer", TOKEN), "/metrics", 200),
            (("-u", "ops:pw"), "/ready", 503),
            (("-u", "ops:wrong"), "/ready", 401),
            (("-u", "ops:pw", "-X", "PUT", "-d", "x"), "/ready", 405),
            (("-u", "ops:pw", "-I"), "/health", 200),
            (("-u", "ops:pw"), f"{PREFIX}/orderbook/BTCUSDT", 200),
            (("-u", "ops:pw"), "/", 200),
            (("-u", "ops:pw", "-X", "POST", "-d", "x"), "/ws", 405),
            (("-u", "ops:pw"), "/ws", 426),
        ):
            command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(cert), *options]
            run = await asyncio.to_thread(
                subprocess.run, [*command, f"https://127.0.0.1:{port}{path}"], capture_output=True, text=True
            )
            assert (run.stdout, run.returncode) == (str(status), 0), (options, path)
        plain = await asyncio.to_thread(
            subprocess.run, ["curl", "-s", f"http://127.0.0.1:{port}/health"], capture_output=True, text=True
        )
        assert plain.stdout == ""


async def test_without_a_client_certificate_nothing_is_answered(tmp_path: Path) -> None:
    context, cert = certificate(tmp_path, "IP:127.0.0.1")
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_REQUIRED
    async with served(tls=context) as port:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            await asyncio.to_thread(ask, port, "GET", "/health", "", ssl.create_default_context(cafile=str(cert)))
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(ask, port, "GET", "/health", "", ssl.create_default_context())


async def test_a_handshake_that_drips_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.3)
    context, cert = certificate(tmp_path, "IP:127.0.0.1")
    async with served(tls=context) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        client = ssl.create_default_context(cafile=str(cert))
        assert (await asyncio.to_thread(ask, port, "GET", "/health", "", client))[0] == 200


async def test_the_gateways_answers() -> None:
    async with served() as port:

        async def get(path: str) -> Any:
            return json.loads((await asyncio.to_thread(ask, port, "GET", f"{PREFIX}/{path}"))[2])

        book = await get("orderbook/BTCUSDT")
        assert (book["bids"], book["asks"]) == ([["61800.1", "2.5"]], [["61800.3", "0.01"]])
        assert (book["symbol"], book["state"], book["last_update_id"]) == ("BTCUSDT", "LIVE", 10)
        assert 0 <= book["age_s"] < 60 if book["age_s"] is not None else book["state"] == "LIVE"
        ticker = await get("ticker/BTCUSDT")
        assert (ticker["bid"], ticker["ask"], ticker["high_24h"]) == (["61800.1", "2.5"], ["61800.3", "0.01"], None)
        trades = (await get("trades/BTCUSDT"))["trades"]
        assert [(trade["trade_id"], trade["price"], trade["qty"]) for trade in trades] == [
            (8, "61800.25", "0.12"),
            (7, "61800.2", "0.12"),
        ]
        refused = await get("orderbook/ETHUSDT")
        assert refused["error"].startswith("the book is COLD")
        assert "bids" not in refused
        assert (await get("trades/ETHUSDT"))["trades"] == []
        assert (await get("ticker/BTCUST"))["did_you_mean"] == "BTCUSDT"
        assert [found["state"] for found in (await get("symbols"))["symbols"]] == ["LIVE", "COLD"]


def config_of(tmp_path: Path, text: str) -> Config:
    (tmp_path / "c.yaml").write_text(text)
    return load_config(tmp_path / "c.yaml", {}, {})


def test_files_of_tls_that_are_no_use_are_named_with_their_place(tmp_path: Path) -> None:
    certificate(tmp_path, "IP:127.0.0.1")
    other = tmp_path / "other"
    other.mkdir()
    certificate(other, "IP:127.0.0.1")
    (tmp_path / "junk").write_text("no PEM")
    secret = ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", "key.pem", "-out", "locked.pem"]
    subprocess.run(secret, cwd=tmp_path, check=True, capture_output=True)
    for tls, complaint in (
        ("cert: none.pem, key: key.pem", "http.tls.cert: {}/none.pem: No such file or directory"),
        ("cert: cert.pem, key: .", "http.tls.key: {}: Is a directory"),
        ("cert: junk, key: key.pem", "http.tls.cert: {}/junk: no usable certificate in PEM"),
        ("cert: cert.pem, key: junk", "http.tls.key: {}/junk: no usable private key without a passphrase in PEM"),
        ("cert: cert.pem, key: locked.pem", "http.tls.key: {}/locked.pem: no usable private key without"),
        ("cert: cert.pem, key: other/key.pem", "http.tls.key: {0}/other/key.pem is not the key of {0}/cert.pem"),
        ("cert: cert.pem, key: key.pem, client_ca: junk", "http.tls.client_ca: {}/junk: no usable certificate"),
    ):
        config = config_of(tmp_path, f"http:\n  tls: {{{tls}}}\n")
        with pytest.raises(ConfigError) as caught:
            tls_context(config)
        assert str(caught.value).startswith(f"{tmp_path}/c.yaml:2: {complaint.format(tmp_path)}"), tls
    whole = config_of(tmp_path, "http:\n  tls: {cert: cert.pem, key: key.pem, client_ca: cert.pem}\n")
    context = tls_context(whole)
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert tls_context(load_config(None, {}, {})) is None
