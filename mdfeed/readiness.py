"""What `/ready` says of books and of the way to the venue, in sentences for people.

Answers for naming each book that is not good, and what stands between the venue and us; and for what serves books in
the place of REST while all is well. Knows no HTTP, and decides nothing but what is worth a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from mdfeed.upkeep import Upkeep

GOOD = ("LIVE", "PROVED")
FIRST_SOURCE = "rest"
NAMED = 10  # symbols of many; the others are counted
NAMED_OF_SOURCE = 5


class Track(Protocol):
    """What of a symbol's track is told."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def source(self) -> str: ...


def named(symbols: Sequence[str], most: int = NAMED) -> str:
    """Symbols for a sentence: all of a few, some of many."""
    more = f" and {len(symbols) - most} more" if len(symbols) > most else ""
    return ", ".join(symbols[:most]) + more


def books_not_good(tracks: Mapping[str, Track]) -> Iterator[str]:
    """A sentence for each book that is not published as data."""
    for symbol, track in tracks.items():
        if track.state not in GOOD:
            yield f"{symbol}: {track.state} ({track.reason})"


def venue_troubles(upkeep: Upkeep) -> Iterator[str]:
    """What forbids or fails requests: a ban and its end, REST's newest refusal, the state of the snapshots' ladder."""
    governor, rest = upkeep.governor, upkeep.rest
    block, refusal = governor.block, rest.refusal or rest.newest_refusal
    if block is not None:
        until = datetime.fromtimestamp(governor.blocked_until / 1e9, UTC)
        yield f"the venue forbids requests until {until:%Y-%m-%dT%H:%M:%SZ}: {block.text}"
    elif refusal is not None:
        yield f"REST: {refusal.text}"
    if upkeep.snapshots.trouble:
        yield upkeep.snapshots.trouble


def sources_in_use(tracks: Mapping[str, Track], upkeep: Upkeep) -> list[str]:
    """Where books come from that do not come from REST, and why; nothing when all do."""
    by_source: dict[str, list[str]] = {}
    for symbol, track in tracks.items():
        if track.source != FIRST_SOURCE:
            by_source.setdefault(track.source, []).append(symbol)
    notes = []
    for source, symbols in by_source.items():
        notes.append(f"{named(symbols, NAMED_OF_SOURCE)}: book by {source}")
    return [*notes, *venue_troubles(upkeep)] if notes else []
