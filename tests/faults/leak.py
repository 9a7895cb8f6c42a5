"""A process that works under faults and then says whether it has grown: `python -m tests.faults.leak virtual`.

`virtual`: faults on virtual time, one after the other. `sockets`: connections to a simulated exchange that are torn
again and again, with both transports. Ends with 1 when memory or file descriptors grow.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress

from mdfeed.exchange.market import START_NS
from mdfeed.exchange.profiles import symbol_names
from mdfeed.exchange.server import SimulatedExchange
from tests.faults.growth import Growth
from tests.faults.trial import Figures, draw_case, finish, inflict, settle
from tests.faults.world import FaultWorld
from tests.linerig import rigged
from tests.lines import until
from tests.virtual import S

VIRTUAL_S = 1500.0
ROUNDS = 150


def virtual() -> str:
    draw = random.Random(1)
    symbols = symbol_names(6)
    # Tapes and truths are small, so that they are full before the first third is over.
    world = FaultWorld(symbols, lines=2, rate=20.0, levels=150, snapshot_limit=100)
    settle(world)
    growth, figures = Growth(room_mib=4.0), Figures()
    while (done_s := (world.now_ns - START_NS) / S) < VIRTUAL_S:
        inflict(world, draw_case(draw), draw.choice(symbols), figures)
        world.run(2.0)
        growth.look(done_s / VIRTUAL_S)
    finish(world, figures)
    return f"{figures}; {growth.verdict() or 'flat'}, {growth}"


async def sockets(transport: str) -> str:
    symbols = symbol_names(3)
    growth = Growth(room_mib=4.0)
    async with SimulatedExchange(symbols, rate=20.0, levels=100) as exchange:
        async with rigged(exchange, symbols, transport=transport) as rig:
            for done in range(ROUNDS):
                before = sum(stream.reconnects.total() for stream in rig.lines.streams)
                for link in list(exchange.links):
                    with suppress(ConnectionError):
                        link.abort()
                await until(lambda before=before: sum(s.reconnects.total() for s in rig.lines.streams) > before)
                await until(lambda: all(stream.is_connected for stream in rig.lines.streams))
                growth.look(done / ROUNDS)
            await until(lambda: rig.is_proved, 20)
            reconnects = sum(stream.reconnects.total() for stream in rig.lines.streams)
            return f"{transport}: {reconnects} reconnects, {growth.verdict() or 'flat'}, {growth}"


def main() -> int:
    said = [virtual()] if sys.argv[1:] == ["virtual"] else [asyncio.run(sockets(one)) for one in ("picows", "websockets")]
    print("\n".join(said))
    return 1 if any("grow" in one for one in said) else 0


if __name__ == "__main__":
    sys.exit(main())
