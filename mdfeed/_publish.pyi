from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mdfeed._encode import Outbox

EVENTS_KEPT: int
STATES: tuple[str, ...]

class Event(NamedTuple):
    """Something worth a log line: `kind` is a token such as "gap", `detail` plain values."""

    at_ns: int
    symbol: str
    kind: str
    detail: dict[str, Any]

class Publisher:
    """The outboxes of a feed, and its events."""

    outboxes: list[Outbox]
    depth: int
    events: deque[Event]
    seqs: dict[str, tuple[int, int]]
    failures: int
    line_names: dict[int, str]
    def __init__(self, outboxes: Iterable[Outbox], depth: int) -> None: ...
    def opened(self, line: int, name: str, streams: Sequence[str], now_ns: int) -> None:
        """A connection of a line is subscribed to so many streams."""

    def lost(self, line: int, reason: str, now_ns: int) -> str | None:
        """A connection is gone. Its line's name, None when there is no such connection."""

    def event(self, at_ns: int, symbol: str, kind: str, **detail: Any) -> None:
        """Record an event: kept for the log, and sent to the outboxes as one JSON object."""
