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
ENVIRONMENT_FILE = "/etc/mdfeed/environment"
VENUE_PORT, REDIS_PORT = 9443, 6379
# An exchange and a Redis on the machine's own loopback, as transient units.
ROAD = {
    "road-redis": f"redis-server --port {REDIS_PORT} --save ''",
    "road-venue": f"/opt/mdfeed/venv/bin/mdfeed sim --port {VENUE_PORT}",
}


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


def start_road(machine: Machine) -> None:
    """Bring up exchange and Redis, point the installed daemon at them, and start it anew."""
    for name, command in ROAD.items():
        machine.run("systemd-run", "--quiet", "--unit", name, "sh", "-c", f"exec {command}")
    venue = f"127.0.0.1:{VENUE_PORT}"
    urls = f"MDFEED_EXCHANGE_WS_URL=ws://{venue}/stream\nMDFEED_EXCHANGE_REST_URL=http://{venue}\n"
    machine.write(ENVIRONMENT_FILE, urls)
    machine.run("systemctl", "restart", UNIT)


def stop_road(machine: Machine) -> None:
    machine.run("systemctl", "stop", *ROAD)


def get(machine: Machine, path: str) -> str:
    """What the daemon answers over HTTP; empty when it does not within 2 s."""
    return machine.run("curl", "-sS", "--max-time", "2", f"http://127.0.0.1:8080{path}", check=False).stdout


def is_ready(machine: Machine) -> bool:
    return '"status":"ready"' in get(machine, "/ready")


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
