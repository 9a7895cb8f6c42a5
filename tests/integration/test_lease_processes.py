"""Two daemons, one Redis: the second gives up, a killed one is succeeded at once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import redis.asyncio as redis

from mdfeed.embedded import EmbeddedRedis
from mdfeed.exchange.server import SimulatedExchange
from tests.integration.daemon import serving
from tests.integration.test_serve import write_config


async def test_the_second_exits_1_and_kill_9_is_succeeded_at_once(tmp_path: Path) -> None:
    async with SimulatedExchange(("BTCUSDT", "ETHUSDT"), rate=50) as exchange:
        with EmbeddedRedis() as server:
            config = write_config(tmp_path, exchange, server.url)
            async with serving("-c", config) as first, redis.Redis.from_url(server.url) as client:
                await first.until_ready()
                holder = await client.get("mdfeed:lease:BTCUSDT")
                async with serving("-c", config) as second:
                    async with asyncio.timeout(15):
                        assert await second.process.wait() == 1
                    await second._reader
                    assert "the lease is held by another daemon" in second.log[-1]
                    assert not any("Traceback" in line for line in second.log)
                assert await client.get("mdfeed:lease:BTCUSDT") == holder
                assert (await first.get("/ready"))[0] == 200
                first.process.send_signal(signal.SIGKILL)
                await first.process.wait()
                async with serving("-c", config) as third:
                    await third.until_ready()
                    assert any("leases of a process that is dead are taken over" in line for line in third.log)
                    async with serving("-c", config, "--takeover") as fourth:
                        await fourth.until_ready()
                        body = await third.until("/ready", lambda status, body: status == 503)
                        assert any("the lease is held by pid" in reason for reason in body["reasons"])
                        assert await fourth.end() == 0
                    await third.until_ready()
                    assert await third.end() == 0
                assert await client.keys("mdfeed:lease:*") == []
