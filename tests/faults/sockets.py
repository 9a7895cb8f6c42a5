"""The matrix over real sockets: `python -m tests.faults.sockets --seconds 3600 --transport both --lines both`.

Faults of the venue and of the network one after the other (the whole matrix, then drawn by chance, some in pairs, until
the time is over), for each transport with one line and with two redundant ones. The last line has what was compared.
Ends with 1 at the first wrong book, double trade, fault that does not heal within 5 s, or when the daemon's memory or
descriptors grow.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mdfeed.exchange.profiles import symbol_names
from tests.faults.growth import Growth
from tests.faults.matrix import CASES, Case
from tests.faults.network import NETWORK, Trouble
from tests.faults.rig import Rig, rigged
from tests.faults.trial import Figures, both

TOLD_S = 60.0
PAIRS = 0.4


def faults(*, is_tls: bool) -> list[Case | Trouble]:
    """All that heals by itself."""
    cases = [case for case in CASES if not case.symbol_lost]
    return [*cases, *(trouble for trouble in NETWORK if is_tls or not trouble.is_tls)]


def quick_faults(part: int, parts: int, *, is_tls: bool = False) -> list[Case | Trouble]:
    """A share of those that show and heal within a few seconds."""
    quick = [one for one in faults(is_tls=is_tls) if isinstance(one, Trouble) or not one.is_long]
    return [shortened(one) for one in quick[part::parts]]


def shortened(one: Case | Trouble) -> Case | Trouble:
    # What is done to REST needs the time in which a snapshot is asked for.
    if isinstance(one, Trouble) or one.specs[0].startswith(("rest", "slow", "stale")):
        return one
    return one._replace(lasts_s=min(one.lasts_s, 0.7))


def drawn(draw: random.Random, whole: Sequence[Case | Trouble]) -> Case | Trouble:
    """Any of them; sometimes two at once, where both are the venue's."""
    one, other = draw.sample(whole, 2)
    is_pair = isinstance(one, Case) and isinstance(other, Case) and draw.random() < PAIRS
    return both(one, other) if is_pair else one  # type: ignore[arg-type]


def figures_of(rig: Rig) -> Figures:
    comparer = rig.consumer.comparer
    return Figures(
        faults=rig.faults,
        books=comparer.books,
        levels=comparer.levels,
        thin=comparer.thin,
        trades=comparer.trades,
        holes=comparer.trades_missing(),
        worst_heal_s=rig.worst_heal_s,
        slowest=rig.slowest,
    )


async def run(
    folder: Path, transport: str, lines: int, *, count: int, seed: int, seconds: float, rate: float, is_tls: bool
) -> Figures:
    """The matrix, then chance until `seconds` are over."""
    draw = random.Random(f"{seed}:{transport}:{lines}")
    symbols = symbol_names(count)
    began_s = told_s = time.monotonic()
    name = f"{transport}, {lines} line{'s' * (lines > 1)}"
    async with rigged(folder, transport, symbols, seed=seed, rate=rate, lines=lines, is_tls=is_tls) as rig:
        growth = Growth(pid=rig.daemon.process.pid)
        whole = faults(is_tls=is_tls)
        todo = draw.sample(whole, len(whole))
        while (now_s := time.monotonic()) < began_s + seconds:
            one = todo.pop() if todo else drawn(draw, whole)
            await rig.suffer(one, draw.choice(symbols))
            growth.look((now_s - began_s) / seconds)
            if now_s - told_s >= TOLD_S:
                told_s = now_s
                print(f"{name}: {now_s - began_s:.0f} s: {rig}; daemon: {growth}", flush=True)
        print(f"{name}: {rig}; daemon: {growth}", flush=True)
        figures = figures_of(rig)
        figures.grown = growth.verdict()
        return figures


async def run_all(given: argparse.Namespace) -> int:
    transports: Sequence[str] = ("picows", "websockets") if given.transport == "both" else (given.transport,)
    lines: Sequence[int] = (1, 2) if given.lines == "both" else (int(given.lines),)
    forms = [(transport, count) for transport in transports for count in lines]
    found: list[Figures] = []
    for transport, count in forms:
        with tempfile.TemporaryDirectory() as folder:
            found.append(
                await run(
                    Path(folder),
                    transport,
                    count,
                    count=given.symbols,
                    seed=given.seed,
                    seconds=given.seconds / len(forms),
                    rate=given.rate,
                    is_tls=given.tls,
                )
            )
    grown = "; ".join(filter(None, (figures.grown for figures in found)))
    print(f"sockets, {given.seconds:g} s: {Figures.sum(found)}; {grown or 'memory and descriptors are flat'}")
    return 1 if grown else 0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=3600.0, help="over all forms")
    options.add_argument("--transport", choices=("picows", "websockets", "both"), default="both")
    options.add_argument("--lines", choices=("1", "2", "both"), default="both", help="redundant lines")
    options.add_argument("--symbols", type=int, default=100)
    options.add_argument("--rate", type=float, default=12.0, help="orders a second and symbol")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--tls", action="store_true", help="the venue speaks TLS, and it breaks")
    return asyncio.run(run_all(options.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
