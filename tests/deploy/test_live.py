"""Every shipped query on a real Prometheus that scrapes a real daemon between simulated exchange and Redis."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mdfeed.embedded import EmbeddedRedis

from .expressions import EXPORTED, PROMETHEUS, expressions

SYMBOLS = "BTCUSDT,ETHUSDT"
# Series that a healthy daemon has not got yet: their first event brings them.
EVENTS = {
    "mdfeed_line_reconnects_total",
    "mdfeed_decode_errors_total",
    "mdfeed_book_resyncs_total",
    "mdfeed_sink_dropped_total",
}

pytestmark = [
    pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus (Debian: prometheus)"),
    pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)"),
    pytest.mark.timeout(180),
]


@contextmanager
def running(*command: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def until(what: Callable[[], Any], describe: str, log: Path, timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := what():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {describe}\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a daemon that has been ready."""
    folder = tmp_path_factory.mktemp("daemon")
    sim_log, log = folder / "sim.log", folder / "daemon.log"
    mdfeed = [sys.executable, "-m", "mdfeed"]
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        stack.enter_context(running(*mdfeed, "sim", "--port", "0", "--symbols", SYMBOLS, log=sim_log))
        told = r"streams (ws://\S+), REST (http://\S+),"
        urls = until(lambda: re.search(told, sim_log.read_text()), "the simulated exchange", sim_log)
        address = f"127.0.0.1:{free_port()}"
        config = folder / "config.yaml"
        config.write_text(
            f"symbols: [{SYMBOLS}]\nexchange_ws_url: {urls[1]}\nexchange_rest_url: {urls[2]}\nredis_url: {server.url}\n"
        )
        stack.enter_context(running(*mdfeed, "serve", "-c", config, "--http", address, log=log))
        until(lambda: "ready" in get(f"http://{address}/ready"), "a ready daemon", log)
        yield address


@pytest.fixture(scope="module")
def prometheus(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """Runs a query on a Prometheus that has scraped the daemon for a while, by the shipped configuration."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = (PROMETHEUS / "prometheus.yml").read_text()
    for shipped, here in (
        ("localhost:8080", daemon),
        ("scrape_interval: 5s", "scrape_interval: 1s"),
        ("scrape_timeout: 4s", "scrape_timeout: 1s"),
        ("evaluation_interval: 15s", "evaluation_interval: 1s"),
        ("localhost:9093", "localhost:9"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "prometheus.yml").write_text(text)
    for rules in ("rules.yml", "alerts.yml"):
        shutil.copy(PROMETHEUS / rules, folder)
    address, log = f"127.0.0.1:{free_port()}", folder / "log"

    def query(expression: str) -> list[Any]:
        asked = urllib.parse.urlencode({"query": expression})
        answer = json.loads(get(f"http://{address}/api/v1/query?{asked}"))
        return list(answer["data"]["result"])

    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with running(*command, f"--web.listen-address={address}", "--log.level=warn", log=log):
        scraped = 'count_over_time(up{job="mdfeed"}[2m]) > 15'
        until(lambda: query(scraped), "fifteen scrapes", log)
        yield query


def test_exposition_is_what_promtool_likes(daemon: str) -> None:
    exposition = get(f"http://{daemon}/metrics")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, text=True, check=False
    )
    # promtool knows process_* by heart and has nothing to say about them.
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_is_used_is_exported(daemon: str) -> None:
    exposition = get(f"http://{daemon}/metrics")
    families = set(re.findall(r"^# TYPE (\S+) ", exposition, re.MULTILINE))
    series = set(re.findall(r"^(\w+)", exposition, re.MULTILINE))
    missing = EXPORTED - families - series
    assert missing == set()


@pytest.mark.parametrize(
    ("place", "expression"), [each for each in expressions() if not each[0].startswith(("alerts", "annotation"))]
)
def test_every_query_finds_data(prometheus: Callable[[str], list[Any]], place: str, expression: str) -> None:
    found = prometheus(expression)
    if not any(event in expression for event in EVENTS):
        assert found, f"{place} finds nothing: {expression}"


def test_a_healthy_daemon_wakes_nobody(prometheus: Callable[[str], list[Any]]) -> None:
    assert prometheus('up{job="mdfeed"} == 1')
    assert prometheus('ALERTS{severity="page"}') == []


def test_every_symbol_is_trusted(prometheus: Callable[[str], list[Any]]) -> None:
    trusted = prometheus("symbol:mdfeed_book_is_trusted:max == 1")
    assert {each["metric"]["symbol"] for each in trusted} == set(SYMBOLS.split(","))
