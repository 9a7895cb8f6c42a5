"""Rates and recent quantiles out of counters that only rise, for whoever looks at them once a second.

Answers for: differences between two looks. Refuses to know: clocks (the time is an argument) and what is counted.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from mdfeed._stats import Histogram

SECOND_S = 1.0
RECENT_S = 10
QUANTILES = {"p50_us": 0.5, "p99_us": 0.99, "p99_9_us": 0.999}
# About 9 % apart, from 0.5 us to 10 s.
BOUNDS_NS = [int(500 * 2 ** (step / 8)) for step in range(196)]


class Rate:
    """Events a second of a rising counter, over the last second or so."""

    def __init__(self) -> None:
        self._at_s = 0.0
        self._count = 0
        self.per_s: float | None = None

    def __call__(self, count: int, now_s: float) -> float | None:
        """The rate; None until a second has passed."""
        elapsed_s = now_s - self._at_s
        if not self._at_s or elapsed_s > 5 * SECOND_S:  # nobody has looked for a while
            self._at_s, self._count, self.per_s = now_s, count, None
        elif elapsed_s >= SECOND_S:
            self.per_s = round((count - self._count) / elapsed_s, 1)
            self._at_s, self._count = now_s, count
        return self.per_s


class Recent:
    """Quantiles of what a histogram has taken in the last RECENT_S seconds."""

    def __init__(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self._counts: deque[list[int]] = deque(maxlen=RECENT_S + 1)

    def forget(self) -> None:
        self._counts.clear()

    def summary(self) -> dict[str, Any]:
        """Call it once a second. Microseconds; null without a record."""
        self._counts.append(self.histogram.buckets(BOUNDS_NS))
        taken = [new - old for new, old in zip(self._counts[-1], self._counts[0], strict=True)]
        count = taken[-1]
        found: dict[str, Any] = {"count": count}
        for name, q in QUANTILES.items():
            at = next((i for i, below in enumerate(taken) if count and below >= q * count), None)
            found[name] = None if at is None else round(BOUNDS_NS[at] / 1000, 1)
        return found


def since_start(histogram: Histogram) -> dict[str, Any]:
    """Microseconds; null without a record."""
    found: dict[str, Any] = {"count": histogram.count}
    for name, q in QUANTILES.items():
        found[name] = round(histogram.quantile(q) / 1000, 1) if histogram.count else None
    return found | {"max_us": round(histogram.max_ns / 1000, 1) if histogram.count else None}
