"""Prometheus exposition: a collector that reads plain counters when it is scraped, so a frame pays nothing for it.

Answers for: names, types, labels and units (CONTRACT 6). Refuses to know: who counts, and when; every source is a
plain object whose attributes are read here (the protocols below say which).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mdfeed._parse import WHY
from mdfeed.lasting import faults

STATES = ("COLD", "SYNCING", "LIVE", "PROVED", "STALE", "SUSPECT")
# Known reasons have a sample from the start, or the first event would be no increase.
NO_DECODE_ERRORS = dict.fromkeys(WHY[WHY.index("empty") :], 0)
NO_RESYNCS = dict.fromkeys(
    ("gap", "crossed", "proof_mismatch", "ids_restarted", "depth_silent", "silent", "line_lost", "buffer_full"), 0
)
NO_RECONNECTS = dict.fromkeys(
    (
        *("closed", "reset", "silent", "policy", "refused", "timeout", "dns", "tls", "unreachable", "server_error"),
        *("rate_limited", "banned", "forbidden", "geo_blocked"),
    ),
    0,
)
QUANTILES = (0.5, 0.99, 0.999)
US = 1_000
BOUNDS_NS = [
    n * US for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 250_000, 1_000_000)
]


class Histogram(Protocol):
    """What is read of `_stats.Histogram`; nanoseconds."""

    @property
    def count(self) -> int: ...
    @property
    def sum_ns(self) -> int: ...
    def quantile(self, q: float, /) -> float: ...
    def buckets(self, bounds_ns: Sequence[int], /) -> Sequence[int]: ...


class Feed(Protocol):
    """What is read of the heart; `tracks` by symbol, see FeedCollector.of_books for theirs."""

    @property
    def venue(self) -> str: ...
    @property
    def tracks(self) -> Mapping[str, Any]: ...
    @property
    def frames_by_kind(self) -> Mapping[str, int]: ...
    @property
    def frame_bytes(self) -> int: ...
    @property
    def decode_errors(self) -> Mapping[str, int]: ...
    @property
    def ignored(self) -> Mapping[str, int]: ...
    @property
    def processing(self) -> Histogram: ...
    @property
    def receive_to_write(self) -> Histogram: ...
    @property
    def races(self) -> Mapping[str, Any]: ...
    @property
    def clock_offset_ns(self) -> int: ...


class Line(Protocol):
    """What is read of a line; `reconnects` and `rollovers` by reason."""

    @property
    def name(self) -> str: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def reconnects(self) -> Mapping[str, int]: ...
    @property
    def rollovers(self) -> Mapping[str, int]: ...


class Sink(Protocol):
    """What is read of a sink."""

    @property
    def name(self) -> str: ...
    @property
    def is_connected(self) -> bool: ...
    def counters(self) -> Mapping[str, Any]:
        """published {kind: n}, dropped {reason: n}, errors {code: n}, buffer_bytes, reconnects."""


class Part(Protocol):
    """Families of another module, given out with the collector's own."""

    def pieces(self, size: int, /) -> Iterator[Iterable[Metric]]:
        """As FeedCollector.pieces."""


class LoopLag:
    """How late the event loop runs a timer: the worst of the last PERIOD_S to twice that, in seconds."""

    STEP_S = 0.25
    PERIOD_S = 15.0

    def __init__(self) -> None:
        self._worst_s = 0.0
        self._worst_before_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def worst_s(self) -> float:
        return max(self._worst_s, self._worst_before_s)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._measure(), name="loop lag")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        period_end = loop.time() + self.PERIOD_S
        while True:
            due = loop.time() + self.STEP_S
            await asyncio.sleep(self.STEP_S)
            now = loop.time()
            if now >= period_end:
                self._worst_before_s, self._worst_s = self._worst_s, 0.0
                period_end = now + self.PERIOD_S
            self._worst_s = max(self._worst_s, now - due)


def package_version() -> str:
    try:
        return installed_version("mdfeed")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


