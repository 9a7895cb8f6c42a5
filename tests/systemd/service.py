"""The words in which the tests speak of the installed service: install, wait, replace what it executes, look at it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .machine import HANDED, Machine

UNIT = "market-data.service"
DROP_IN = f"/run/systemd/system/{UNIT}.d/test.conf"
REPO = HANDED / "repo"


def install(
    machine: Machine, *options: str, check: bool = True, source: Path = REPO, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the installer of the handed repository, or of `source`, with pip confined to the handed wheels."""
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(HANDED / "wheels")} | environment
    command = [source / "scripts/install-service.sh", *options]
    return machine.run(*command, check=check, timeout_s=900, **environment)


def show(machine: Machine, name: str) -> str:
    """One property of the unit, as systemd holds it now."""
    return machine.run("systemctl", "show", UNIT, "-p", name, "--value").stdout.strip()


def wait_for(what: Callable[[], object], describe: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {describe}")
        time.sleep(0.1)


def wait_active(machine: Machine, other_than_pid: str = "0", timeout_s: float = 30) -> None:
    """Until the unit is active in a process other than `other_than_pid`."""

    def is_back() -> bool:
        return show(machine, "ActiveState") == "active" and show(machine, "MainPID") not in ("0", other_than_pid)

    wait_for(is_back, f"{UNIT} active again: {status(machine)}", timeout_s)


def status(machine: Machine) -> str:
    return machine.run("systemctl", "status", UNIT, "-n", "30", "--no-pager", check=False).stdout


def journal(machine: Machine) -> str:
    return machine.run("journalctl", "-t", "market-data", "-o", "cat", "--no-pager").stdout


def execute(machine: Machine, script: str, service: str = "") -> None:
    """Make the unit, with all its limits and its sandbox, run a Python `script` instead of the daemon, and start it.

    `service` is more text for the drop-in's [Service].
    """
    machine.write("/usr/local/lib/instead/of-the-daemon.py", script)
    python = "/opt/mdfeed/venv/bin/python /usr/local/lib/instead/of-the-daemon.py"
    machine.write(DROP_IN, f"[Service]\nExecStart=\nExecStart={python}\n{service}")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    machine.run("systemctl", "restart", UNIT, check=False)


def execute_daemon(machine: Machine) -> None:
    """Back to the daemon, as installed, running, with its start limit untouched."""
    machine.run("rm", "-f", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    machine.run("systemctl", "restart", UNIT)
