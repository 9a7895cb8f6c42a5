"""A machine to test the service on: a real systemd as PID 1 over a throw-away overlay of this host's root.

Answers for: booting it in fresh namespaces and cgroups of its own, running commands inside, and leaving nothing behind.
Refuses to know: what is installed in it. No network but its own loopback; no image, no download, about a second.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

HANDED = Path("/media/handed")
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ["--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net"]
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


def missing() -> str | None:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "needs root, for namespaces and an overlay mount"
    for tool in ("unshare", "nsenter", "setpriv", "ip", "pgrep"):
        if not shutil.which(tool):
            return f"needs {tool}"
    if not os.access("/lib/systemd/systemd", os.X_OK):
        return "needs systemd installed (it need not be running)"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "needs a kernel with overlayfs"
    if subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, check=False).returncode:
        return "may not make namespaces"
    return None


def own_cgroups() -> list[Path]:
    """This process's directory in every cgroup hierarchy, where a child of ours may be made."""
    places = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:
            root = CGROUPS / controllers.removeprefix("name=")
        else:
            root = CGROUPS / "unified" if (CGROUPS / "unified").exists() else CGROUPS
        if (root / "cgroup.procs").exists():
            places.append(root / path.lstrip("/"))
    return places


class Machine:
    """One booted machine. `handed` appears inside, read-only, as /media/handed. Use as a context manager.

    `cgroups` is "as-here", the host's own layout, or "unified": version 2 alone, even where the host has version 1
    beside it. The controllers that version 1 holds are then missing inside, but the kernel filters by address.
    """

    def __init__(self, scratch: Path, handed: Path, name: str = "mdfeed-machine", cgroups: str = "as-here") -> None:
        self.prefix, self.name = name, f"{name}-{os.getpid()}"
        self.layout = cgroups
        self.scratch, self.handed = scratch, handed
        self.pid = 0
        self.cgroups = [place / self.name for place in own_cgroups()]

    def __enter__(self) -> Machine:
        for place in self.cgroups:
            for stale in place.parent.glob(f"{self.prefix}-*"):
                if not Path("/proc", stale.name.rpartition("-")[2]).exists():  # of a run that was killed
                    self._remove_cgroups(stale)
            place.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1 starts a child with none
                if (place / setting).exists() and (place.parent / setting).exists():
                    (place / setting).write_text((place.parent / setting).read_text())
        boot = [Path(__file__).with_name("boot.sh"), self.scratch, self.handed, self.name, self.layout]
        with (self.scratch.parent / "console.log").open("wb") as console:
            self.holder = subprocess.Popen(
                # Whatever ends this process ends the machine.
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child", *NAMESPACES, *boot],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                preexec_fn=self._join_cgroups,
            )
        try:
            self._await_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _join_cgroups(self) -> None:
        for place in self.cgroups:
            (place / "cgroup.procs").write_text(str(os.getpid()))

    def _await_boot(self) -> None:
        deadline = time.monotonic() + 60
        state = "no first process yet"
        while time.monotonic() < deadline:
            if self.holder.poll() is not None:
                break
            if not self.pid:
                children = subprocess.run(["pgrep", "-P", str(self.holder.pid)], capture_output=True, text=True)
                self.pid = int(children.stdout or 0)
            else:
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise RuntimeError(f"did not boot ({state}):\n{(self.scratch.parent / 'console.log').read_text()}")

    def run(
        self, *command: str | Path, check: bool = True, timeout_s: float = 120, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` inside as root; keyword arguments are further environment. Output is text, captured."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", "--", *command],
            env=ENVIRONMENT | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,  # a signal to "its own group" must not reach the tests
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def read(self, path: str) -> str:
        """Text of a file as the machine sees it."""
        return self.run("cat", path).stdout

    def write(self, path: str, text: str) -> None:
        """Put a file, and its directory, on the machine."""
        self.run("install", "-D", "-m", "0644", "/dev/stdin", path, stdin=text)

    def __exit__(self, *_: object) -> None:
        if self.pid and self.holder.poll() is None:
            os.kill(self.pid, signal.SIGRTMIN + 4)  # poweroff.target
        try:
            self.holder.wait(15)
        except subprocess.TimeoutExpired:
            self.holder.kill()
            self.holder.wait()
        for place in self.cgroups:
            self._remove_cgroups(place)

    @staticmethod
    def _remove_cgroups(top: Path) -> None:
        """Deepest first; a directory is busy until the last of its processes is reaped."""
        deadline = time.monotonic() + 5
        for directory, _, _ in os.walk(top, topdown=False):
            while os.path.exists(directory):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
