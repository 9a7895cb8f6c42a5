"""Asks whether a known vulnerability is in what the service is installed from (deploy/requirements*.txt), by pip-audit.

Exit status: 1 when one is known; 0 when none is, and also when nobody could be asked, which is said. pip-audit itself
calls a package that its source does not know "skipped" and ends with 0: a source that knows none of them has not been
reached, and "no known vulnerabilities" would be a lie.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = sorted((Path(__file__).parents[1] / "deploy").glob("requirements*.txt"))
SOURCES = ("pypi", "osv")
TIMEOUT_S = 120.0


class Unreachable(Exception):
    """A source of advisories did not say anything."""


def ask(source: str, pins: Path, tool: list[str], timeout_s: float) -> list[dict[str, Any]]:
    """One row for each pin: `name`, `version` and `vulns`, or `skip_reason`."""
    options = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", "--timeout=15"]
    command = [*tool, *options, f"--vulnerability-service={source}", "-r", str(pins)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        rows: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {timeout_s:.0f} s") from None
    except (OSError, ValueError, KeyError) as error:
        said = done.stderr.strip().splitlines() if not isinstance(error, OSError) else [str(error)]
        raise Unreachable(said[-1] if said else "no report") from None
    if not any("vulns" in row for row in rows):
        raise Unreachable(f"it knows none of {len(rows)} packages")
    return rows


def main(pins: list[Path], tool: list[str], timeout_s: float = TIMEOUT_S) -> int:
    rows: list[dict[str, Any]] = []
    for source in SOURCES:
        try:
            rows = [row for file in pins for row in ask(source, file, tool, timeout_s)]
            break
        except Unreachable as error:
            print(f"audit: {source}: {error}", file=sys.stderr)
    if not rows:
        print("audit: skipped: no source of advisories can be reached, nothing was audited")
        return 0
    found = {(row["name"], row["version"], each["id"]): each for row in rows for each in row.get("vulns", ())}
    for (name, version, identity), each in sorted(found.items()):
        print(f"audit: {name} {version}: {identity}, mended in {', '.join(each.get('fix_versions', ())) or 'none yet'}")
    skipped = sorted({row["name"] for row in rows if "vulns" not in row})
    if skipped:
        print(f"audit: not known there: {', '.join(skipped)}")
    print(
        f"audit: {len({row['name'] for row in rows}) - len(skipped)} packages asked for, {len(found)} vulnerabilities"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(PINS, [sys.executable, "-m", "pip_audit"]))
