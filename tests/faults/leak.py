"""A process that works under faults and then says whether it has grown: `python -m tests.faults.leak virtual`.

`virtual`: faults on virtual time, one after the other. `sockets`: connections to a simulated exchange that are torn
again and again, with both transports. Ends with 1 when memory or file descriptors grow.
"""

from __future__ import annotations

import asyncio
import random
import sys

from mdfeed.exchange.market import START_NS
from mdfeed.exchange.profiles import symbol_names
from mdfeed.exchange.server import SimulatedExchange
from tests.faults.growth import Growth
from tests.faults.trial import Figures, draw_case, finish, inflict, settle
from tests.faults.world import FaultWorld
from tests.linerig import Rig, rigged
from tests.lines import until
from tests.virtual import S

VIRTUAL_S = 700.0
ROUNDS = 120  # two lines each, within the venue's limit of connects


def virtual() -> str:
    draw = random.Random(1)
    symbols = symbol_names(6)
    # The market's memory is small, so that it is full before the first third is over.
    world = FaultWorld(symbols, lines=2, rate=20.0, levels=150, snapshot_limit=100, changes_max=8192)
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
    async with (
        SimulatedExchange(symbols, rate=20.0, levels=100) as exchange,
        rigged(exchange, symbols, transport=transport) as rig,
    ):
        for done in range(ROUNDS):
            before = reconnects(rig)
            for link in list(exchange.links):
                link.abort()
            await until(lambda before=before: reconnects(rig) > before)
            await until(lambda: all(stream.is_connected for stream in rig.lines.streams))
            growth.look(done / ROUNDS)
        await until(lambda: rig.is_proved, 20)
        return f"{transport}: {reconnects(rig)} reconnects; {growth.verdict() or 'flat'}, {growth}"


def reconnects(rig: Rig) -> int:
    return sum(stream.reconnects.total() for stream in rig.lines.streams)


def main() -> int:
    said = (
        [virtual()] if sys.argv[1:] == ["virtual"] else [asyncio.run(sockets(one)) for one in ("picows", "websockets")]
    )
    print("\n".join(said))
    return 1 if any("grow" in one for one in said) else 0


if __name__ == "__main__":
    sys.exit(main())
