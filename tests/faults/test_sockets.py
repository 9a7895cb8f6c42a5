"""A seeded slice of the matrix over real sockets: each quick fault on one transport, with one line or with two.

`python -m tests.faults.sockets` does all of them in each form, and the long ones.
"""

from __future__ import annotations

import random

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
        assert rig.consumer.books > 1000


@pytest.mark.parametrize("transport", ["picows", "websockets"])
async def test_a_route_that_answers_nothing(tmp_path, transport):
    deaf = next(case for case in CASES if case.name == "deaf connections")
    async with rigged(tmp_path, transport, SYMBOLS[:2], seed=31, rate=25.0) as rig:
        await rig.suffer(deaf, "BTCUSDT")
        assert any("successor is opened (deaf)" in line for line in rig.daemon.log)


@pytest.mark.parametrize("transport", ["picows", "websockets"])
async def test_tls_that_breaks_at_a_venue_that_comes_up_late(tmp_path, transport):
    breaks = next(trouble for trouble in NETWORK if trouble.is_tls)
    async with rigged(tmp_path, transport, SYMBOLS[:2], seed=41, rate=25.0, is_tls=True, late_s=1.0) as rig:
        assert any("refused" in line for line in rig.daemon.log)
        await rig.suffer(breaks, "BTCUSDT", 0.4)
        await until(lambda: any("TLS" in line for line in rig.daemon.log))
