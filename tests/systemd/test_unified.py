"""What needs cgroup version 2 alone: packets refused by address (the loopback-only drop-in), and MemoryHigh.

On a host that has version 1 beside it, a machine of its own is booted with version 2 only. The kernel's filter by
address works there; the memory controller is version 1's then, and MemoryHigh is skipped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine
from .service import (
    REPO,
    UNIT,
    execute,
    execute_daemon,
    get,
    install,
    is_ready,
    start_road,
    status,
    stop_road,
    wait_for,
)

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(900)]

DROP_IN = f"/etc/systemd/system/{UNIT}.d/loopback-only.conf"
# Another network within the machine: 192.0.2.2 answers there, as a stranger's host would.
ABROAD = """
ip netns add abroad
ip link add here type veth peer name there netns abroad
ip addr add 192.0.2.1/24 dev here
ip link set here up
ip -n abroad addr add 192.0.2.2/24 dev there
ip -n abroad link set there up
systemd-run --quiet --unit abroad -p NetworkNamespacePath=/run/netns/abroad \
    /usr/bin/python3 -m http.server 8000 --bind 192.0.2.2
"""
REACH = """
import json, pathlib, socket, time
from mdfeed.notify import notify

def attempt(kind, address):
    try:
        with socket.socket(socket.AF_INET, kind) as line:
            line.settimeout(3)
            line.connect(address)
            line.send(b"PING\\r\\n")
        return "ok"
    except OSError as error:
        return type(error).__name__

found = {
    "home by TCP": attempt(socket.SOCK_STREAM, ("127.0.0.1", 6379)),
    "home by UDP": attempt(socket.SOCK_DGRAM, ("127.0.0.1", 53)),
    "abroad by TCP": attempt(socket.SOCK_STREAM, ("192.0.2.2", 8000)),
    "abroad by UDP": attempt(socket.SOCK_DGRAM, ("192.0.2.2", 53)),
}
pathlib.Path("/var/lib/mdfeed/reach").write_text(json.dumps(found))
notify("READY=1")
time.sleep(600)
"""
LEAK = """
import time
from mdfeed.notify import notify
notify("READY=1")
held = []
while True:
    held.append(bytearray(1 << 20))
    time.sleep(0.002)
"""


@pytest.fixture(scope="module")
def unified(handed: Path, wheel: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    for tool in ("redis-server", "curl"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    scratch = tmp_path_factory.mktemp("unified") / "scratch"
    scratch.mkdir()
    machine = Machine(scratch, handed, "mdfeed-unified", cgroups="unified")
    try:
        machine.__enter__()
    except RuntimeError as error:
        pytest.skip(f"no machine with cgroup version 2 alone here: {error}")
    try:
        install(machine, "--no-start", "--wheel", wheel)
        machine.run("sh", "-ec", ABROAD)
        start_road(machine)
        yield machine
        stop_road(machine)
    finally:
        machine.__exit__()


def reached(machine: Machine) -> dict[str, str]:
    execute(machine, REACH)
    wait_for(lambda: machine.run("test", "-e", "/var/lib/mdfeed/reach", check=False).returncode == 0, status(machine))
    found: dict[str, str] = json.loads(machine.read("/var/lib/mdfeed/reach"))
    machine.run("rm", "/var/lib/mdfeed/reach")
    return found


def test_without_the_drop_in_it_reaches_strangers(unified: Machine) -> None:
    assert set(reached(unified).values()) == {"ok"}


def test_loopback_only_lets_no_packet_out_and_the_daemon_works(unified: Machine) -> None:
    unified.run("install", "-D", "-m", "0644", REPO / "deploy/systemd/loopback-only.conf", DROP_IN)
    found = reached(unified)
    assert {found.pop("home by TCP"), found.pop("home by UDP")} == {"ok"}
    assert set(found.values()) <= {"PermissionError", "TimeoutError"}, found
    execute_daemon(unified)
    wait_for(lambda: is_ready(unified), f"{get(unified, '/ready')} {status(unified)}")


def test_memory_high_throttles_before_memory_max(unified: Machine) -> None:
    if "memory" not in unified.read("/sys/fs/cgroup/cgroup.controllers").split():
        pytest.skip("the memory controller is held by cgroup version 1 on this host")
    execute(unified, LEAK, "WatchdogSec=0\n")
    events = f"/sys/fs/cgroup/system.slice/{UNIT}/memory.events"

    def throttled() -> int:
        return next(int(line.split()[1]) for line in unified.read(events).splitlines() if line.startswith("high "))

    wait_for(lambda: throttled() > 0, f"memory.events counts: {unified.read(events)}")
    execute_daemon(unified)
