"""The installer where it needs neither root nor systemd: its options, its refusals, its dry run, its pins.

What it does to a machine is shown on one, in tests/systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
INSTALLER = ROOT / "scripts/install-service.sh"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(INSTALLER), *options]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shellcheck() -> None:
    scripts = [*sorted(INSTALLER.parent.glob("*.sh")), ROOT / "tests/systemd/boot.sh", ROOT / ".ci/run"]
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_help_names_every_option() -> None:
    done = run("--help")
    assert done.returncode == 0
    accepted = set(re.findall(r"^\s+(--[a-z-]+)\)", INSTALLER.read_text(), re.MULTILINE))
    assert accepted >= {"--user", "--prefix", "--config", "--dry-run", "--uninstall", "--no-start"}
    assert accepted <= set(re.findall(r"--[a-z-]+", done.stdout))


@pytest.mark.parametrize(
    "options",
    [
        ["--frobnicate"],
        ["--user"],
        ["--user", ""],
        ["--user", "root"],
        ["--user", "a b"],
        ["--user", "x;reboot"],
        ["--prefix", "relative"],
        ["--prefix", "/"],
        ["--prefix", "//usr/"],
        ["--prefix", "/opt"],
        ["--prefix", "/opt/mdfeed/../.."],
        ["--prefix", "/opt/with space"],
        ["--prefix", "/opt/%h"],
        ["--prefix", "/home/someone/mdfeed"],
        ["--prefix", "/root/mdfeed"],
        ["--config", "/nowhere/config.yaml"],
        ["--wheel=/nowhere/mdfeed.whl"],
        ["--keep-data"],
    ],
)
def test_wrong_usage_ends_with_2_before_anything_happens(options: list[str]) -> None:
    done = run("--dry-run", *options)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")
def test_dry_run_says_what_and_changes_nothing(tmp_path: Path) -> None:
    prefix = "/opt/mdfeed-dry-run-of-a-test"
    done = run("--dry-run", "--prefix", prefix, "--user", "mdfeed-dry")
    if "--wheel" in done.stderr or "python3" in done.stderr.partition("\n")[2]:
        pytest.skip(f"this machine cannot build: {done.stderr}")
    assert done.returncode == 0, done.stderr
    for step in ("useradd", "requirements.txt", "config check", "market-data.service", "systemctl restart"):
        assert step in done.stdout
    assert not Path(prefix).exists()
    assert all(line.startswith("+ ") or not line.startswith("/") for line in done.stdout.splitlines())


@pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")
def test_interpreter_hidden_from_the_service_is_not_taken(tmp_path: Path) -> None:
    """One below /root, /home or /tmp would fail with 203/EXEC under ProtectHome and PrivateTmp."""
    hidden = tmp_path / "python3"  # pytest's tmp_path is below /tmp
    if not str(tmp_path).startswith("/tmp/"):
        pytest.skip(f"the temporary directory is {tmp_path}")
    hidden.write_text(f"#!/bin/sh\necho {hidden}\n")
    hidden.chmod(0o755)
    done = run("--dry-run", "--prefix", "/opt/mdfeed-dry-run-of-a-test", PYTHON=str(hidden))
    assert str(hidden) not in done.stdout + done.stderr


def test_uninstall_does_not_remove_what_is_not_ours() -> None:
    done = run("--uninstall", "--dry-run", "--prefix", "/usr/share")
    assert done.returncode == 1
    assert "not mdfeed's" in done.stderr
    assert "rm" not in done.stdout


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("requirements.txt", PROJECT["project"]["dependencies"]),
        ("requirements-build.txt", PROJECT["build-system"]["requires"]),
    ],
)
def test_pins_cover_what_the_project_asks_for(file: str, wanted: list[str]) -> None:
    """Renew them with `make lock` when this fails."""
    text = (ROOT / "deploy" / file).read_text()
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    pins = {canonicalize_name(name): version for name, version in pinned}
    for requirement in map(Requirement, wanted):
        assert canonicalize_name(requirement.name) in pins, requirement
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    # --require-hashes refuses a pin without one, but only on the day of the installation.
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[\w.-]+==)", text))
