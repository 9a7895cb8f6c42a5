"""One booted machine for the session, with a copy of this repository and the wheels that an installation needs."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import HANDED, Machine, missing
from .service import install

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"


def copy_repository(target: Path) -> None:
    """What git would take along: tracked files and new ones, not what a build has left."""
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@pytest.fixture(scope="session")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the machine sees as /media/handed: repo/ and wheels/ (it has no network of its own)."""
    if reason := missing():
        pytest.skip(f"no machine here: {reason}")
    folder = tmp_path_factory.mktemp("handed")
    copy_repository(folder / "repo")
    download = [SYSTEM_PYTHON, "-m", "pip", "download", "-q", "--require-hashes", "-d", folder / "wheels"]
    for needs in ("requirements.txt", "requirements-build.txt"):
        fetched = subprocess.run(
            [*download, "-r", ROOT / "deploy" / needs], capture_output=True, text=True, check=False
        )
        if fetched.returncode:
            pytest.skip(f"the wheels of deploy/{needs} cannot be had: {fetched.stderr.strip()[-300:]}")
    for folder_inside, _, _ in os.walk(folder):
        os.chmod(folder_inside, 0o755)
    return folder


@pytest.fixture(scope="session")
def machine(handed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    scratch = tmp_path_factory.mktemp("machine") / "scratch"
    scratch.mkdir()
    with Machine(scratch, handed) as booted:
        yield booted


@pytest.fixture(scope="session")
def wheel(machine: Machine, handed: Path) -> str:
    """Where the machines see the wheel that the installer has built on one, from source: the slow part, done once.

    $MDFEED_WHEEL, one that was built earlier, spares it.
    """
    (handed / "built").mkdir(mode=0o755)
    if given := os.environ.get("MDFEED_WHEEL"):
        return str(HANDED / "built" / Path(shutil.copy(given, handed / "built")).name)
    install(machine, "--no-start")
    built = machine.run("sh", "-c", "ls /opt/mdfeed/releases/*/mdfeed-*.whl").stdout.strip()
    (handed / "built" / Path(built).name).write_bytes(base64.b64decode(machine.run("base64", built).stdout))
    install(machine, "--uninstall")
    return str(HANDED / "built" / Path(built).name)
