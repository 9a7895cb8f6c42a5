"""A seeded slice of the matrix over real sockets: half of the quick faults on each transport, and the network's own."""

from __future__ import annotations

import asyncio
import time

import pytest

from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.market import Market
from mdfeed.exchange.profiles import symbol_names
from mdfeed.exchange.server import SimulatedExchange
from tests.faults.consumer import Consumer
from tests.faults.rig import rigged, write_config
from tests.faults.sockets import NETWORK, quick_cases
from tests.integration.daemon import serving
from tests.proxy import Proxy, until
from tests.wire import certificate

SYMBOLS = symbol_names(8)


@pytest.mark.parametrize(("transport", "part"), [("picows", 0), ("websockets", 1)])
async def test_faults_of_the_venue(tmp_path, transport, part):
    async with rigged(tmp_path, transport, SYMBOLS, seed=11 + part, rate=25.0) as rig:
        for case in quick_cases(part, 2):
            await rig.inflict(case, "ETHUSDT", 0.4)
        print(f"{transport}: {rig}")
        assert rig.consumer.books > 500
        assert rig.consumer.trades_twice == 0


@pytest.mark.parametrize(("transport", "part"), [("picows", 1), ("websockets", 0)])
async def test_faults_of_the_network(tmp_path, transport, part):
    async with rigged(tmp_path, transport, SYMBOLS, seed=21 + part, rate=25.0) as rig:
        for fault in NETWORK[part::2]:
            await fault(rig)
            await rig.heal(fault.__name__, 0.4)
        print(f"{transport}: {rig}")
        assert rig.consumer.books > 100
        assert rig.consumer.trades_twice == 0


async def test_tls_that_breaks(tmp_path):
    context, certificate_path = certificate(tmp_path, "IP:127.0.0.1")
    symbols = SYMBOLS[:2]
    market = Market(symbols, rate=40.0, start_ns=time.time_ns(), levels=150)
    async with (
        SimulatedExchange(symbols, source=market, ssl=context) as exchange,
        Proxy("127.0.0.1", exchange.port) as proxy,
        EmbeddedRedis(port=0, unix=False) as server,
    ):
        config = write_config(
            tmp_path,
            proxy.port,
            server.port or 0,
            symbols,
            exchange_ws_url=f"wss://127.0.0.1:{proxy.port}/stream",
            exchange_rest_url=f"https://127.0.0.1:{proxy.port}",
        )
        consumer = Consumer(server.url, market)
        consuming = asyncio.create_task(consumer.run())
        async with serving("-c", str(config), SSL_CERT_FILE=str(certificate_path)) as daemon:
            await daemon.until_ready()
            proxy.breaks_tls = True
            proxy.cut()
            await daemon.until("/ready", lambda status, body: status == 503)
            await until(lambda: any("TLS" in line for line in daemon.log))
            proxy.breaks_tls = False
            await daemon.until_ready()
            assert await daemon.end() == 0
        consuming.cancel()
        assert consumer.books > 0
        assert consumer.wrong == []
