from typing import Any, NamedTuple

from mdfeed._book import Book
from mdfeed._sync import FrameBuffer
from mdfeed._trust import Trust

SYMBOLS_OWN: frozenset[str]

class Wanted(NamedTuple):
    """A snapshot that should be fetched: `limit` levels a side; the smaller the sooner.

    `since_ns` is when the book was last compared, of those that wait for spare weight: else some would never have any.
    """

    priority: int
    since_ns: int
    symbol: str
    limit: int
    reason: str

class Seat(Trust):
    """A symbol's book and the snapshots it stands on."""

    shadow: Book | None
    buffer: FrameBuffer
    ghosts: int
    def __init__(
        self, symbol: str, publisher: Any, buffer: FrameBuffer, fuse: Any, patience: int, max_levels: int
    ) -> None: ...
    def begin(self, price_digits: int, qty_digits: int) -> None:
        """The digits that are known from elsewhere."""

    def want(self, now_ns: int, limit: int, first_limit: int, audit_ns: int) -> Wanted | None:
        """The snapshot that is wanted now (Wanted), None when none is.

        A book without any is seated by a cheap one of `first_limit` levels a side; one of `limit` follows in a shadow,
        and another each `audit_ns`.
        """

    def snapshot_requested(self, now_ns: int) -> None:
        """The request leaves now: from here on diffs are kept for what it will bring."""

    def snapshot_failed(self, reason: str, now_ns: int) -> None:
        """No snapshot this time; asked again with growing pauses."""

    def snapshot_refused(self, is_too_large: bool, now_ns: int) -> None:
        """What came is no snapshot, or one that does not fit the digits."""
