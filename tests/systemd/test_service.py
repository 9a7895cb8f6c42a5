"""The installed service on a real systemd, in the order of its life: install, run, fail, be limited, upgrade, go.

The tests share one machine and follow one another. What they show holds for the unit as shipped: where a test
has the unit execute something else than the daemon, limits and sandbox are the installed ones.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from .machine import HANDED, Machine
from .service import (
    ENVIRONMENT_FILE,
    REPO,
    UNIT,
    execute,
    execute_daemon,
    get,
    install,
    is_ready,
    journal,
    show,
    start_road,
    status,
    stop_road,
    wait_active,
    wait_for,
)

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(900)]

CONFIG = "/etc/mdfeed/config.yaml"


def counters(machine: Machine, controller: str, file: str) -> dict[str, int]:
    """A cgroup file of `name value` lines, whichever version of cgroups the machine has."""
    places = [f"/sys/fs/cgroup/{version}system.slice/{UNIT}/{file}" for version in (f"{controller}/", "")]
    found = machine.run("sh", "-c", f"cat {places[0]} 2>/dev/null || cat {places[1]}")
    return {name: int(value) for name, value in (line.split() for line in found.stdout.splitlines())}


def changes(machine: Machine) -> set[str]:
    """Every file that is not as the host has it: mode, owner, size, time. Without what running programs write."""
    written = [f"/media/changes/var/{place}" for place in ("log", "lib/systemd", "lib/mdfeed")]
    pruned = " -o ".join(f"-path {place}" for place in written).split()
    found = machine.run("find", "/media/changes", "(", *pruned, ")", "-prune", "-o", "-printf", r"%p %m %U %s %T@\n")
    return set(found.stdout.splitlines())


def test_dry_run_changes_nothing(machine: Machine) -> None:
    before = changes(machine)
    said = install(machine, "--dry-run")
    assert "useradd" in said.stdout
    assert "systemctl restart" in said.stdout
    assert changes(machine) == before
    machine.run("sh", "-c", f"! test -e /opt/mdfeed && ! test -e /etc/mdfeed && ! systemctl cat {UNIT} && ! id mdfeed")


def test_failed_first_install_leaves_nothing(machine: Machine, wheel: str) -> None:
    machine.write("/tmp/bad.yaml", "symbols: [BTCUSDT]\nhelth_port: 8080\n")
    failed = install(machine, "--config", "/tmp/bad.yaml", "--wheel", wheel, check=False)
    assert failed.returncode == 78, failed.stderr
    assert "helth_port" in failed.stderr + failed.stdout
    machine.run("sh", "-c", f"! test -e /opt/mdfeed && ! test -e /etc/mdfeed && ! systemctl cat {UNIT} && ! id mdfeed")


def test_install(machine: Machine, wheel: str) -> None:
    done = install(machine, "--wheel", wheel)
    assert "healthy" in done.stderr
    assert show(machine, "ActiveState") == "active"
    assert show(machine, "UnitFileState") == "enabled"
    assert show(machine, "User") == "mdfeed"
    assert json.loads(get(machine, "/health"))["status"] == "healthy"
    assert get(machine, "/").startswith("<!doctype html>")
    assert machine.run("stat", "-c", "%U:%G %a", CONFIG).stdout.strip() == "root:mdfeed 640"
    # Nothing of the program can be changed by the user that runs it.
    assert machine.run("find", "/opt/mdfeed", "-user", "mdfeed").stdout == ""


def test_doctor_looks_at_the_installed_service(machine: Machine) -> None:
    as_service = ["systemd-run", "-qPG", "-p", "User=mdfeed", "-p", "EnvironmentFile=-/etc/mdfeed/environment"]
    command = ["/opt/mdfeed/venv/bin/mdfeed", "doctor", "-c", CONFIG, "--within", "0.5", "--json"]
    done = machine.run(*as_service, *command, check=False)
    assert done.returncode == 1  # neither venue nor Redis can be reached from here
    found = json.loads(done.stdout)["findings"]
    said = {(each["check"], each["level"], each["text"]) for each in found}
    assert ("unit", "ok", f"{UNIT} is active, enabled, restarted 0 times") in said
    assert ("http", "ok", "mdfeed serves on port 8080") in said
    assert ("redis", "error", "localhost:6379: connection refused") in said
    assert [each for each in found if each["check"] == "unit" and each["level"] != "ok"] == []


@pytest.mark.parametrize("option", ["--no-start", "--uninstall"])
def test_dry_run_over_an_installation_changes_nothing(machine: Machine, wheel: str, option: str) -> None:
    before, pid = changes(machine), show(machine, "MainPID")
    install(machine, "--dry-run", option, "--wheel", wheel)
    assert changes(machine) == before
    assert show(machine, "MainPID") == pid


def test_journal_under_its_name(machine: Machine) -> None:
    wait_for(lambda: journal(machine).strip(), "journal lines under market-data")
    pids = machine.run("journalctl", "-t", "market-data", "-o", "json", "--no-pager").stdout.splitlines()
    assert {json.loads(line)["_SYSTEMD_UNIT"] for line in pids if "_SYSTEMD_UNIT" in json.loads(line)} == {UNIT}


def test_without_a_network_it_is_still_there(machine: Machine) -> None:
    """This machine reaches neither venue nor Redis: not a reason to die, and the watchdog (10 s) is content."""
    pid = show(machine, "MainPID")
    time.sleep(12)
    assert show(machine, "MainPID") == pid, status(machine)
    assert show(machine, "NRestarts") == "0"


def test_ready_once_venue_and_redis_are_there(machine: Machine) -> None:
    """The whole road inside the sandbox, addresses by the environment file: exchange to daemon to Redis, and /ready."""
    if not shutil.which("redis-server"):
        pytest.skip("needs redis-server")
    start_road(machine)
    wait_for(lambda: is_ready(machine), f"{get(machine, '/ready')} {status(machine)}")
    assert json.loads(machine.run("redis-cli", "get", "market_data:BTCUSDT").stdout)["symbol"] == "BTCUSDT"
    for family in ("process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{family} " in get(machine, "/metrics")  # the alerts live by them, and the sandbox hides /proc/stat
    wait_for(lambda: show(machine, "StatusText") == "ready", "systemctl's status line says so too", 15)
    stop_road(machine)
    wait_for(lambda: not is_ready(machine), "without venue and Redis it is not ready")
    assert (show(machine, "ActiveState"), show(machine, "NRestarts")) == ("active", "0")
    machine.run("rm", ENVIRONMENT_FILE)
    machine.run("systemctl", "restart", UNIT)


def test_second_run_is_an_upgrade_that_keeps_the_config(machine: Machine, wheel: str) -> None:
    edited = machine.read(CONFIG) + "\n# an operator was here\n"
    machine.write("/tmp/edited.yaml", edited)
    machine.run("cp", "/tmp/edited.yaml", CONFIG)
    machine.write("/tmp/offered.yaml", "health_port: 9999\n")
    pid = show(machine, "MainPID")
    said = install(machine, "--config=/tmp/offered.yaml", "--wheel", wheel).stderr
    assert "keeping" in said
    assert machine.read(CONFIG) == edited
    assert machine.read(CONFIG + ".new") == "health_port: 9999\n"
    assert show(machine, "MainPID") not in ("0", pid)
    assert len(machine.run("ls", "/opt/mdfeed/releases").stdout.split()) == 1


def installed(machine: Machine) -> tuple[str, str, str]:
    """The release in use, the unit's text, the releases there are."""
    release = machine.run("readlink", "-f", "/opt/mdfeed/venv").stdout
    return release, machine.read(f"/etc/systemd/system/{UNIT}"), machine.run("ls", "/opt/mdfeed/releases").stdout


