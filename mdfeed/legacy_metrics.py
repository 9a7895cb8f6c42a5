"""The ten metric names of the earlier service, for its dashboards (`metrics.legacy_names: true`).

Answers for what each of them counts here (docs/OPERATIONS.md has the table). What belongs to no symbol is said once,
under symbol="", so that sums over the symbols stay true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from mdfeed.metrics import US, Feed, Sink

BOUNDS_US = (1, 5, 10, 25, 50, 75, 100, 250, 500, 1000)
# The earlier service's word for a kind of frame; the others keep the venue's.
TYPES = {
    "depthUpdate": "orderbook",
    "partialDepth": "orderbook",
    "aggTrade": "trade",
    "trade": "trade",
    "24hrTicker": "ticker",
}


class LegacyMetrics:
    """A Part of FeedCollector. `published_of(symbol)` gives the publications of a symbol by type."""

    def __init__(self, feed: Feed, sink: Sink, published_of: Callable[[str], Mapping[str, int]]) -> None:
        self.feed = feed
        self.sink = sink
        self.published_of = published_of

    def pieces(self, size: int) -> Iterator[Iterable[Metric]]:
        """As FeedCollector.pieces."""
        tracks = list(self.feed.tracks.values())
        unknown = sum(self.feed.decode_errors.values()) - sum(track.errors for track in tracks)
        for at in range(0, max(len(tracks), 1), size):
            yield self.of_symbols(tracks[at : at + size], unknown if at + size >= len(tracks) else None)
        yield self.of_all()

    def of_symbols(self, tracks: Sequence[Any], unknown: int | None) -> Iterator[Metric]:
        """What is counted by symbol, and `unknown` errors, of no symbol that could be read, in the same family."""
        connected = GaugeMetricFamily(
            "websocket_connected", "1 while a connection carries the symbol's depth diffs.", labels=["symbol"]
        )
        counters = {
            "disconnects": counter("websocket_disconnects", "Times that no connection carried the symbol any more."),
            "messages": counter("messages_processed", "Frames of the symbol.", "type"),
            "errors": counter("messages_error", "Frames that could not be decoded."),
            "applied": counter("orderbook_updates", "Depth diffs that the book took."),
            "gaps": counter("sequence_errors", "Gaps in the ids of the depth diffs."),
            "trades": counter("trades_processed", "Trades, each once."),
            "published": counter("redis_publishes", "Publications handed to Redis.", "type"),
        }
        for track in tracks:
            own = [track.symbol]
            connected.add_metric(own, int(track.is_carried))
            for name in ("disconnects", "errors", "applied", "gaps", "trades"):
                counters[name].add_metric(own, getattr(track, name))
            add_by_type(counters["messages"], own, by_type(track.frames_by_kind))
            add_by_type(counters["published"], own, self.published_of(track.symbol))
        if unknown is not None:
            counters["errors"].add_metric([""], unknown)
        yield from (connected, *counters.values())

    def of_all(self) -> Iterator[Metric]:
        """What belongs to no symbol."""
        feed = self.feed
        refused = counter("redis_errors", "Error replies of Redis, of the whole daemon.")
        refused.add_metric([""], sum(self.sink.counters().get("errors", {}).values()))
        yield refused
        below = feed.processing.buckets([bound * US for bound in BOUNDS_US])
        buckets = [(str(float(bound)), count) for bound, count in zip(BOUNDS_US, below, strict=True)]
        took = HistogramMetricFamily(
            "processing_latency_microseconds",
            "Start of a frame's turn to its bytes ready, of the whole feed.",
            labels=["symbol"],
        )
        took.add_metric([""], [*buckets, ("+Inf", feed.processing.count)], feed.processing.sum_ns / US)
        yield took


def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=["symbol", *labels])


def by_type(frames: Mapping[str, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind, count in frames.items():
        name = TYPES.get(kind, kind)
        counts[name] = counts.get(name, 0) + count
    return counts


def add_by_type(family: CounterMetricFamily, own: list[str], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        family.add_metric([*own, name], count)
