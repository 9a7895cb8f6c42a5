"""notify: the datagrams that reach a service manager, and the calls that must stay silent without one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdfeed.notify import notify, watchdog_interval_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_state_arrives_as_one_datagram(manager: socket.socket) -> None:
    assert notify("READY=1\nSTATUS=4 books live")
    assert manager.recv(4096) == b"READY=1\nSTATUS=4 books live"
    assert notify("WATCHDOG=1")
    assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.skipif(not os.path.exists("/proc"), reason="abstract sockets exist on Linux only")
def test_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"mdfeed-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert notify("STOPPING=1")
        assert listening.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative/path", "vsock:2:1234", "/nonexistent/notify", "/" + "x" * 200])
def test_no_manager_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_unset_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


def test_full_queue_does_not_block(manager: socket.socket) -> None:
    sent = 0
    while notify("WATCHDOG=1"):
        sent += 1
        assert sent < 100_000, "the queue never filled: the test shows nothing"
    assert sent > 0
    manager.recv(4096)
    assert notify("WATCHDOG=1")


@pytest.mark.parametrize(
    ("limit_us", "pid", "interval_s"),
    [
        ("30000000", None, 10.0),
        ("9000000", "self", 3.0),
        ("9000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch, limit_us: str | None, pid: str | None, interval_s: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", limit_us), ("WATCHDOG_PID", str(os.getpid()) if pid == "self" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_interval_s() == interval_s
