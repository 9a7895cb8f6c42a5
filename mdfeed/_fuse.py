"""The fuse of the proof: when the witness is what changed, books must not be resynced for ever.

A venue may change what bookTicker means. Then every book is contradicted, and resyncing each again and
again would take a healthy feed down. So resyncs by proof are limited; beyond the limit the proof is held
to be unreliable: books stay LIVE and say so, until no contradiction has come for a while. A line that lost a few
bookTickers contradicts for a moment, so the first such while is short; each time that it was too short it doubles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

PER_SYMBOL = 3
"""Resyncs of one symbol within PER_SYMBOL_WINDOW_NS that are still believed."""
PER_SYMBOL_WINDOW_NS = 600 * 10**9
SHARE = 0.05
"""Share of all symbols that may be resynced within SHARE_WINDOW_NS."""
SHARE_WINDOW_NS = 60 * 10**9
SHARE_LEAST = 3
"""So many symbols are always believed, or a feed of four would blow its fuse at the first."""
REARM_FIRST_NS = 2 * 10**9
REARM_LAST_NS = 600 * 10**9
"""The fuse closes again after so long without a contradiction: the first time, and at most."""
FORGET_NS = 3600 * 10**9
"""After so long without a contradiction the first time is a first time again."""


class Fuse:
    """Decides whether a contradiction of the proof may still resync a book."""

    def __init__(self, count_symbols: Callable[[], int]) -> None:
        self._count_symbols = count_symbols
        self._resyncs: deque[tuple[int, str]] = deque()
        self._last_ns = 0
        self._rearm_ns = REARM_FIRST_NS
        self.is_blown = False

    def allows(self, symbol: str, now_ns: int) -> bool:
        """Ask at each contradiction that would resync `symbol`; True counts as one resync."""
        self.rearm(now_ns)
        if now_ns - self._last_ns > FORGET_NS:
            self._rearm_ns = REARM_FIRST_NS
        self._last_ns = now_ns
        while self._resyncs and now_ns - self._resyncs[0][0] > PER_SYMBOL_WINDOW_NS:
            self._resyncs.popleft()
        own = sum(1 for _, other in self._resyncs if other == symbol)
        recent = {other for at, other in self._resyncs if now_ns - at <= SHARE_WINDOW_NS} | {symbol}
        if own >= PER_SYMBOL or len(recent) > max(SHARE_LEAST, SHARE * self._count_symbols()):
            self.is_blown = True
        if not self.is_blown:
            self._resyncs.append((now_ns, symbol))
        return not self.is_blown

    def rearm(self, now_ns: int) -> bool:
        """Close a blown fuse after a quiet while; True when it did."""
        if self.is_blown and now_ns - self._last_ns > self._rearm_ns:
            self._rearm_ns = min(2 * self._rearm_ns, REARM_LAST_NS)
            self.is_blown = False
            self._resyncs.clear()
            return True
        return False
