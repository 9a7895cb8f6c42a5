from collections import deque
from collections.abc import Iterable, Sequence

from mdfeed._encode import Outbox
from mdfeed._fuse import Fuse
from mdfeed._parse import Instruments
from mdfeed._publish import Publisher
from mdfeed._races import Alarm, Race
from mdfeed._recall import Evidence as Evidence
from mdfeed._recall import Recall
from mdfeed._seat import Wanted as Wanted
from mdfeed._stats import Histogram
from mdfeed._sync import Budget
from mdfeed._track import Track
from mdfeed.venues import Venue

TESTIMONIES_KEPT: int

class Feed:
    """All symbols of one venue.

    venue           a mdfeed.venues.Venue; its name is kept
    outboxes        where publications go (mdfeed._encode.Outbox)
    depth           levels a side that are published
    max_levels      levels a side that a book keeps, farthest dropped first; 0: all
    buffer_bytes    raw frames that all symbols together may hold while they wait for snapshots
    snapshot_limit  levels a side that full snapshots are asked with
    first_limit     levels a side that a book without any is seated with, cheaply; a full one follows in a shadow
    audit_s         after so many seconds a good book is compared with a new snapshot, as spare weight allows
    recall_bytes    of newest raw frames that are kept for testimonies of contradicted books; 0: none
    """

    venue: str
    instruments: Instruments
    publisher: Publisher
    budget: Budget
    tracks: dict[str, Track]
    fuse: Fuse
    snapshot_limit: int
    first_limit: int
    recall: Recall | None
    testimonies: deque[Evidence]
    frame_bytes: int
    last_bad: tuple[str, bytes, int] | None
    processing: Histogram
    receive_to_write: Histogram
    def __init__(
        self,
        venue: Venue,
        *,
        outboxes: Iterable[Outbox] = (),
        depth: int = 20,
        max_levels: int = 0,
        buffer_bytes: int = ...,
        snapshot_limit: int = 1000,
        first_limit: int = 50,
        audit_s: int = 300,
        recall_bytes: int = 0,
    ) -> None: ...
    def add(self, symbol: str, price_digits: int = 0, qty_digits: int = 0) -> Track:
        """Follow a symbol. Digits are those of tickSize and stepSize where known; longer fractions grow them."""

    def remove(self, symbol: str, now_ns: int) -> None:
        """Stop following a symbol: its key is withdrawn, its frames are ignored from now on."""

    def attach(self, outbox: Outbox) -> None:
        """One more place where publications go, from now on."""

    def open_line(self, name: str, streams: Sequence[str] = (), now_ns: int = 0) -> int:
        """A connection is subscribed to `streams` ("btcusdt@depth@100ms"). Its number, new for each connection."""

    def lost(self, line: int, now_ns: int, reason: str = "") -> None:
        """A connection is gone."""

    def alarms(self, now_ns: int) -> list[Alarm]:
        """Streams that should have spoken by now, by what they and the symbol's other streams have shown."""

    @property
    def races(self) -> dict[str, Race]:
        """Race by line's name, over all its connections."""

    @property
    def clock_offset_ns(self) -> int:
        """The venue's clock less ours, by which venue delays are corrected; 0 until told."""

    @clock_offset_ns.setter
    def clock_offset_ns(self, offset_ns: int) -> None: ...
    def take_least_delay(self) -> int | None:
        """The least receipt less event time of any frame since the last call, uncorrected; None without a frame."""

    def receive(self, line: int, frame: bytes, recv_ns: int) -> int:
        """Take one text frame; returns the status's number (`_types.pxd`). Never raises for what a frame holds."""

    def wanted(self, now_ns: int) -> list[Wanted]:
        """Snapshots that should be fetched now, most urgent first."""

    def snapshot_requested(self, symbol: str, now_ns: int) -> None:
        """The request for a symbol's snapshot leaves now; must come before the request, or the join may have a hole."""

    def snapshot_failed(self, symbol: str, reason: str, now_ns: int) -> None:
        """No snapshot this time."""

    def snapshot(self, symbol: str | None, source: str, limit: int, body: bytes, recv_ns: int) -> str:
        """Take a snapshot of `limit` levels a side (0: as many as it has) from `source` ("rest", "ws_api", "capture").

        `symbol` may be None when the body names it. Returns what became of it: "joined", "gap" (older than what is
        held: another is wanted), "shadow" (waits for the book to reach its id), "swapped", "quiet", "resync" or
        "old". Raises DecodeError when the body is not a snapshot.
        """

    def tick(self, now_ns: int) -> None:
        """Once a second or so: freshness, expiry, parked gaps, keys that go or are set again."""

    def refresh(self, outbox: Outbox, now_ns: int) -> None:
        """Say all states and good books again, to one outbox: its far side has come (back)."""

    def finish(self, now_ns: int) -> None:
        """End of input: verdicts that are still pending will not come."""

    @property
    def frames_by_kind(self) -> dict[str, int]:
        """Frames decoded or ignored, by event type."""

    @property
    def decode_errors(self) -> dict[str, int]:
        """Frames that are not what the venue documents, by reason."""

    @property
    def ignored(self) -> dict[str, int]:
        """Frames that are legal and nothing for us, by reason."""
