from typing import Any

from mdfeed._parse import KIND as KIND
from mdfeed._seat import Seat
from mdfeed._slots import Slots
from mdfeed._sync import FrameBuffer

class Track(Seat):
    """One symbol's way through the feed. Created by Feed.add."""

    slots: Slots
    stale: int
    gaps: int
    overlaps: int
    disconnects: int
    errors: int
    def __init__(
        self, symbol: str, publisher: Any, buffer: FrameBuffer, fuse: Any, patience: int, max_levels: int
    ) -> None: ...
    def opened(self, line: int, now_ns: int) -> None:
        """A line that carries this symbol's diffs has been subscribed."""

    def lost(self, line: int, now_ns: int) -> None:
        """The line is gone: its share of the evidence goes with it."""

    def alarms(self, now_ns: int) -> list[tuple[str, int]]:
        """(kind, line) of streams that should have spoken by now; line -1: whichever carries them."""

    def tick(self, now_ns: int) -> None:
        """Once a second or so: what follows from time alone."""

    @property
    def is_carried(self) -> bool:
        """Whether a line that carries the diffs is open."""

    @property
    def frames_by_kind(self) -> dict[str, int]:
        """Frames of the symbol, by event type."""

    @property
    def silence_limit_ns(self) -> int:
        """A symbol that is good and silent for so long becomes STALE."""

    @property
    def memory_bytes(self) -> dict[str, int]:
        """Bytes held of this symbol, by what they are for: books, windows, proofs, buffers."""
