"""The .pyi of every compiled module says what the module really has (mypy's stubtest imports both and compares)."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILED = sorted(path.relative_to(ROOT) for path in (ROOT / "mdfeed").rglob("*.pyx"))
# What Cython adds; constructors and buffers, whose C slots carry no signature to compare with; constants of another
# module that a compiled one imports for itself (they do not say where they come from).
ALLOWED = r"""
.*\.__(reduce|setstate)_cython__
.*\.__(test|pyx_capi)__
.*\.__(init|buffer)__
mdfeed\._feed\.(KIND|WHY)
mdfeed\._trust\.STATES
"""


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed (make lint has it)")
def test_stubs_are_honest(tmp_path: Path) -> None:
    modules = [".".join(path.with_suffix("").parts) for path in COMPILED]
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    command = [
        sys.executable,
        "-m",
        "mypy.stubtest",
        "--concise",
        "--ignore-disjoint-bases",
        "--ignore-unused-allowlist",
    ]
    done = subprocess.run(
        [*command, "--allowlist", str(allowed), *modules],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
