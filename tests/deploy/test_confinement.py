"""AppArmor profile and nftables example, each parsed by its own tool; nftables also loaded, where that can be."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
PROFILE = DEPLOY / "apparmor/mdfeed"

needs_nft = pytest.mark.skipif(
    not shutil.which("nft") or os.geteuid() != 0, reason="needs nft (Debian: nftables), and root to use it"
)


def parse_profile(profile: Path) -> subprocess.CompletedProcess[str]:
    command = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", profile]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not shutil.which("apparmor_parser"), reason="needs apparmor_parser (Debian: apparmor)")
def test_apparmor_profile_is_valid(tmp_path: Path) -> None:
    done = parse_profile(PROFILE)
    assert done.returncode == 0, done.stderr
    broken = tmp_path / "broken"
    broken.write_text(PROFILE.read_text().replace("network inet stream,", "network inet stream"))
    assert parse_profile(broken).returncode != 0


def test_the_unit_asks_for_the_profile_that_is_shipped() -> None:
    assert "\nprofile mdfeed " in PROFILE.read_text()
    assert "\nAppArmorProfile=-mdfeed\n" in (DEPLOY / "systemd/market-data.service").read_text()


@pytest.fixture
def ruleset(tmp_path: Path) -> Path:
    """The example with a user that exists on every machine in place of the service's own."""
    text = (DEPLOY / "nftables/mdfeed.nft").read_text()
    assert text.count('meta skuid != "mdfeed"') == 1
    file = tmp_path / "mdfeed.nft"
    file.write_text(text.replace('meta skuid != "mdfeed"', 'meta skuid != "nobody"'))
    return file


@needs_nft
def test_nftables_example_is_valid(ruleset: Path) -> None:
    done = subprocess.run(["nft", "-c", "-f", ruleset], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_nft
def test_nftables_example_loads_twice_and_confines(ruleset: Path) -> None:
    """In a network namespace of its own: the service's user is let out to 443 but not to 25, others to both."""
    script = f"""
ip link set lo up && ip link add away type veth peer name void && ip addr add 192.0.2.1/24 dev away || exit 77
ip link set away up; ip link set void up; ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev away
nft -f {ruleset} && nft -f {ruleset} || exit 1
as() {{ timeout 1 setpriv --reuid "$1" --clear-groups bash -c "exec 3<>/dev/tcp/192.0.2.9/$2" 2>/dev/null; }}
try() {{ as "$1" "$2"; echo "$1 $2 $?"; }}
try nobody 25; try nobody 443; try daemon 25
"""
    done = subprocess.run(["unshare", "--net", "bash", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(f"no network namespace with a veth here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    # 1 is a refusal at once; 124 is timeout's: the packets left, and nobody is there to answer.
    assert done.stdout.split("\n")[:3] == ["nobody 25 1", "nobody 443 124", "daemon 25 124"]
