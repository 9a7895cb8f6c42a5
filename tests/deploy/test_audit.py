"""scripts/audit.py with pip-audit played by a script: found, none, partly known, nobody to ask."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/audit.py"
GOOD = {"name": "click", "version": "8.5.1", "vulns": []}
BAD = {"name": "rich", "version": "15.0.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["15.0.1"]}]}
UNKNOWN = {"name": "msgspec", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def load() -> Any:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("rows", "code", "says"),
    [
        ([GOOD], 0, "1 packages asked for, 0 vulnerabilities"),
        ([GOOD, BAD], 1, "rich 15.0.0: PYSEC-1, mended in 15.0.1"),
        ([UNKNOWN, BAD], 1, "1 packages asked for, 1 vulnerabilities"),
        ([UNKNOWN, GOOD], 0, "not known there: msgspec"),
        ([UNKNOWN, UNKNOWN], 0, "skipped: no source of advisories can be reached, nothing was audited"),
        ("no JSON", 0, "skipped: no source"),
        ("", 0, "skipped: no source"),
    ],
)
def test_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: Any, code: int, says: str) -> None:
    said = rows if isinstance(rows, str) else json.dumps({"dependencies": rows, "fixes": []})
    tool = tmp_path / "tool.py"
    tool.write_text(f"import sys\nprint({said!r})\nprint('cannot reach the source', file=sys.stderr)\nsys.exit(1)\n")
    assert load().main([tmp_path / "pins.txt"], [sys.executable, str(tool)]) == code
    out = capsys.readouterr()
    assert says in out.out
    if isinstance(rows, str):
        assert "cannot reach the source" in out.err


def test_a_source_that_does_not_answer_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = tmp_path / "tool.py"
    tool.write_text("import time\ntime.sleep(60)\n")
    assert load().main([tmp_path / "pins.txt"], [sys.executable, str(tool)], timeout_s=0.3) == 0
    assert "nothing was audited" in capsys.readouterr().out
    assert load().main([tmp_path / "pins.txt"], [str(tmp_path / "no-such-tool")]) == 0
    assert "No such file" in capsys.readouterr().err


def test_every_file_of_pins_is_asked_for() -> None:
    assert [file.name for file in load().PINS] == ["requirements-build.txt", "requirements.txt"]