def test_upgrade_that_fails_early_or_is_interrupted_disturbs_nothing(machine: Machine, wheel: str) -> None:
    before, pid = installed(machine), show(machine, "MainPID")
    failed = install(machine, "--wheel", wheel, check=False, PIP_FIND_LINKS="/nowhere")
    assert failed.returncode == 1
    assert "rolling back" in failed.stderr
    assert (installed(machine), show(machine, "MainPID")) == (before, pid)
    # Ctrl-C, a while into the environment's making.
    command = ["timeout", "--preserve-status", "--signal=INT", "3", REPO / "scripts/install-service.sh"]
    confined = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(HANDED / "wheels")}
    interrupted = machine.run(*command, "--wheel", wheel, check=False, **confined)
    assert interrupted.returncode == 130, interrupted.stderr
    assert "rolling back" in interrupted.stderr
    assert (installed(machine), show(machine, "MainPID")) == (before, pid)


def test_failed_upgrade_brings_the_old_one_back(machine: Machine, wheel: str) -> None:
    """A new unit that cannot start: the old release, unit and process state return."""
    before = installed(machine)
    machine.run("cp", "-a", REPO, "/srv/broken")
    broken = "s|^ExecStart=.*|ExecStart=@PREFIX@/venv/bin/mdfeed serve -c /nowhere|"
    machine.run("sed", "-i", broken, f"/srv/broken/deploy/systemd/{UNIT}")
    failed = install(machine, "--wheel", wheel, check=False, source=Path("/srv/broken"))
    assert failed.returncode == 1
    assert "rolling back" in failed.stderr
    assert installed(machine) == before
    wait_active(machine)
    assert json.loads(get(machine, "/health"))["status"] == "healthy"


