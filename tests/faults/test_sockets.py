"""A seeded slice of the matrix over real sockets: each quick fault on one transport, with one line or with two.

`python -m tests.faults.sockets` does all of them in each form, and the long ones.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mdfeed.exchange.profiles import symbol_names
from tests.faults.matrix import CASES
from tests.faults.network import NETWORK
from tests.faults.rig import rigged
from tests.faults.sockets import quick_faults
from tests.proxy import until

SYMBOLS = symbol_names(8)
FORMS = [("picows", 1), ("picows", 2), ("websockets", 1), ("websockets", 2)]


@pytest.mark.parametrize(("transport", "lines"), FORMS)
async def test_quick_faults(tmp_path, transport, lines):
    part = FORMS.index((transport, lines))
    draw = random.Random(part)
    async with rigged(tmp_path, transport, SYMBOLS, seed=11 + part, rate=25.0, lines=lines) as rig:
        for one in quick_faults(part, len(FORMS)):
            await rig.suffer(one, draw.choice(SYMBOLS), 0.4)
        print(f"{transport}, {lines} lines: {rig}")
        assert rig.unmet == []
        assert rig.consumer.books > 1000


@pytest.mark.parametrize("transport", ["picows", "websockets"])
async def test_a_route_that_answers_nothing(tmp_path, transport):
    deaf = next(case for case in CASES if case.name == "deaf connections")
    async with rigged(tmp_path, transport, SYMBOLS[:2], seed=31, rate=25.0) as rig:
        await rig.suffer(deaf, "BTCUSDT")
        assert rig.unmet == []
        assert any("successor is opened (deaf)" in line for line in rig.daemon.log)


@pytest.mark.parametrize("transport", ["picows", "websockets"])
async def test_tls_that_breaks_at_a_venue_that_comes_up_late(tmp_path, transport):
    breaks = next(trouble for trouble in NETWORK if trouble.is_tls)
    async with rigged(tmp_path, transport, SYMBOLS[:2], seed=41, rate=25.0, is_tls=True, late_s=1.0) as rig:
        assert any("refused" in line for line in rig.daemon.log)
        await rig.suffer(breaks, "BTCUSDT", 0.4)
        await until(lambda: any("TLS" in line for line in rig.daemon.log))


@pytest.fixture
def clock(tmp_path):
    """(a file of the seconds that the daemon's wall clock is ahead, the environment that makes it so)."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the wall clock of one process is set by a preloaded library: needs Linux and cc")
    library, ahead = tmp_path / "set_clock.so", tmp_path / "ahead"
    source = Path(__file__).with_name("set_clock.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    ahead.write_text("0")
    return ahead, {"LD_PRELOAD": str(library), "SET_CLOCK_FILE": str(ahead)}


@pytest.mark.parametrize(("transport", "jumps_s"), [("picows", (7200, 0)), ("websockets", (-3600, 10))])
async def test_the_clock_of_this_machine_is_set(tmp_path, clock, transport, jumps_s):
    ahead, environment = clock
    reset = next(case for case in CASES if case.name == "reset")
    async with rigged(tmp_path, transport, SYMBOLS[:4], seed=51, rate=25.0, **environment) as rig:
        for jump_s in jumps_s:
            ahead.write_text(str(jump_s))
            await until(lambda: any("wall clock was set" in line for line in rig.daemon.log), 20)
            # Nothing that is published becomes wrong or stops, and what breaks now heals as before.
            await rig.suffer(reset, "ETHUSDT", 2.0)
            assert (await rig.daemon.get("/health"))[0] == 200
        await until(lambda: rig.consumer.books > 500, 20)  # how many come in a time is the machine's affair
        await rig.consumer.judge_keys()
        assert rig.consumer.books > 500
