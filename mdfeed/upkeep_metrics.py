"""The metrics of what mends the feed: request weight, snapshots by source, missed trades, 24 h figures, forensics; and
what the symbols hold in memory.

Answers for names, labels and units. Refuses to know who counts, as metrics.py does, whose collector gives them out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mdfeed.metrics import Feed, counted, gauge

PARTS = ("books", "windows", "proofs", "buffers")


class UpkeepMetrics:
    """The families of an Upkeep (`upkeep.py`) and of its feed's memory; a Part of FeedCollector."""

    def __init__(self, feed: Feed, upkeep: Any, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.feed = feed
        self.upkeep = upkeep
        self.now_ns = now_ns

    def pieces(self, size: int) -> Iterator[Iterable[Metric]]:
        """As FeedCollector.pieces."""
        yield self.of_weight()
        yield self.of_snapshots()
        yield self.of_trades_and_figures()
        held: Counter[str] = Counter(dict.fromkeys(PARTS, 0))
        missing = 0
        tracks = list(self.feed.tracks.values())
        for at in range(0, len(tracks), size):
            for track in tracks[at : at + size]:
                held.update(track.memory_bytes)
                missing += track.tape.missing
            yield ()
        memory = GaugeMetricFamily(
            "mdfeed_memory_bytes", "Held for all symbols together, by what for.", labels=["part"]
        )
        for part, count in held.items():
            memory.add_metric([part], count)
        yield (
            memory,
            gauge("mdfeed_backfill_missing_trades", "Trade ids inside steps that may still be filled.", missing),
        )

    def of_weight(self) -> Iterator[Metric]:
        """The venue's request weight and whether it lets us ask."""
        rest, governor = self.upkeep.rest, self.upkeep.governor
        yield gauge(
            "mdfeed_rest_weight_used", "Request weight used in the venue's current minute.", governor.weight_used
        )
        yield gauge("mdfeed_rest_weight_limit", "Request weight that the venue allows a minute.", governor.limit)
        yield gauge(
            "mdfeed_rest_blocked_seconds",
            "Until the venue lets us ask again (Retry-After, a ban), or we ask a refusing host again.",
            max(0, rest.blocked_until - self.now_ns()) / 1e9,
        )
        yield counted(
            "mdfeed_rest_weight_spent",
            "Request weight spent, by what for.",
            ["venue", "purpose"],
            [self.feed.venue],
            governor.spent,
        )

    def of_snapshots(self) -> Iterator[Metric]:
        """Snapshots by where they came from and what became of them."""
        snapshots = self.upkeep.snapshots
        outcomes = CounterMetricFamily(
            "mdfeed_snapshots",
            "Snapshots asked for, by source and outcome.",
            labels=["venue", "source", "outcome"],
        )
        usable = GaugeMetricFamily(
            "mdfeed_snapshot_source_up",
            "1 for a source of snapshots without trouble.",
            labels=["venue", "source"],
        )
        for rung in snapshots.rungs:
            usable.add_metric([self.feed.venue, rung.name], int(not rung.trouble))
            for outcome, count in rung.outcomes.items():
                outcomes.add_metric([self.feed.venue, rung.name, outcome], count)
        yield outcomes
        yield usable
        yield gauge(
            "mdfeed_partial_depth_symbols",
            "Symbols that partial depth streams are asked for, for want of snapshots.",
            len(snapshots.partials),
        )

    def of_trades_and_figures(self) -> Iterator[Metric]:
        """Missed trades, 24 h figures and forensic files."""
        backfill, forensics, venue = self.upkeep.backfill, self.upkeep.forensics, self.feed.venue
        yield counted(
            "mdfeed_backfill_requests",
            "Requests for missed trades, by outcome.",
            ["venue", "outcome"],
            [venue],
            backfill.outcomes,
        )
        yield counted(
            "mdfeed_backfill_trades",
            "Missed trades, by what became of them.",
            ["venue", "result"],
            [venue],
            {"filled": backfill.filled, "lost": backfill.lost},
        )
        yield counted(
            "mdfeed_figures_requests",
            "Requests for 24 h figures, by outcome.",
            ["venue", "outcome"],
            [venue],
            self.upkeep.figures.outcomes,
        )
        files = {"written": forensics.written, "failed": forensics.failed} if forensics is not None else {}
        yield counted(
            "mdfeed_forensics_files", "Files about contradicted books, by outcome.", ["venue", "result"], [venue], files
        )