def test_back_after_kill_9(machine: Machine) -> None:
    pid, killed_at = show(machine, "MainPID"), time.monotonic()
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    wait_active(machine, pid)
    assert 4 < time.monotonic() - killed_at < 15  # RestartSec is 5 s
    assert json.loads(get(machine, "/health"))["status"] == "healthy"


def test_hung_loop_is_restarted_by_the_watchdog(machine: Machine) -> None:
    pid = show(machine, "MainPID")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
    wait_for(lambda: show(machine, "Result") == "watchdog", f"the watchdog's verdict: {status(machine)}", 20)
    wait_active(machine, pid)
    assert "Watchdog timeout" in machine.run("journalctl", "-u", UNIT, "--no-pager").stdout


def test_a_blocked_loop_leaves_its_traceback(machine: Machine) -> None:
    """The watchdog's SIGABRT makes Python say where every thread stood, before the restart."""
    blocked = """
import asyncio, time
from mdfeed.notify import notify
async def main():
    notify("READY=1")
    await asyncio.sleep(0)
    time.sleep(600)
asyncio.run(main())
"""
    execute(machine, blocked)
    wait_for(lambda: show(machine, "NRestarts") == "1", f"the watchdog's restart: {status(machine)}", 30)
    said = machine.run("journalctl", "-u", UNIT, "-o", "cat", "-n", "60", "--no-pager").stdout
    assert "Fatal Python error: Aborted" in said
    assert 'of-the-daemon.py", line 7 in main' in said
    execute_daemon(machine)


def test_reload_keeps_the_process(machine: Machine) -> None:
    pid = show(machine, "MainPID")
    machine.run("systemctl", "reload", UNIT)
    wait_for(lambda: show(machine, "ActiveState") == "active", "active after a reload")
    assert show(machine, "MainPID") == pid


def test_stops_within_5_s_with_0(machine: Machine) -> None:
    execute_daemon(machine)
    begun = time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    assert time.monotonic() - begun < 5
    assert (show(machine, "Result"), show(machine, "ExecMainStatus")) == ("success", "0")
    machine.run("systemctl", "start", UNIT)


def test_no_restart_after_a_bad_config(machine: Machine) -> None:
    machine.run("cp", "-p", CONFIG, "/tmp/kept.yaml")
    machine.run("sh", "-c", f"echo 'nonsense: 1' >> {CONFIG}")
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    machine.run("systemctl", "restart", UNIT, check=False)
    wait_for(lambda: show(machine, "ActiveState") == "failed", "the unit has failed")
    time.sleep(7)
    assert (show(machine, "ActiveState"), show(machine, "NRestarts")) == ("failed", "0")
    assert show(machine, "ExecMainStatus") == "78"
    machine.run("cp", "-p", "/tmp/kept.yaml", CONFIG)
    execute_daemon(machine)


