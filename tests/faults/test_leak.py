"""Memory and file descriptors stay flat under faults, in a process that does nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["virtual", "sockets"])
def test_nothing_grows(form):
    command = [sys.executable, "-m", "tests.faults.leak", form]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, (done.stdout, done.stderr[-3000:])
