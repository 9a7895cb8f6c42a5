"""Hours of faults on virtual time: `python -m tests.faults.soak --hours 10 --symbols 100 --lines 2`.

One world, one fault after the other, drawn by chance from the whole matrix; every published book is compared. Says
what was compared every ten minutes of virtual time, with memory and file descriptors, and at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import time

from mdfeed.exchange.market import START_NS
from mdfeed.exchange.profiles import symbol_names
from tests.faults.trial import Figures, draw_case, finish, inflict, settle
from tests.faults.world import FaultWorld
from tests.virtual import S


def resident_mib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


def run(hours: float, count: int, lines: int, seed: int, rate: float, pause_s: float) -> Figures:
    """`pause_s` of quiet between two faults, so that the venue's weight is not what is measured."""
    draw = random.Random(seed)
    figures = Figures()
    symbols = symbol_names(count)
    world = FaultWorld(symbols, lines=lines, seed=seed, rate=rate, levels=150, snapshot_limit=100)
    settle(world)
    began_s, told_s = time.monotonic(), 0.0
    while (virtual_s := (world.now_ns - START_NS) / S) < hours * 3600:
        inflict(world, draw_case(draw), draw.choice(symbols), figures)
        world.run(pause_s)
        world.feed.publisher.events.clear()
        if virtual_s - told_s >= 600:
            told_s = virtual_s
            fds = len(os.listdir("/proc/self/fd"))
            print(
                f"{virtual_s / 3600:.2f} h in {time.monotonic() - began_s:.0f} s: {figures.faults} faults, "
                f"{world.books_compared:,} books, {resident_mib():.0f} MiB, {fds} fds, "
                f"worst {figures.worst_heal_s:.2f} s ({figures.slowest})",
                flush=True,
            )
    finish(world, figures)
    return figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=float, default=10.0, help="of virtual time")
    options.add_argument("--symbols", type=int, default=100)
    options.add_argument("--lines", type=int, default=2)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--rate", type=float, default=20.0, help="orders a second and symbol")
    options.add_argument("--pause", type=float, default=10.0, help="seconds between two faults")
    given = options.parse_args()
    print(run(given.hours, given.symbols, given.lines, given.seed, given.rate, given.pause))


if __name__ == "__main__":
    main()