def test_start_limit(machine: Machine) -> None:
    """Five starts in two minutes, and then it stays down."""
    execute(machine, "open('/var/lib/mdfeed/starts', 'a').write('x')\nraise SystemExit(1)")
    wait_for(lambda: show(machine, "ActiveState") == "failed", f"the start limit: {status(machine)}", 60)
    time.sleep(7)
    assert machine.read("/var/lib/mdfeed/starts") == "xxxxx"
    assert "Start request repeated too quickly" in machine.run("journalctl", "-u", UNIT, "--no-pager").stdout
    machine.run("rm", "/var/lib/mdfeed/starts")
    execute_daemon(machine)


def test_cpu_quota(machine: Machine) -> None:
    execute(machine, "from mdfeed.notify import notify\nnotify('READY=1')\nwhile True:\n    pass")
    # A share of CPU time would show the neighbours instead.
    wait_for(lambda: counters(machine, "cpu", "cpu.stat")["nr_throttled"] >= 5, "throttled periods", 60)
    assert (show(machine, "CPUQuotaPerSecUSec"), show(machine, "CPUQuotaPeriodUSec")) == ("500ms", "10ms")
    execute_daemon(machine)


def test_memory_max_kills_and_restarts(machine: Machine) -> None:
    assert show(machine, "MemoryMax") == str(512 << 20)
    assert show(machine, "MemoryHigh") == str(256 << 20)
    glutton = """
import pathlib, time
from mdfeed.notify import notify
once = pathlib.Path("/var/lib/mdfeed/once")
if not once.exists():
    once.touch()
    held = [bytearray(1 << 20) for _ in range(700)]
notify("READY=1")
time.sleep(600)
"""
    execute(machine, glutton)
    wait_active(machine)
    assert show(machine, "NRestarts") == "1"
    log = machine.run("journalctl", "-u", UNIT, "--no-pager").stdout
    assert re.search(r"status=9/KILL|oom-kill", log)
    machine.run("rm", "/var/lib/mdfeed/once")
    execute_daemon(machine)


def test_tasks_max_refuses_forks(machine: Machine) -> None:
    execute(
        machine,
        """
import errno, os, pathlib, time
from mdfeed.notify import notify
forks = 0
try:
    while forks < 300:
        if os.fork() == 0:
            time.sleep(600)
        forks += 1
except OSError as error:
    pathlib.Path("/var/lib/mdfeed/forks").write_text(f"{forks} {errno.errorcode[error.errno]}")
notify("READY=1")
time.sleep(600)
""",
    )
    assert machine.read("/var/lib/mdfeed/forks") == "99 EAGAIN"
    machine.run("rm", "/var/lib/mdfeed/forks")
    execute_daemon(machine)


def test_another_prefix_touches_nothing_of_this_installation(machine: Machine, wheel: str) -> None:
    before = changes(machine), installed(machine), show(machine, "MainPID")
    for options in (["--uninstall"], ["--wheel", wheel]):
        refused = install(machine, *options, "--prefix", "/opt/other", check=False)
        assert refused.returncode == 1
        assert "belongs to another installation: pass its --prefix" in refused.stderr
    assert (changes(machine), installed(machine), show(machine, "MainPID")) == before


def test_uninstall_leaves_nothing(machine: Machine) -> None:
    install(machine, "--uninstall")
    machine.run("sh", "-c", "rm -rf /srv/*")
    named = "( -iname *mdfeed* -o -name *market-data* ) ! -type c -print"
    changes = machine.run("find", "/media/changes", "/run", "/dev/shm", *named.split())
    assert changes.stdout == ""
    assert machine.run("getent", "passwd", "mdfeed", check=False).stdout == ""
    assert machine.run("getent", "group", "mdfeed", check=False).stdout == ""
    assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
    again = install(machine, "--uninstall")
    assert "removed" in again.stderr
