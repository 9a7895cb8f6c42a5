"""The simulated exchange over TLS, and handshakes that fail: what a line says of each, and how fast it is back."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import sys

import pytest

from mdfeed.dial import dial
from mdfeed.errors import MdfeedError
from mdfeed.exchange.certificates import Certificates
from mdfeed.exchange.script import Script
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.exchange.spec import parse
from mdfeed.refusals import of_exception
from mdfeed.sim import run
from tests.integration.daemon import serving
from tests.lines import Plan as LinePlan
from tests.lines import Recorder, running, until

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


@pytest.mark.parametrize(
    ("kind", "said"),
    [("untrusted", "self-signed"), ("expired", "certificate has expired"), ("foreign", "IP address mismatch")],
)
async def test_a_handshake_that_fails_is_told_and_over_with_its_window(transport, tmp_path, kind, said):
    made = Certificates(tmp_path)
    trust = ssl.create_default_context(cafile=str(made.bundle))
    fault = parse(f"tls:kind={kind},at=300ms,for=1s")
    recorder = Recorder()
    async with SimulatedExchange(
        ["BTCUSDT"], rate=200, ssl=made.good, bad_certificates=made.bad, seam=Script([fault])
    ) as exchange:
        assert exchange.ws_url.startswith("wss://")
        plan = LinePlan(
            f"{exchange.ws_url}/public/stream?streams=btcusdt@depth@100ms", streams=("btcusdt@depth@100ms",)
        )
        async with running(plan.url, transport, recorder, plan=plan, ssl_context=trust) as stream:
            await until(lambda: bool(recorder.frames))
            await until(lambda: stream.reconnects["tls"] > 0)
            assert said in stream.last_error.replace("self signed", "self-signed")  # as older ones say it
            await until(lambda: stream.is_connected, 5)
            assert not fault.is_on
            assert len(recorder.opened) == 2, "the open connection was torn"


async def test_connections_may_stay(transport, tmp_path):
    made = Certificates(tmp_path)
    trust = ssl.create_default_context(cafile=str(made.bundle))
    script = Script([parse("tls:cuts=no,at=300ms")])
    async with SimulatedExchange(["BTCUSDT"], ssl=made.good, bad_certificates=made.bad, seam=script) as exchange:
        recorder = Recorder()
        url = f"{exchange.ws_url}/public/ws/btcusdt@depth"
        async with running(url, transport, recorder, ssl_context=trust) as stream:
            await until(lambda: script.faults[0].is_on and stream.is_connected)
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await dial(transport, url, lambda: None, ssl_context=trust)
            assert of_exception(caught.value).reason == "tls"
            assert not stream.reconnects


async def test_the_command_prints_what_to_trust_and_the_daemon_is_served(tmp_path):
    arguments = ("--port", "0", "--symbols", "BTCUSDT", "--rate", "80", "--tls", "--fault", "tls:kind=expired,for=3s")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mdfeed", "sim", *arguments), stderr=asyncio.subprocess.PIPE
    )
    try:
        told = ""
        async with asyncio.timeout(20):
            while "REST" not in told:
                told += (await process.stderr.readline()).decode()
        trust, url = re.search(r"SSL_CERT_FILE=(\S+)", told)[1], re.search(r"streams wss://(\S+),", told)[1]
        config = tmp_path / "config.yaml"
        config.write_text(
            f"symbols: [BTCUSDT]\nexchange_ws_url: wss://{url}/stream\nexchange_rest_url: https://{url}\n"
            "redis_url: redis://127.0.0.1:1\n"
        )
        async with serving("-c", str(config), SSL_CERT_FILE=trust) as daemon:
            await daemon.until("/ready", lambda status, body: "certificate has expired" in str(body))
            await daemon.until("/ready", lambda status, body: status == 503 and len(body["reasons"]) == 1, 15)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("faults", [[], ["help"]])
def test_faults_of_tls_need_tls_and_help_lists_them(faults, capsys):
    if faults:
        assert run(0, [], 1, 1.0, None, faults) == 0
        assert re.search(r"^tls +kind cuts$", capsys.readouterr().out, re.MULTILINE)
        return
    with pytest.raises(MdfeedError, match="needs --tls"):
        run(0, [], 1, 1.0, None, ["tls"])
    with pytest.raises(MdfeedError, match="none of untrusted, expired, foreign"):
        run(0, [], 1, 1.0, None, ["tls:kind=x"], tls=True)


def test_a_certificate_of_ones_own(tmp_path):
    (tmp_path / "a").mkdir()
    Certificates(tmp_path / "a")
    own = (tmp_path / "a/good.pem", tmp_path / "a/good.key")
    (tmp_path / "b").mkdir()
    assert own[0].read_text() in Certificates(tmp_path / "b", own=own).bundle.read_text()
    with pytest.raises(MdfeedError, match=r"good\.pem"):
        Certificates(tmp_path / "b", own=(own[0], tmp_path / "b/foreign.key"))
