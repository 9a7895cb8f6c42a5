"""A seeded slice of the matrix over real sockets: half of the quick faults on each transport, and the network's own."""

from __future__ import annotations

import pytest

from mdfeed.exchange.profiles import symbol_names
from tests.faults.rig import rigged
from tests.faults.sockets import NETWORK, quick_cases

SYMBOLS = symbol_names(8)


@pytest.mark.parametrize(("transport", "part"), [("picows", 0), ("websockets", 1)])
async def test_faults_of_the_venue(tmp_path, transport, part):
    async with rigged(tmp_path, transport, SYMBOLS, seed=11 + part, rate=25.0) as rig:
        for case in quick_cases(part, 2):
            await rig.inflict(case, "ETHUSDT", 0.6)
        print(f"{transport}: {rig}")
        assert rig.consumer.books > 500
        assert rig.consumer.trades_twice == 0


@pytest.mark.parametrize(("transport", "part"), [("picows", 1), ("websockets", 0)])
async def test_faults_of_the_network(tmp_path, transport, part):
    async with rigged(tmp_path, transport, SYMBOLS, seed=21 + part, rate=25.0) as rig:
        for fault in NETWORK[part::2]:
            await fault(rig)
            await rig.heal(fault.__name__, 0.6)
        print(f"{transport}: {rig}")
        assert rig.consumer.books > 100
        assert rig.consumer.trades_twice == 0
