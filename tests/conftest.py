"""Fixtures that many tests share: real captures, private Redis servers."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# A slow machine, or one that looks for memory errors, is no reason to fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


# What daemons keep for a user goes into a folder of the tests' own, never into the real home.
os.environ.pop("STATE_DIRECTORY", None)
_state = tempfile.mkdtemp(prefix="mdfeed-state-")
atexit.register(shutil.rmtree, _state, ignore_errors=True)
_numbers = itertools.count()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test has a folder of its own: a ban kept by one is nothing to the next, which may be given the same port."""
    os.environ["XDG_STATE_HOME"] = f"{_state}/{next(_numbers)}"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real captures: $MDFEED_DATA, else ../shared/data beside the clone. Skips where there are none."""
    folder = Path(os.environ.get("MDFEED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "hft").is_dir():
        pytest.skip(f"no real captures: {folder} does not exist (set MDFEED_DATA)")
    return folder
