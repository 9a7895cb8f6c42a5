"""One fault, or a sequence of them, in a FaultWorld: what happened, and whether all of it healed in time."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from mdfeed.exchange.garbling import Meaning
from mdfeed.exchange.script import Fault
from mdfeed.exchange.spec import parse
from tests.faults.matrix import CASES, Case
from tests.faults.world import FaultWorld
from tests.virtual import S

HEAL_S = 5.0
COSTS = ("nothing", "proof", "books")  # the worst last
LONGEST_S = 200.0  # any wait of ours included: a 403 keeps us away for a minute, a lost symbol's retries for half


@dataclass
class Figures:
    """Sums over trials, for people."""

    faults: int = 0
    idle: int = 0  # that found nothing to act on
    frames: int = 0
    books: int = 0
    levels: int = 0
    thin: int = 0
    trades: int = 0
    filled: int = 0
    holes: int = 0
    worst_heal_s: float = 0.0
    worst_wait_s: float = 0.0
    slowest: str = ""
    grown: str = ""  # what of the process did, if anything

    @classmethod
    def sum(cls, parts: Iterable[Figures]) -> Figures:
        """Of several worlds."""
        total = cls()
        for part in parts:
            for name in ("faults", "idle", "frames", "books", "levels", "thin", "trades", "filled", "holes"):
                setattr(total, name, getattr(total, name) + getattr(part, name))
            total.worst_wait_s = max(total.worst_wait_s, part.worst_wait_s)
            if part.worst_heal_s >= total.worst_heal_s:
                total.worst_heal_s, total.slowest = part.worst_heal_s, part.slowest
        return total

    def take(self, world: FaultWorld) -> None:
        self.frames += world.frames()
        self.books += world.comparer.books
        self.levels += world.comparer.levels
        self.thin += world.comparer.thin
        self.trades += world.comparer.trades
        self.filled += world.backfill.filled
        self.holes += world.comparer.trades_missing()

    def __str__(self) -> str:
        return (
            f"{self.faults} faults ({self.idle} found nothing to do), {self.frames:,} frames, {self.books:,} books and "
            f"tops compared on {self.levels:,} levels ({self.thin:,} times fewer than there are), none wrong; "
            f"{self.trades:,} trades, none twice, {self.filled:,} asked for anew, {self.holes:,} lost to faults and "
            f"counted; longest from first attempt to proof {self.worst_heal_s:.2f} s ({self.slowest}), longest until "
            f"that attempt {self.worst_wait_s:.1f} s"
        )


def faults_of(case: Case, symbol: str) -> list[Fault]:
    return [parse(spec.format(SYM=symbol, sym=symbol.lower())) for spec in case.specs]


def inflict(world: FaultWorld, case: Case, symbol: str, figures: Figures) -> dict[str, str]:
    """Let one fault happen and heal. Returns the states that books were in when it ended."""
    lost = case.symbol_lost.format(SYM=symbol)
    faults = faults_of(case, symbol)
    world.connects.clear()
    world.requests.clear()
    world.comparer.is_bbo_foreign = any(isinstance(fault, Meaning) for fault in faults)
    for fault in faults:
        world.script.add(fault)
    world.run(case.lasts_s)
    states = {name: track.state for name, track in world.feed.tracks.items()}
    for fault in faults:
        fault.stop()
    # In a sequence it may be that nobody asked in the time in which REST was to refuse.
    figures.idle += not faults[0].count and case.name != "no ping"
    ended_ns = world.now_ns
    healed: dict[str, int] = {}
    while True:
        world.run(0.1)
        unproved = {name for name in world.unproved() if name != lost}
        for name in world.feed.tracks:
            if name in unproved:
                healed.pop(name, None)
            else:
                healed.setdefault(name, world.now_ns)
        waited_s = (world.now_ns - ended_ns) / 1e9
        if not unproved and not world.missing_lines() and waited_s >= case.shows_s:
            break
        limit_s = LONGEST_S
        assert waited_s < limit_s, f"{case.name}: still {describe(world, unproved)}"
    for fault in faults:
        world.script.remove(fault)
    world.comparer.is_bbo_foreign = False
    figures.faults += 1
    judge(world, case, ended_ns, healed, figures)
    return states


def judge(world: FaultWorld, case: Case, ended_ns: int, healed: dict[str, int], figures: Figures) -> None:
    """Each symbol healed within 5 s of the first attempt that it could be healed by."""
    connects = [at_ns for at_ns, _ in world.connects if at_ns >= ended_ns]
    for symbol, healed_ns in healed.items():
        # What is asked for before a line is there cannot heal anything yet.
        first_ns = max(ended_ns, connects[0] if connects else 0)
        first_ns = next((at_ns for at_ns in world.requests[symbol] if at_ns >= first_ns), first_ns)
        if first_ns > healed_ns:
            continue  # a later wish: the horizon, say
        took_s = (healed_ns - first_ns) / S
        figures.worst_wait_s = max(figures.worst_wait_s, (first_ns - ended_ns) / S)
        if took_s > figures.worst_heal_s:
            figures.worst_heal_s, figures.slowest = took_s, case.name
        assert took_s <= HEAL_S, (
            f"{case.name}: {symbol} took {took_s:.2f} s after the first attempt, {(first_ns - ended_ns) / S:.2f} s "
            f"after the end\n{history(world, symbol, ended_ns)}"
        )


def history(world: FaultWorld, symbol: str, ended_ns: int) -> str:
    """What happened to a symbol, in seconds from a fault's end: for the message of a failure."""
    ours_ns = world.ours(ended_ns)
    told = [(at.at_ns - ours_ns, f"{at.kind} {at.detail}") for at in world.feed.publisher.events if at.symbol == symbol]
    told += [(at_ns - ended_ns, "asks for a snapshot") for at_ns in world.requests[symbol]]
    told += [(at_ns - ended_ns, f"line {number} is open") for at_ns, number in world.connects]
    return "\n".join(f"{at_ns / S:9.3f} {what}" for at_ns, what in sorted(told)[-40:])


def describe(world: FaultWorld, symbols: set[str]) -> str:
    tracks = world.feed.tracks
    said = [f"{symbol} {tracks[symbol].state} ({tracks[symbol].reason})" for symbol in sorted(symbols)[:4]]
    return f"{len(symbols)} symbols: {', '.join(said)}; lines missing: {world.missing_lines()}"


def settle(world: FaultWorld, within_s: float = 60.0) -> None:
    """From the start to all books proved."""
    end_ns = world.now_ns + round(within_s * S)
    while world.unproved():
        assert world.now_ns < end_ns, describe(world, set(world.unproved()))
        world.run(0.25)


def finish(world: FaultWorld, figures: Figures) -> None:
    """What must hold at the end of any history."""
    assert world.comparer.wrong == []
    assert world.comparer.trades_missing() == world.trades_counted_missing()
    figures.take(world)
    world.end()


def draw_case(draw: random.Random, pairs: float = 0.0) -> Case:
    """Any fault that leaves the world as it was; two at once in a share of `pairs`."""
    cases = [case for case in CASES if case.is_virtual and not case.symbol_lost]
    if draw.random() >= pairs:
        return draw.choice(cases)
    return both(*draw.sample(cases, 2))


def both(one: Case, other: Case) -> Case:
    """Two faults at once."""
    return Case(
        f"{one.name} + {other.name}",
        one.specs + other.specs,
        max(one.costs, other.costs, key=COSTS.index),
        max(one.lasts_s, other.lasts_s),
        max(one.shows_s, other.shows_s),
        one.is_long or other.is_long,
    )
