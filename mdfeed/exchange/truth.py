"""The exact book of one instrument at any update id of the recent past.

A log of level changes with a full copy of the book every `CHUNK_CHANGES` changes. Memory is bounded: at most
`changes_max` changes are kept (24 bytes each) and one copy of the book (about 100 bytes a level) a chunk; the oldest
chunk goes first. It refuses to know orders and trades: it is told what each level became.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass

from mdfeed.exchange.profiles import Profile

CHUNK_CHANGES = 8192
_READERS_MAX = 4


@dataclass(frozen=True)
class TrueBook:
    """A full book at one id: {price in ticks: quantity in steps} a side."""

    profile: Profile
    last_id: int
    bids: dict[int, int]
    asks: dict[int, int]

    def levels(self, side: str, count: int | None = None) -> list[tuple[str, str]]:
        """(price, qty) texts as the venue writes them, best first; `side` is "bids" or "asks"."""
        book = self.bids if side == "bids" else self.asks
        prices = sorted(book, reverse=side == "bids")[:count]
        return [(self.profile.price_text(price), self.profile.qty_text(book[price])) for price in prices]

    def top(self) -> tuple[str, str, str, str]:
        """Best bid price and qty, best ask price and qty; an empty side is "0", "0"."""
        bid, ask = max(self.bids, default=0), min(self.asks, default=0)
        text = self.profile
        return (
            *((text.price_text(bid), text.qty_text(self.bids[bid])) if bid else ("0", "0")),
            *((text.price_text(ask), text.qty_text(self.asks[ask])) if ask else ("0", "0")),
        )


class _Chunk:
    """The book just after `first_id`, and the changes since: flat (id, signed price, qty), a bid's price negative."""

    __slots__ = ("asks", "bids", "changes", "first_id")

    def __init__(self, first_id: int, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.first_id = first_id
        self.bids = bids
        self.asks = asks
        self.changes = array("q")


class _Reader:
    """The book at a place in a chunk's log, with its prices in order; it only goes forward."""

    __slots__ = ("chunk", "ordered", "place", "sides")

    def __init__(self, chunk: _Chunk) -> None:
        self.chunk = chunk
        self.place = 0
        self.sides = (chunk.bids.copy(), chunk.asks.copy())
        self.ordered = (sorted(chunk.bids), sorted(chunk.asks))

    @property
    def last_id(self) -> int:
        return self.chunk.changes[self.place - 3] if self.place else self.chunk.first_id

    def advance(self, update_id: int) -> None:
        """Take all changes up to and with `update_id`."""
        log, place = self.chunk.changes, self.place
        while place < len(log) and log[place] <= update_id:
            signed, qty = log[place + 1], log[place + 2]
            side, price = (1, signed) if signed > 0 else (0, -signed)
            book, prices = self.sides[side], self.ordered[side]
            if qty:
                if price not in book:
                    insort(prices, price)
                book[price] = qty
            elif book.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]
            place += 3
        self.place = place


class Truth:
    """What the book was. Write with `note` (ids ascending, all changes of an id together), ask with `book_at`."""

    def __init__(self, profile: Profile, first_id: int, changes_max: int = 262_144) -> None:
        self.profile = profile
        self.last_id = first_id
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._chunks: deque[_Chunk] = deque([_Chunk(first_id, {}, {})])
        self._chunks_max = max(2, changes_max // CHUNK_CHANGES)
        # Where the last questions ended, so that ascending questions replay each change once. Several askers (of
        # books, of tops that are ahead of them) go forward side by side; the one that was used last stands last.
        self._readers: list[_Reader] = []

    @property
    def first_id(self) -> int:
        """The oldest id that can be asked for."""
        return self._chunks[0].first_id

    def note(self, update_id: int, changes: list[tuple[int, int, int]]) -> None:
        """Record that update `update_id` set each (side, price, qty); qty 0 removes the level."""
        chunk = self._chunks[-1]
        if len(chunk.changes) >= 3 * CHUNK_CHANGES:
            chunk = _Chunk(self.last_id, self._bids.copy(), self._asks.copy())
            self._chunks.append(chunk)
            if len(self._chunks) > self._chunks_max:
                self._chunks.popleft()
        self.last_id = update_id
        log = chunk.changes
        for side, price, qty in changes:
            log.extend((update_id, price if side else -price, qty))
            book = self._asks if side else self._bids
            if qty:
                book[price] = qty
            else:
                book.pop(price, None)

    def rescale_prices(self, factor: int, profile: Profile) -> None:
        """A tick is `factor` times smaller: the past is told in the new one."""
        self.profile = profile
        self._readers.clear()
        self._bids = {price * factor: qty for price, qty in self._bids.items()}
        self._asks = {price * factor: qty for price, qty in self._asks.items()}
        for chunk in self._chunks:
            chunk.bids = {price * factor: qty for price, qty in chunk.bids.items()}
            chunk.asks = {price * factor: qty for price, qty in chunk.asks.items()}
            log = chunk.changes
            for place in range(1, len(log), 3):
                log[place] *= factor

    def book_at(self, update_id: int) -> TrueBook:
        """The full book after every update with an id up to `update_id`.

        Raises LookupError for an id that is no longer, or not yet, known.
        """
        bids, asks = self._read(update_id).sides
        return TrueBook(self.profile, update_id, bids.copy(), asks.copy())

    def best_at(self, update_id: int, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The best `count` (price in ticks, qty in steps) of bids and of asks at an id, best first.

        Raises LookupError as `book_at`, and costs far less.
        """
        reader = self._read(update_id)
        (bids, asks), (bid_prices, ask_prices) = reader.sides, reader.ordered
        return (
            [(price, bids[price]) for price in bid_prices[: -count - 1 : -1]],
            [(price, asks[price]) for price in ask_prices[:count]],
        )

    def _read(self, update_id: int) -> _Reader:
        if not self.first_id <= update_id <= self.last_id:
            raise LookupError(f"{self.profile.symbol}: id {update_id} is outside {self.first_id}..{self.last_id}")
        chunk = self._chunks[bisect_right(self._chunks, update_id, key=lambda chunk: chunk.first_id) - 1]
        readers = self._readers
        found = None
        for reader in readers:
            if reader.chunk is chunk and reader.last_id <= update_id and (not found or reader.place > found.place):
                found = reader
        if found is not None:
            readers.remove(found)
        else:
            found = _Reader(chunk)
            if len(readers) >= _READERS_MAX:
                del readers[0]
        readers.append(found)
        found.advance(update_id)
        return found
