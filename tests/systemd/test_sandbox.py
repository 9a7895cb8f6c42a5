"""What the unit's sandbox lets the daemon do and what it refuses, tried from inside on a real systemd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine
from .service import execute, install, show, status, wait_for

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(600)]

CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
    "-keyout /etc/probe-key.pem -out /etc/probe-ca.pem"
)
TLS = "openssl s_server -quiet -accept 4433 -cert /etc/probe-ca.pem -key /etc/probe-key.pem"
REDIS = (
    "redis-server --port 6379 --unixsocket /run/probe-redis/redis.sock --unixsocketperm 777 --save '' --appendonly no"
)


@pytest.fixture(scope="module")
def findings(machine: Machine, wheel: str) -> Iterator[dict[str, dict[str, str]]]:
    for tool in ("redis-server", "openssl", "curl"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    install(machine, "--no-start", "--wheel", wheel)
    assert (show(machine, "UnitFileState"), show(machine, "ActiveState")) == ("enabled", "inactive")
    machine.run("sh", "-c", CERTIFICATE)
    machine.run("mkdir", "-p", "/run/probe-redis")
    for name, command in (("probe-tls", TLS), ("probe-redis", REDIS)):
        machine.run("systemd-run", "--quiet", "--unit", name, "sh", "-c", f"exec {command}")
    wait_for(lambda: machine.run("redis-cli", "ping", check=False).stdout == "PONG\n", "redis")
    execute(machine, Path(__file__).with_name("sandbox_probe.py").read_text())
    assert show(machine, "ActiveState") == "active", status(machine)
    yield json.loads(machine.read("/var/lib/mdfeed/findings"))
    machine.run("systemctl", "stop", "probe-tls", "probe-redis")
    install(machine, "--uninstall")
    machine.run("rm", "-rf", "/run/probe-redis")


def test_everything_the_daemon_needs_works(findings: dict[str, dict[str, str]]) -> None:
    assert {name: found for name, found in findings["needs"].items() if found != "ok"} == {}


def test_everything_an_intruder_would_like_is_refused(findings: dict[str, dict[str, str]]) -> None:
    assert len(findings["refused"]) > 20
    allowed = {name: found for name, found in findings["refused"].items() if found == "DONE" or "Assertion" in found}
    assert allowed == {}


def test_http_in(machine: Machine, findings: dict[str, dict[str, str]]) -> None:
    assert machine.run("curl", "-sS", "--max-time", "5", "http://127.0.0.1:8080/").stdout == "probe"


def test_ring_is_readable_by_another_user(machine: Machine, findings: dict[str, dict[str, str]]) -> None:
    assert machine.run("stat", "-c", "%U %a", "/dev/shm/probe_ring").stdout == "mdfeed 644\n"
    assert machine.run("runuser", "-u", "nobody", "--", "head", "-c", "5", "/dev/shm/probe_ring").stdout == "ticks"


# Maps the ring, has the daemon write to it, and says what it has read before and after: in another process, with no
# more in common with the daemon than its group.
READER = """
import mmap, os, urllib.request
ring = mmap.mmap(os.open("/dev/shm/probe_group_ring", os.O_RDONLY), 4096, prot=mmap.PROT_READ)
before = ring[:5].decode()
urllib.request.urlopen("http://127.0.0.1:8080/").read()
print(before, ring[:5].decode())
"""
OF_THE_GROUP = ["setpriv", "--reuid=nobody", "--regid=mdfeed", "--clear-groups"]
STRANGER = ["setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups"]


def test_ring_is_mapped_by_a_process_of_its_group_and_by_no_stranger(
    machine: Machine, findings: dict[str, dict[str, str]]
) -> None:
    before, after = machine.run(*OF_THE_GROUP, "/usr/bin/python3", "-c", READER).stdout.split()
    assert (ord(after[0]), after[1:]) == (ord(before[0]) + 1, "icks")
    refused = machine.run(*STRANGER, "/usr/bin/python3", "-c", READER, check=False)
    assert "PermissionError" in refused.stderr
    # UMask=0077: without a mode of the daemon's own choice nobody else reads it.
    assert machine.run("stat", "-c", "%U %a", "/dev/shm/probe_own_ring").stdout == "mdfeed 600\n"


def test_ring_goes_with_the_service(machine: Machine, findings: dict[str, dict[str, str]]) -> None:
    machine.run("systemctl", "stop", "market-data")
    machine.run("sh", "-c", "! ls /dev/shm | grep probe")