class FeedCollector(Collector):
    """Everything of CONTRACT 6 that exists so far, read at scrape time."""

    def __init__(
        self,
        feed: Feed,
        lines: Iterable[Line] = (),
        sinks: Iterable[Sink] = (),
        lag: LoopLag | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        more: Sequence[Part] = (),
    ) -> None:
        self.feed = feed
        self.lines = lines
        self.sinks = sinks
        self.lag = lag
        self.now_ns = now_ns
        self.more = more

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry need not scrape once just to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        tracks = list(self.feed.tracks.values())
        for piece in self.pieces(max(len(tracks), 1)):
            yield from piece

    def pieces(self, size: int) -> Iterator[Iterable[Metric]]:
        """What collect() gives, in pieces of at most `size` symbols: a family then comes once a piece."""
        tracks = list(self.feed.tracks.values())
        yield self.of_frames()
        for at in range(0, max(len(tracks), 1), size):
            yield self.of_books(tracks[at : at + size])
        yield self.of_latency()
        yield self.of_lines()
        yield self.of_sinks()
        yield self.of_process()
        for part in self.more:
            yield from part.pieces(size)

    def of_process(self) -> Iterator[Metric]:
        """Ourselves: loop, clock, build."""
        if self.lag is not None:
            yield gauge(
                "mdfeed_event_loop_lag_seconds", "Worst lateness of a timer in the last 15 to 30 s.", self.lag.worst_s
            )
        yield gauge(
            "mdfeed_clock_offset_seconds",
            "The venue's clock less ours, as estimated from event times and requests.",
            self.feed.clock_offset_ns / 1e9,
        )
        yield counted("mdfeed_task_faults", "Faults of ours after which a task was begun anew.", ["task"], [], faults)
        info = GaugeMetricFamily("mdfeed_build_info", "1; the version is the label.", labels=["version"])
        info.add_metric([package_version()], 1)
        yield info

    def of_frames(self) -> Iterator[Metric]:
        feed, labels = self.feed, ["venue"]
        yield counted(
            "mdfeed_frames", "Frames decoded, by channel.", [*labels, "channel"], [feed.venue], feed.frames_by_kind
        )
        yield counted(
            "mdfeed_frames_ignored",
            "Legal frames that are not for us, by why.",
            [*labels, "reason"],
            [feed.venue],
            feed.ignored,
        )
        yield counted(
            "mdfeed_decode_errors",
            "Frames that are not what the venue documents, by why.",
            [*labels, "reason"],
            [feed.venue],
            NO_DECODE_ERRORS | dict(feed.decode_errors),
        )
        size = CounterMetricFamily("mdfeed_frame_bytes", "Payload bytes of all frames.", labels=labels)
        size.add_metric([feed.venue], feed.frame_bytes)
        yield size

    def of_books(self, tracks: Sequence[Any]) -> Iterator[Metric]:
        labels = ["venue", "symbol"]
        updates = CounterMetricFamily(
            "mdfeed_book_updates", "Depth diffs, by what became of them.", labels=[*labels, "result"]
        )
        state = GaugeMetricFamily(
            "mdfeed_book_state", "1 for the state the book is in, else 0.", labels=[*labels, "state"]
        )
        proof = CounterMetricFamily(
            "mdfeed_book_proof", "Comparisons with the venue's own best bid and ask.", labels=[*labels, "result"]
        )
        levels = GaugeMetricFamily("mdfeed_book_levels", "Levels held, by side.", labels=[*labels, "side"])
        resyncs = CounterMetricFamily("mdfeed_book_resyncs", "Books started over, by why.", labels=[*labels, "reason"])
        crossed = CounterMetricFamily(
            "mdfeed_book_crossed", "Updates and tickers with bid >= ask; never published.", labels=labels
        )
        trades = CounterMetricFamily("mdfeed_trades", "Trades received.", labels=labels)
        trade_gaps = CounterMetricFamily("mdfeed_trade_gaps", "Steps in the venue's trade ids.", labels=labels)
        age = GaugeMetricFamily("mdfeed_last_update_age_seconds", "Since the last frame of the symbol.", labels=labels)
        delay = GaugeMetricFamily(
            "mdfeed_venue_delay_seconds", "From the venue's event time to our receipt.", labels=labels
        )
        interval = GaugeMetricFamily(
            "mdfeed_frame_interval_seconds", "Learned: mean time between two frames of the symbol.", labels=labels
        )
        patience = GaugeMetricFamily(
            "mdfeed_silence_limit_seconds", "A symbol that is silent for so long becomes STALE.", labels=labels
        )
        ghosts = CounterMetricFamily(
            "mdfeed_book_ghost_levels", "Levels in which a later snapshot contradicted the book.", labels=labels
        )
        dropped = CounterMetricFamily(
            "mdfeed_book_dropped_levels", "Levels dropped at book.max_levels, farthest first.", labels=labels
        )
        error = GaugeMetricFamily(
            "mdfeed_day_error_ratio",
            "Our 24 h figure less that of the venue's newest ticker, as a share of it.",
            labels=[*labels, "figure"],
        )
        now_ns = self.now_ns()
        for track in tracks:
            own = [self.feed.venue, track.symbol]
            for result, count in (
                ("applied", track.applied),
                ("stale", track.stale),
                ("gap", track.gaps),
                ("overlap", track.overlaps),
            ):
                updates.add_metric([*own, result], count)
            for name in STATES:
                state.add_metric([*own, name], 1 if str(track.state) == name else 0)
            for result in ("match", "mismatch", "unjudged"):
                proof.add_metric([*own, result], track.proof.get(result, 0))
            for side in ("bids", "asks"):
                levels.add_metric([*own, side], track.book.count_of(side))
            for reason, count in (NO_RESYNCS | track.resyncs).items():
                resyncs.add_metric([*own, reason], count)
            crossed.add_metric(own, track.crossed)
            trades.add_metric(own, track.trades)
            trade_gaps.add_metric(own, track.trade_gaps)
            if track.last_update_ns:
                age.add_metric(own, (now_ns - track.last_update_ns) / 1e9)
            if track.venue_delay_ns is not None:
                delay.add_metric(own, track.venue_delay_ns / 1e9)
                interval.add_metric(own, track.cadence_ns / 1e9)
            patience.add_metric(own, track.silence_limit_ns / 1e9)
            ghosts.add_metric(own, track.ghosts)
            dropped.add_metric(own, track.book.dropped_levels)
            for figure, share in track.day_errors.items():
                error.add_metric([*own, figure], share)
        yield from (updates, state, proof, levels, resyncs, crossed, trades, trade_gaps, age, delay)
        yield from (interval, patience, ghosts, dropped, error)

    def of_latency(self) -> Iterator[Metric]:
        for name, text, histogram in (
            ("mdfeed_processing", "Start of a frame's turn to its bytes ready", self.feed.processing),
            ("mdfeed_receive_to_write", "The socket read to the sink's write returned", self.feed.receive_to_write),
        ):
            yield latency(f"{name}_seconds", f"{text}.", self.feed.venue, histogram)
            quantiles = GaugeMetricFamily(
                f"{name}_quantile_seconds", f"{text}; since the start.", labels=["venue", "q"]
            )
            if histogram.count:
                for q in QUANTILES:
                    quantiles.add_metric([self.feed.venue, str(q)], histogram.quantile(q) / 1e9)
            yield quantiles

    def of_lines(self) -> Iterator[Metric]:
        labels = ["venue", "line"]
        connected = GaugeMetricFamily("mdfeed_line_connected", "1 while the line is up.", labels=labels)
        reconnects = CounterMetricFamily(
            "mdfeed_line_reconnects", "Lines lost and opened again, by why.", labels=[*labels, "reason"]
        )
        rollovers = CounterMetricFamily(
            "mdfeed_line_rollovers", "Connections replaced by a successor, by why.", labels=[*labels, "reason"]
        )
        diffs = CounterMetricFamily("mdfeed_line_diffs", "Depth diffs that the line brought.", labels=labels)
        wins = CounterMetricFamily("mdfeed_line_wins", "Of them, those that it brought first.", labels=labels)
        delay = GaugeMetricFamily(
            "mdfeed_line_delay_seconds", "From event time to receipt, mean over its depth diffs.", labels=labels
        )
        for line in self.lines:
            connected.add_metric([self.feed.venue, line.name], int(line.is_connected))
            for family, counts in (
                (reconnects, NO_RECONNECTS | dict(line.reconnects)),
                (rollovers, line.rollovers),
            ):
                for reason, count in counts.items():
                    family.add_metric([self.feed.venue, line.name, reason], count)
        for name, race in self.feed.races.items():
            if race.diffs:
                diffs.add_metric([self.feed.venue, name], race.diffs)
                wins.add_metric([self.feed.venue, name], race.wins)
                delay.add_metric([self.feed.venue, name], (race.delay_ns + self.feed.clock_offset_ns) / 1e9)
        yield from (connected, reconnects, rollovers, diffs, wins, delay)

    def of_sinks(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily("mdfeed_sink_connected", "1 while the sink takes data.", labels=["sink"])
        buffered = GaugeMetricFamily("mdfeed_sink_buffer_bytes", "Bytes waiting to be written.", labels=["sink"])
        reconnects = CounterMetricFamily("mdfeed_sink_reconnects", "Connections opened again.", labels=["sink"])
        published = CounterMetricFamily("mdfeed_sink_published", "Publications, by kind.", labels=["sink", "kind"])
        dropped = CounterMetricFamily("mdfeed_sink_dropped", "Publications dropped, by why.", labels=["sink", "reason"])
        errors = CounterMetricFamily("mdfeed_sink_errors", "Error replies, by code.", labels=["sink", "code"])
        for sink in self.sinks:
            counters = sink.counters()
            connected.add_metric([sink.name], int(sink.is_connected))
            buffered.add_metric([sink.name], counters.get("buffer_bytes", 0))
            reconnects.add_metric([sink.name], counters.get("reconnects", 0))
            for family, counts in ((published, "published"), (dropped, "dropped"), (errors, "errors")):
                for label, count in counters.get(counts, {}).items():
                    family.add_metric([sink.name, label], count)
        yield from (connected, buffered, reconnects, published, dropped, errors)


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A family of one sample without labels."""
    return GaugeMetricFamily(name, text, value=value)


def counted(name: str, text: str, labels: list[str], own: list[str], counts: Mapping[str, int]) -> CounterMetricFamily:
    """A counter with a sample for each key of `counts`, its last label."""
    family = CounterMetricFamily(name, text, labels=labels)
    for label, count in counts.items():
        family.add_metric([*own, label], count)
    return family


def latency(name: str, text: str, venue: str, histogram: Histogram) -> HistogramMetricFamily:
    below = histogram.buckets(BOUNDS_NS)
    buckets = [(str(bound / 1e9), count) for bound, count in zip(BOUNDS_NS, below, strict=True)]
    family = HistogramMetricFamily(name, text, labels=["venue"])
    family.add_metric([venue], [*buckets, ("+Inf", histogram.count)], histogram.sum_ns / 1e9)
    return family
