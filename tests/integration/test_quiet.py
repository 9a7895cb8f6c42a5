"""Nothing is logged for a message: thousands of frames, a garbage one in ten, and a handful of lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdfeed.embedded import EmbeddedRedis, find_servers
from mdfeed.exchange.faults import Seam
from mdfeed.exchange.server import SimulatedExchange
from tests.integration.daemon import serving
from tests.integration.test_serve import SYMBOLS, write_config

pytestmark = pytest.mark.skipif(not find_servers(), reason="no Redis-compatible server on this machine")


class Garbling(Seam):
    """Once told to, puts a frame that is no JSON before every tenth."""

    def __init__(self) -> None:
        self.is_on = False
        self.frames = 0

    def frame(self, wire: object, stream: str, frame: bytes) -> tuple[tuple[float, bytes], ...]:
        self.frames += 1
        return ((0.0, b"{garbage"), (0.0, frame)) if self.is_on and self.frames % 10 == 0 else ((0.0, frame),)


def counted(exposition: str, metric: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{metric}(?:{{.*?}})? (\S+)$", exposition, re.MULTILINE))


async def test_frames_are_no_reason_to_log(tmp_path: Path) -> None:
    garbling = Garbling()
    with EmbeddedRedis() as server:
        async with SimulatedExchange(SYMBOLS, rate=500, seam=garbling) as exchange:
            config = write_config(tmp_path, exchange, server.url)
            async with serving("-c", config) as daemon:
                await daemon.until_ready()
                garbling.is_on = True
                before = len(daemon.log)

                def has_seen_enough(status: int, body: str) -> bool:
                    return (
                        counted(body, "mdfeed_decode_errors_total") > 150
                        and counted(body, "mdfeed_frames_total") > 1500
                    )

                await daemon.until("/metrics", has_seen_enough, 60.0)
                said = daemon.log[before:]
                assert len(said) < 30, said
                assert any("garbage" in line for line in said)
                assert await daemon.end() == 0
