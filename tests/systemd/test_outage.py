"""No network: venue and Redis both away for longer than the watchdog's patience. The service stays, and heals.

The outage is short here and as long as $MDFEED_OUTAGE_S says where that is set: `MDFEED_OUTAGE_S=600 make test-systemd
ARGS="-k outage -s"` is the ten minutes of an operator's bad evening.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator

import pytest

from .machine import Machine
from .service import (
    REDIS_PORT,
    UNIT,
    VENUE_PORT,
    get,
    install,
    is_ready,
    journal,
    show,
    start_road,
    status,
    stop_road,
    wait_for,
)

OUTAGE_S = float(os.environ.get("MDFEED_OUTAGE_S", "40"))
pytestmark = [pytest.mark.systemd, pytest.mark.timeout(900 + OUTAGE_S)]

PORTS = f"{{ {VENUE_PORT}, {REDIS_PORT} }}"
# First packets vanish, as behind a dead router: connections stay half-open and dialling takes its time. Then the
# machine has no route at all: everything is refused at once.
VANISH = f"chain in {{ type filter hook input priority 0; tcp dport {PORTS} drop; tcp sport {PORTS} drop; }}"
NO_ROUTE = f"chain out {{ type filter hook output priority 0; tcp dport {PORTS} reject with icmpx type no-route; }}"
# A line dials again after max_reconnect_delay_ms at most; then it takes a handshake, a snapshot and a proof.
HEALED_S = 60 + 30


@pytest.fixture
def serving(machine: Machine, wheel: str) -> Iterator[None]:
    for tool in ("redis-server", "nft", "curl"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    install(machine, "--wheel", wheel)
    start_road(machine)
    wait_for(lambda: is_ready(machine), f"ready before the outage: {get(machine, '/ready')} {status(machine)}")
    yield
    machine.run("nft", "delete", "table", "inet", "outage", check=False)
    stop_road(machine)
    install(machine, "--uninstall")


def filter_packets(machine: Machine, chain: str) -> None:
    table = "table inet outage"
    machine.run("nft", "-f", "-", stdin=f"{table}\ndelete {table}\n{table} {{\n{chain}\n}}\n")


def resident_kib(machine: Machine, pid: str) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", machine.read(f"/proc/{pid}/status"))
    assert found
    return int(found[1])


def test_an_outage_of_everything_restarts_nothing_and_heals(
    machine: Machine, serving: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert float(show(machine, "WatchdogUSec").removesuffix("s")) * 2 < OUTAGE_S
    pid, said_before = show(machine, "MainPID"), len(journal(machine).splitlines())
    kib_before = resident_kib(machine, pid)
    begun = time.monotonic()
    answers, was_ready = [], []
    for chain, ends in ((VANISH, OUTAGE_S / 2), (NO_ROUTE, OUTAGE_S)):
        filter_packets(machine, chain)
        wait_for(lambda: not is_ready(machine), "/ready says that something is wrong")
        while time.monotonic() - begun < ends:
            answers.append('"healthy"' in get(machine, "/health"))
            was_ready.append(is_ready(machine))
            assert show(machine, "ActiveState") == "active", status(machine)
            time.sleep(1)
    reasons = get(machine, "/ready")
    grown_kib = resident_kib(machine, pid) - kib_before
    lines = len(journal(machine).splitlines()) - said_before
    machine.run("nft", "delete", "table", "inet", "outage")
    ended = time.monotonic()
    wait_for(lambda: is_ready(machine), f"ready after the outage: {get(machine, '/ready')}", HEALED_S)
    healed_s = time.monotonic() - ended
    with capsys.disabled():
        print(
            f"\noutage of {ended - begun:.0f} s: {sum(answers)} of {len(answers)} /health answered, "
            f"{show(machine, 'NRestarts')} restarts, {lines} journal lines, RSS {grown_kib:+d} KiB, "
            f"ready {healed_s:.1f} s after its end"
        )
    assert all(answers)
    assert not any(was_ready)
    assert "redis" in reasons
    assert (show(machine, "MainPID"), show(machine, "NRestarts")) == (pid, "0")
    assert show(machine, "Result") == "success"
    assert "Watchdog timeout" not in machine.run("journalctl", "-u", UNIT, "-n", "400", "--no-pager").stdout
    assert lines < 30 + (ended - begun), "an outage is not worth a line a second"
    assert grown_kib < 32 << 10
