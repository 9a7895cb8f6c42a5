"""The unit file: how exposed systemd finds it, what the contract fixes in it, and that each weakness is explained."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "deploy/systemd"
UNIT = SYSTEMD / "market-data.service"

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


def installed(folder: Path, *drop_ins: str) -> Path:
    """The unit as the installer would write it, in a folder of its own, with the named shipped drop-ins."""
    text = UNIT.read_text().replace("@USER@", "mdfeed").replace("@PREFIX@", "/opt/mdfeed")
    unit = folder / UNIT.name
    unit.write_text(text.replace("@CONFIG@", "/etc/mdfeed/config.yaml"))
    for name in drop_ins:
        (folder / f"{UNIT.name}.d").mkdir(exist_ok=True)
        shutil.copy(SYSTEMD / name, folder / f"{UNIT.name}.d" / name)
    return unit


def exposure(unit: Path) -> tuple[float, str]:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"exposure level for market-data.service: ([0-9.]+)", done.stdout)
    if not found:
        pytest.skip(f"this systemd-analyze cannot score a file: {done.stderr.strip()[:200]}")
    return float(found[1]), done.stdout


@needs_analyze
@pytest.mark.parametrize(("drop_ins", "limit"), [((), 1.1), (("loopback-only.conf",), 0.9)])
def test_exposure(tmp_path: Path, drop_ins: tuple[str, ...], limit: float) -> None:
    score, table = exposure(installed(tmp_path, *drop_ins))
    assert score <= limit, table


@needs_analyze
def test_each_weakness_is_explained(tmp_path: Path) -> None:
    """Whatever systemd marks with a cross has its directive in a comment that says why."""
    _, table = exposure(installed(tmp_path))
    crossed = re.findall(r"^✗ (\w+)", table, re.MULTILINE)
    assert crossed, "no cross at all: the table is not what this test reads"
    comments = "\n".join(line for line in UNIT.read_text().splitlines() if line.startswith("#"))
    named_otherwise = {"DeviceAllow": "devices", "RestrictAddressFamilies": "AF_INET"}
    for directive in crossed:
        assert named_otherwise.get(directive, directive) in comments, f"{directive} is loose and not explained"


@needs_analyze
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = installed(tmp_path, "loopback-only.conf")
    command = ["systemd-analyze", "verify", "--man=no", unit]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
    complaints = [line for line in said if "market-data" in line and "is not executable" not in line]
    assert complaints == []


def test_what_the_contract_fixes() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    expected = {
        "Type": "notify",
        "Restart": "on-failure",
        "RestartSec": "5s",
        "RestartPreventExitStatus": "2 78",
        "CPUQuota": "50%",
        "CPUQuotaPeriodSec": "10ms",
        "MemoryHigh": "256M",
        "MemoryMax": "512M",
        "TasksMax": "100",
        "SyslogIdentifier": "market-data",
        "ExecStart": "@PREFIX@/venv/bin/mdfeed serve -c @CONFIG@",
    }
    assert {name: unit["Service"].get(name) for name in expected} == expected
    assert "WatchdogSec" in unit["Service"]
    # In [Service] these two would be ignored, silently.
    assert (unit["Unit"]["StartLimitIntervalSec"], unit["Unit"]["StartLimitBurst"]) == ("120", "5")
    assert unit["Install"]["WantedBy"] == "multi-user.target"
