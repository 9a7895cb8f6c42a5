"""Fixtures that many tests share: real captures, private Redis servers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# A slow machine, or one that looks for memory errors, is no reason to fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real captures: $MDFEED_DATA, else ../shared/data beside the clone. Skips where there are none."""
    folder = Path(os.environ.get("MDFEED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "hft").is_dir():
        pytest.skip(f"no real captures: {folder} does not exist (set MDFEED_DATA)")
    return folder
