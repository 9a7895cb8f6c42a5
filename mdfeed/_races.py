"""Which of a venue's lines brings the depth diffs first, and which of their streams should have spoken.

Words and sums only: the counting is the Track's, and what follows from it is for those who keep the lines.
"""

from __future__ import annotations

from typing import NamedTuple


class Alarm(NamedTuple):
    """A stream that should have spoken: `kind` as in Feed.frames_by_kind; `line` "": whichever carries it."""

    symbol: str
    kind: str
    line: str


class Race(NamedTuple):
    """What a line has brought of the depth diffs: how many, how many of them first, and the sum of their delays."""

    diffs: int = 0
    wins: int = 0
    delays_ns: int = 0

    def plus(self, other: tuple[int, int, int]) -> Race:
        return Race(self.diffs + other[0], self.wins + other[1], self.delays_ns + other[2])

    @property
    def delay_ns(self) -> float:
        """Mean of receipt less event time, by both clocks as they are; 0 without a diff."""
        return self.delays_ns / self.diffs if self.diffs else 0.0
