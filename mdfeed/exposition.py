"""The Prometheus text of a collector, written a piece at a time so that a scrape never holds the event loop.

Answers for: text format 0.0.4 and turns of the loop. Refuses to know: names and values (metrics.py), HTTP.
"""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from mdfeed.metrics import FeedCollector
from mdfeed.process import ProcessFigures

# About 36 samples each, 3 us a sample: well below the 2 ms that a scrape may hold the loop.
SYMBOLS_A_TURN = 6
STARTS_KEPT = 50_000  # samples whose name and labels are remembered; symbols and reasons come and go


class Exposition:
    """`render()` is what /metrics answers: the feed's families and process_*.

    The text is generate_latest's of the registry, byte for byte, but it is written in pieces with the event loop's
    turns between them, and each sample's name and labels are put together once.
    """

    def __init__(self, collector: FeedCollector) -> None:
        self.collector = collector
        self.registry = CollectorRegistry()
        self.registry.register(collector)
        self.process = ProcessFigures()
        self.registry.register(self.process)
        self._starts: dict[tuple[str, ...], str] = {}

    async def render(self) -> bytes:
        families: dict[str, list[str]] = {}
        for piece in (*self.collector.pieces(SYMBOLS_A_TURN), self.process.collect()):
            for metric in piece:
                lines = families.get(metric.name)
                if lines is None:
                    lines = families[metric.name] = [head_of(metric)]
                lines += [self.start_of(sample) + value_of(sample) + "\n" for sample in metric.samples]
            await asyncio.sleep(0)
        return "".join(line for lines in families.values() for line in lines).encode()

    def start_of(self, sample: Sample) -> str:
        """A sample's line up to its value."""
        key = (sample.name, *sample.labels.values())
        start = self._starts.get(key)
        if start is None:
            if len(self._starts) >= STARTS_KEPT:
                self._starts.clear()
            labels = ",".join(f'{name}="{escaped(value)}"' for name, value in sorted(sample.labels.items()))
            start = self._starts[key] = f"{sample.name}{{{labels}}} " if labels else f"{sample.name} "
        return start


def head_of(metric: Metric) -> str:
    """HELP and TYPE, in which a counter has the name of its samples."""
    name = metric.name + "_total" if metric.type == "counter" else metric.name
    text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n"


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def value_of(sample: Sample) -> str:
    return str(floatToGoString(sample.value))  # type: ignore[no-untyped-call]
