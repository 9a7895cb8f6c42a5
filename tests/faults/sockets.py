"""The matrix over real sockets: `python -m tests.faults.sockets --seconds 3600 --transport picows --symbols 100`.

Faults of the venue one after the other (the whole matrix, then drawn by chance until the time is over), and what the
network does to either side. Ends with the numbers that were compared; any wrong book, or a fault that does not heal
within 5 s, ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from mdfeed.exchange.profiles import symbol_names
from tests.faults.matrix import CASES, Case
from tests.faults.rig import Rig, rigged


async def cut_venue(rig: Rig) -> None:
    rig.venue_proxy.cut()


async def stall_venue(rig: Rig) -> None:
    rig.venue_proxy.is_stalled = True
    await asyncio.sleep(1.0)
    rig.venue_proxy.is_stalled = False


async def throttle_venue(rig: Rig) -> None:
    rig.venue_proxy.bytes_per_s = 60_000.0
    await asyncio.sleep(1.0)
    rig.venue_proxy.bytes_per_s = 0.0


async def dribble_venue(rig: Rig) -> None:
    rig.venue_proxy.piece = 7
    await asyncio.sleep(1.0)
    rig.venue_proxy.piece = 0


async def lose_venue(rig: Rig) -> None:
    rig.venue_proxy.refuse()
    rig.venue_proxy.cut()
    await asyncio.sleep(1.0)
    await rig.venue_proxy.listen()


async def cut_redis(rig: Rig) -> None:
    rig.redis_proxy.cut()


async def stall_redis(rig: Rig) -> None:
    rig.redis_proxy.is_stalled = True
    await asyncio.sleep(1.0)
    rig.redis_proxy.is_stalled = False


async def throttle_redis(rig: Rig) -> None:
    rig.redis_proxy.bytes_per_s = 100_000.0
    await asyncio.sleep(1.0)
    rig.redis_proxy.bytes_per_s = 0.0


async def lose_redis(rig: Rig) -> None:
    rig.redis_proxy.refuse()
    rig.redis_proxy.cut()
    await asyncio.sleep(1.0)
    await rig.redis_proxy.listen()


NETWORK: tuple[Callable[[Rig], Awaitable[None]], ...] = (
    cut_venue,
    stall_venue,
    throttle_venue,
    dribble_venue,
    lose_venue,
    cut_redis,
    stall_redis,
    throttle_redis,
    lose_redis,
)


def quick_cases(part: int, parts: int) -> list[Case]:
    """A share of those cases that show and heal within a few seconds."""
    quick = [case for case in CASES if not case.is_long and not case.symbol_lost]
    # What is done to REST needs the time in which a snapshot is asked for.
    return [
        case if case.specs[0].startswith(("rest", "slow", "stale")) else case._replace(lasts_s=min(case.lasts_s, 0.7))
        for case in quick[part::parts]
    ]


async def run(folder: Path, transport: str, count: int, seed: int, seconds: float, rate: float) -> str:
    """The matrix, then chance until `seconds` are over."""
    draw = random.Random(seed)
    symbols = symbol_names(count)
    end_s = time.monotonic() + seconds
    async with rigged(folder, transport, symbols, seed=seed, rate=rate) as rig:
        todo: list[Case | Callable[[Rig], Awaitable[None]]] = [*CASES, *NETWORK]
        todo = [one for one in todo if not (isinstance(one, Case) and one.symbol_lost)]
        whole = list(todo)
        while time.monotonic() < end_s:
            one = todo.pop(0) if todo else draw.choice(whole)
            if isinstance(one, Case):
                await rig.inflict(one, draw.choice(symbols), one.shows_s)
            else:
                await one(rig)
                await rig.heal(one.__name__, 1.0)
        return str(rig)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=3600.0)
    options.add_argument("--transport", choices=("picows", "websockets"), default="picows")
    options.add_argument("--symbols", type=int, default=100)
    options.add_argument("--rate", type=float, default=12.0, help="orders a second and symbol")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(asyncio.run(run(Path(folder), given.transport, given.symbols, given.seed, given.seconds, given.rate)))


if __name__ == "__main__":
    main()
