"""What the log says of the heart's events, and the events about the daemon itself.

Answers for the level and words of each event's line, and for telling of sinks that were away or refused and of faults
of our own. Refuses to know who causes events, and where they are published.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

from mdfeed._feed import Feed
from mdfeed._publish import Event
from mdfeed.lasting import faults
from mdfeed.sinks import Outage, Sink

log = logging.getLogger(__name__)

BAD = ("STALE", "SUSPECT")
# Event kinds that are routine; everything else deserves a warning.
ROUTINE = frozenset({"reseated", "removed", "fuse_rearmed", "shutdown", "trades_filled", "gap", "trade_gap"})
# Those of which the log has a line of its own already.
SAID = frozenset(
    {"connect", "disconnect", "resync", "sink_connected", "sink_disconnected", "sink_refused", "task_fault"}
)


class Journal:
    """`tell` adds what there is to say of ourselves, `log` writes down and forgets what has happened."""

    def __init__(self, feed: Feed, sink: Sink, now_ns: Callable[[], int]) -> None:
        self._feed = feed
        self._sink = sink
        self._now_ns = now_ns
        self._faults_told = dict(faults)

    def tell(self) -> None:
        """Events about the sink, now that it takes them again, and about faults of ours."""
        event, at_ns = self._feed.publisher.event, self._now_ns()
        outages: deque[Outage] = self._sink.outages
        while outages:
            outage = outages.popleft()
            about = {"sink": self._sink.name, "reason": outage.reason}
            more = {"for_s": round(outage.for_s, 3), "dropped": outage.dropped}
            if outage.kind == "refused":
                event(at_ns, "", "sink_refused", **about, **more)
                continue
            if outage.for_s:
                event(at_ns - int(outage.for_s * 1e9), "", "sink_disconnected", **about)
            event(at_ns, "", "sink_connected", sink=self._sink.name, **more)
        for task, count in faults.items():
            if count > self._faults_told.get(task, 0):
                self._faults_told[task] = count
                event(at_ns, "", "task_fault", task=task, count=count)

    def log(self, is_stopping: bool) -> Iterator[Event]:
        """Each event, once its line is written."""
        events = self._feed.publisher.events
        while events:
            event = events.popleft()
            self._write(event, is_stopping)
            yield event

    def _write(self, event: Event, is_stopping: bool) -> None:
        if event.kind == "state":
            state, reason, last_id = event.detail.values()
            # At the end every book goes STALE: that is said to consumers, and nobody needs to be warned of it.
            level = logging.WARNING if state in BAD and not is_stopping else logging.INFO
            log.log(level, "%s %s (%s) at id %d", event.symbol, state, reason, last_id)
        elif event.kind not in SAID:
            level = logging.INFO if event.kind in ROUTINE else logging.WARNING
            detail = " ".join(f"{key}={value}" for key, value in event.detail.items())
            log.log(level, "%s %s", " ".join(filter(None, (event.symbol, event.kind))), detail)
