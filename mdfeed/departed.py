"""Symbols that are followed no more, until the far side surely knows.

Answers for: saying again, to a sink that has come (back), that a removed symbol is COLD and its data withdrawn, and
for forgetting it once that was answered. Refuses to know whose a symbol is: the leases hold it meanwhile, and strike
out here what another daemon publishes now.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from mdfeed._track import Track
from mdfeed.sinks import Sink

ANSWERED_S = 5.0  # a sink that has no answer for so long has ended its connection


class Departed(dict[str, Track]):
    """Removed symbols by name, as the feed has left them."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink
        self._said_at: dict[str, float] = {}

    def note(self, before: Mapping[str, Track], now: Mapping[str, Track]) -> None:
        """Followed are `now` instead of `before`, and what was removed was said to be."""
        for symbol in before.keys() - now.keys():
            self[symbol] = before[symbol]
            self._said_at[symbol] = time.monotonic()
        for symbol in self.keys() & now.keys():
            del self[symbol]
            self._said_at.pop(symbol, None)

    def index_of(self, followed: Mapping[str, Track], symbol: str) -> int:
        """The index of a symbol that is followed, or is remembered here; else -1."""
        track = followed.get(symbol) or self.get(symbol)
        return -1 if track is None else track.index

    def say(self, symbols: Iterable[str], now_ns: int) -> None:
        """Say it again, of those among `symbols` that were removed."""
        for symbol in self.keys() & set(symbols):
            self[symbol].refresh(now_ns)
            self._said_at[symbol] = time.monotonic()

    def look(self) -> None:
        """Once in a while: forget what was said and answered."""
        if not self._sink.is_connected or self._sink.trouble:
            self._said_at.clear()  # it will be said again
        for symbol in [symbol for symbol, at in self._said_at.items() if time.monotonic() - at > ANSWERED_S]:
            del self._said_at[symbol]
            self.pop(symbol, None)
