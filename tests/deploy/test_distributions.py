"""The installer's words on other distributions, played in a mount namespace: their /etc/os-release, their package
manager, their tools. What it does to a machine is shown on Debian's systemd in tests/systemd.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .test_installer import INSTALLER

RELEASES = {
    "fedora": 'ID=fedora\nVERSION_ID=43\nPLATFORM_ID="platform:f43"\n',
    "rocky9": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\nPLATFORM_ID="platform:el9"\n',
    "rhel10": 'ID="rhel"\nVERSION_ID="10.1"\nPLATFORM_ID="platform:el10"\n',
    "debian": 'ID=debian\nVERSION_ID="13"\n',
    "ubuntu22": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\n',
}
MANAGER = {"fedora": "dnf", "rocky9": "dnf", "rhel10": "dnf", "debian": "apt-get", "ubuntu22": "apt-get"}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root, and the right to make a mount namespace",
)


def run(folder: Path, release: str, *options: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The installer among the tools of this machine, less `without` and the other family's package manager.

    "python" in `without` leaves every system interpreter in place, but none of them runs.
    """
    tools = folder / "tools"
    tools.mkdir()
    for directory in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for tool in Path(directory).iterdir():
            if not (tools / tool.name).is_symlink() and not tool.name.startswith(("apt", "dnf", *without)):
                (tools / tool.name).symlink_to(tool)
    for name in (MANAGER[release], *(["restorecon"] if MANAGER[release] == "dnf" else [])):
        (tools / name).unlink(missing_ok=True)
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    broken = folder / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    (folder / "os-release").write_text(RELEASES[release])
    script = f'mount --bind {folder}/os-release "$(realpath /etc/os-release)"\n'
    if "python" in without:
        script += f'for it in $(realpath /usr/bin/python3* | sort -u); do mount --bind {broken} "$it"; done\n'
    command = ["/usr/bin/env", f"PATH={tools}", "bash", str(INSTALLER), "--dry-run", *options]
    script += f"exec {' '.join(command)}\n"
    return subprocess.run(
        ["unshare", "--mount", "bash", "-ec", script], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("release", "advice"),
    [
        ("fedora", "dnf install -y python3\n"),
        ("rhel10", "dnf install -y python3\n"),
        ("rocky9", "dnf install -y python3.12\n"),
        ("debian", "apt-get install -y python3 python3-venv\n"),
        ("ubuntu22", "apt-get install -y python3.11 python3.11-venv\n"),
    ],
)
def test_without_a_python_it_names_the_packages(tmp_path: Path, release: str, advice: str) -> None:
    done = run(tmp_path, release, without=("python",))
    assert done.returncode == 1
    assert "no Python 3.11 or later" in done.stderr
    assert done.stderr.endswith(f"  {advice}")


@pytest.mark.parametrize(
    ("release", "advice"),
    [
        ("fedora", "dnf install -y gcc-c++ python3-devel\n"),
        ("rocky9", "dnf install -y gcc-c++ python3.12-devel\n"),
        ("debian", "apt-get install -y g++ python3-dev\n"),
        ("ubuntu22", "apt-get install -y g++ python3.11-dev\n"),
    ],
)
def test_without_a_compiler_it_names_the_packages(tmp_path: Path, release: str, advice: str) -> None:
    done = run(tmp_path, release, without=("c++",))
    assert done.returncode == 1, done.stderr
    assert "C++ compiler" in done.stderr
    assert done.stderr.endswith(f"  {advice}")


@pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")
@pytest.mark.parametrize("release", ["fedora", "debian"])
def test_the_same_steps_and_paths_on_both_families(tmp_path: Path, release: str) -> None:
    wheel = tmp_path / "mdfeed-0.1.0-py3-none-any.whl"
    wheel.touch()
    done = run(tmp_path, release, "--prefix", "/opt/mdfeed-dry-run-of-a-test", "--wheel", str(wheel))
    if "cannot make environments" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    for step in ("useradd --system --user-group", "/nologin", "/etc/mdfeed/config.yaml", "/etc/systemd/system/"):
        assert step in done.stdout
    # Fedora's SELinux wants its labels on what the service executes.
    assert ("restorecon -R /opt/mdfeed" in done.stdout) == (release == "fedora")
