from typing import Any

from mdfeed._book import Book
from mdfeed._parse import KIND as KIND
from mdfeed._slots import Slots
from mdfeed._sync import FrameBuffer
from mdfeed._trust import Trust

class Track(Trust):
    """One symbol's way through the feed. Created by Feed.add."""

    shadow: Book | None
    buffer: FrameBuffer
    slots: Slots
    stale: int
    gaps: int
    overlaps: int
    ghosts: int
    def __init__(
        self, symbol: str, publisher: Any, buffer: FrameBuffer, fuse: Any, patience: int, max_levels: int
    ) -> None: ...
    def want(self, now_ns: int, limit: int) -> tuple[str, int, int] | None:
        """(reason, limit, priority) of the snapshot that is wanted now, smaller priority first; None when none is."""

    def snapshot_requested(self, now_ns: int) -> None:
        """The request leaves now: from here on diffs are kept for what it will bring."""

    def snapshot_failed(self, reason: str, now_ns: int) -> None:
        """No snapshot this time; asked again with growing pauses."""

    def opened(self, line: int, now_ns: int) -> None:
        """A line that carries this symbol's diffs has been subscribed."""

    def lost(self, line: int, now_ns: int) -> None:
        """The line is gone: its share of the evidence goes with it."""

    def alarms(self, now_ns: int) -> list[tuple[str, int]]:
        """(kind, line) of streams that should have spoken by now; line -1: whichever carries them."""

    def tick(self, now_ns: int) -> None:
        """Once a second or so: what follows from time alone."""

    def is_quiet_at(self, last_id: int, now_ns: int) -> bool:
        """The cheap snapshot's answer to silence: True when the book has missed nothing, and then it is good again."""
