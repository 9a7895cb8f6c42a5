"""`mdfeed demo` as its users run it: it ends by itself, every book proved, and says where the page is."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import urllib.request
from pathlib import Path

import pytest

from mdfeed.embedded import find_servers
from tests.conftest import ROOT


@pytest.mark.skipif(not find_servers(), reason="no Redis-compatible server on this machine")
async def test_the_demo_prints_the_pages_address_and_its_verdict() -> None:
    command = [sys.executable, "-m", "mdfeed", "demo", "--seconds", "6", "--no-ui", "--symbols", "BTCUSDT"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, cwd=ROOT)
    assert process.stderr is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not (
                found := re.match(rb"page (http://127\.0\.0\.1:\d+/) ", line := await process.stderr.readline())
            ):
                assert line, "it ended without an address"
            with await asyncio.to_thread(urllib.request.urlopen, found[1].decode(), timeout=10) as answer:
                assert answer.headers["Content-Type"].startswith("text/html")
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "all 1 books PROVED, 0 mismatches" in said.decode()
    assert process.returncode == 0
    assert not Path(os.environ["XDG_STATE_HOME"]).exists(), "it leaves nothing behind"
