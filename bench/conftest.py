"""What the benches share: frames, the C loops, the twin, and the table of both sides at the end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from types import ModuleType
from typing import Any

import pytest

from bench.frames import Frames, load_frames, make_frames
from bench.native import load_loops
from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed._parse import Instruments

ROUNDS = 3
SIDES = ("mdfeed", "twin")
RESULTS: dict[tuple[str, str], dict[str, float]] = {}


@pytest.fixture(scope="session")
def loops() -> ModuleType:
    return load_loops()


@pytest.fixture(scope="session", params=["captured", "made68"])
def frames(request: pytest.FixtureRequest) -> Frames:
    """Real frames (self-made ones without the captures), and self-made ones of 68 levels a diff."""
    n = 5_000 if request.config.getoption("benchmark_disable") else 100_000
    return load_frames(n) if request.param == "captured" else make_frames(min(n, 10_000))


@pytest.fixture(scope="session")
def digits(frames: Frames) -> tuple[int, int]:
    """Decimal digits that the frames need: learned by a feed."""
    feed = Feed(venues.get("binance-usdm"))
    feed.add(frames.symbol)
    feed.snapshot(frames.symbol, "capture", 1000, frames.snapshot, 1)
    line = feed.open_line("bench")
    for frame in frames.all:
        feed.receive(line, frame, 1)
    return feed.instruments.digits(0)


@pytest.fixture
def make_decoder(frames: Frames, digits: tuple[int, int]) -> Callable[[], Any]:
    def make() -> Any:
        instruments = Instruments()
        instruments.add(frames.symbol, *digits)
        return venues.get("binance-usdm").decoder(instruments)

    return make


@pytest.fixture
def padded(loops: ModuleType) -> Callable[[tuple[bytes, ...]], list[bytes]]:
    """Frames as the transport holds them: readable bytes behind the text."""
    return lambda frames: [frame + bytes(loops.PADDING_BYTES) for frame in frames]


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs rounds of `once(prepare())`, which returns raw ns a frame, and reports their quantiles."""

    def run(stage: str, side: str, prepare: Callable[[], Any], once: Callable[[Any], list[int]], levels: int) -> None:
        benchmark.group = stage
        passes: list[list[int]] = []
        benchmark.pedantic(lambda state: passes.append(once(state)), setup=lambda: ((prepare(),), {}), rounds=ROUNDS)
        raw = sorted(chain.from_iterable(passes))
        # Each frame's least disturbed pass, for both sides: what the rest of the machine takes is neither's cost.
        best = sum(map(min, zip(*passes, strict=True)))
        count = len(passes[0])
        figures = {"frames": count, "mean_us": best / count / 1000, "ns_per_level": best / levels}
        for name, q in (("p50_us", 0.5), ("p99_us", 0.99), ("p99_9_us", 0.999)):
            figures[name] = raw[min(len(raw) - 1, int(q * len(raw)))] / 1000
        benchmark.extra_info.update({name: round(value, 3) for name, value in figures.items()})
        RESULTS[stage, side] = figures

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    stages = sorted({stage for stage, _ in RESULTS})
    if not stages:
        return
    terminalreporter.section("mdfeed beside its plain-Python twin (raw rounds, us a frame)")
    head = (
        f"{'stage':<26}{'side':<8}{'frames':>8}{'mean':>9}{'p50':>9}{'p99':>9}{'p99.9':>9}{'ns/level':>10}{'ratio':>8}"
    )
    terminalreporter.write_line(head)
    for stage in stages:
        for side in SIDES:
            row = RESULTS.get((stage, side))
            if row is None:
                continue
            twin = RESULTS.get((stage, "twin"))
            ratio = f"{twin['mean_us'] / row['mean_us']:.1f}" if twin and side == "mdfeed" else ""
            terminalreporter.write_line(
                f"{stage:<26}{side:<8}{row['frames']:>8.0f}{row['mean_us']:>9.2f}{row['p50_us']:>9.2f}"
                f"{row['p99_us']:>9.2f}{row['p99_9_us']:>9.2f}{row['ns_per_level']:>10.1f}{ratio:>8}"
            )
