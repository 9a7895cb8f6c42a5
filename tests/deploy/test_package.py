"""What is packed: the page's files must come along, in the wheel and in the source distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

STATIC = {f"mdfeed/static/{name}" for name in ("page.html", "page.css", "draw.js", "link.js")}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, without anything compiled, so that nothing of the clone is written to."""
    folder = tmp_path_factory.mktemp("package") / "mdfeed"
    folder.mkdir()
    shutil.copytree(ROOT / "mdfeed", folder / "mdfeed", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    # The compiled modules are not what is looked at: without them it takes seconds.
    env = {**os.environ, "MDFEED_BUILT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_wheel_serves_the_page(source: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--target", tmp_path / "site", source, cwd=tmp_path)
    ask = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from mdfeed import page\n"
        "from mdfeed.httphead import parse_head\n"
        "answer = page.Page(None).document(parse_head(b'GET / HTTP/1.1\\r\\nHost: x'))\n"
        "print(page.__file__, answer.status, answer.kind, len(answer.body))\n"
    )
    where, status, kind, _, size = run(sys.executable, "-I", "-c", ask, tmp_path / "site", cwd=tmp_path).split()
    assert where.startswith(str(tmp_path / "site"))
    assert (status, kind) == ("200", "text/html;")
    assert int(size) > 10_000


def test_the_source_distribution_has_its_files(source: Path, tmp_path: Path) -> None:
    run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", tmp_path, cwd=source)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= STATIC
