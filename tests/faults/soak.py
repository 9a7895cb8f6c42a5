"""Hours of faults on virtual time: `python -m tests.faults.soak --hours 10 --symbols 104`.

One fault after the other, or two at once, drawn by chance from the whole matrix; everything that is published is
compared. A world with one line and one with two share the hours, each in a process of its own. Every ten minutes of
virtual time a line says what was compared, with memory and file descriptors; the last line has the sums. Ends with 1 at
the first thing that is wrong, that does not heal in time, or when memory or file descriptors grow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from functools import partial

from mdfeed.exchange.market import START_NS
from mdfeed.exchange.profiles import symbol_names
from tests.faults.growth import Growth
from tests.faults.trial import Figures, draw_case, finish, inflict, settle
from tests.faults.world import FaultWorld
from tests.virtual import S

TOLD_S = 600.0
FILLED_H = 1.5  # the market's own bounded memory is full by then, and what still grows is a leak
CALM_RATE = 3.0  # orders a second and symbol between the faults


def run(lines: int, *, hours: float, count: int, seed: int, rate: float, pause_s: float, pairs: float) -> Figures:
    """`pause_s` of calm between two faults, so that the venue's weight is not what is measured."""
    draw = random.Random(f"{seed}:{lines}")
    figures = Figures()
    symbols = symbol_names(count)
    world = FaultWorld(symbols, lines=lines, seed=seed, rate=rate, levels=150, snapshot_limit=100)
    settle(world)
    growth = Growth(room_mib=48.0)  # of a hundred markets; what leaks with each fault and symbol is far more
    began_s, told_s = time.monotonic(), 0.0
    while (virtual_s := (world.now_ns - START_NS) / S) < hours * 3600:
        world.market.set_rate(rate)
        inflict(world, draw_case(draw, pairs), draw.choice(symbols), figures)
        world.market.set_rate(min(rate, CALM_RATE))
        world.run(pause_s)
        world.feed.publisher.events.clear()
        growth.look(virtual_s / (hours * 3600))
        if virtual_s - told_s >= TOLD_S:
            told_s = virtual_s
            print(
                f"{lines} line{'s' * (lines > 1)}: {virtual_s / 3600:.2f} h in {time.monotonic() - began_s:.0f} s: "
                f"{figures.faults} faults, {world.comparer.books:,} books and tops, {growth}, "
                f"worst heal {figures.worst_heal_s:.2f} s ({figures.slowest})",
                flush=True,
            )
    finish(world, figures)
    figures.grown = growth.verdict() if hours / 3 > FILLED_H else ""
    return figures


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=float, default=10.0, help="of virtual time, over all worlds")
    options.add_argument("--symbols", type=int, default=104)
    options.add_argument("--lines", choices=("1", "2", "both"), default="both", help="redundant lines of a world")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--rate", type=float, default=12.0, help="orders a second and symbol while faults act")
    options.add_argument("--pause", type=float, default=10.0, help="seconds between two faults")
    options.add_argument("--pairs", type=float, default=0.3, help="share of two faults at once")
    given = options.parse_args()
    worlds = [1, 2] if given.lines == "both" else [int(given.lines)]
    one = partial(
        run,
        hours=given.hours / len(worlds),
        count=given.symbols,
        seed=given.seed,
        rate=given.rate,
        pause_s=given.pause,
        pairs=given.pairs,
    )
    with ProcessPoolExecutor(len(worlds), mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(one, lines) for lines in worlds]
        wait(parts, return_when=FIRST_EXCEPTION)
        failed = next((part.exception() for part in parts if part.done() and part.exception()), None)
        if failed is not None:
            for process in multiprocessing.active_children():
                process.terminate()
            print(f"soak: {failed}")
            return 1
        found = [part.result() for part in parts]
    is_long = given.hours / len(worlds) / 3 > FILLED_H
    flat = "memory and descriptors are flat" if is_long else "too short to judge memory by"
    for lines, figures in zip(worlds, found, strict=True):
        print(f"soak, {lines} line{'s' * (lines > 1)}: {figures}; {figures.grown or flat}")
    total = Figures.sum(found)
    print(f"soak, {given.hours:g} h: {total}")
    return 1 if any(figures.grown for figures in found) else 0


if __name__ == "__main__":
    sys.exit(main())
