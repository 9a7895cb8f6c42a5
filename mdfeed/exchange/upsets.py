"""Faults of the market itself: ids that start over, finer prices, symbols that go, orders far from the market.

They need a market: a capture that is played back has its own past, and they do nothing to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fnmatch import fnmatchcase
from typing import Any

from mdfeed.exchange.market import Market
from mdfeed.exchange.matching import ASK, BID
from mdfeed.exchange.script import Fault


class Upset(Fault, ABC):
    """Happens once (or every so often) to the symbols that `symbol` chooses by a shell pattern."""

    def __init__(self, *, symbol: str = "*", **window: Any) -> None:
        super().__init__(**{"for_s": 0.0, **window})
        self._symbol = symbol

    def begin(self, source: object) -> None:
        if isinstance(source, Market):
            for symbol in source.symbols:
                if fnmatchcase(symbol, self._symbol):
                    self.count += 1
                    self.upset(source, symbol)

    @abstractmethod
    def upset(self, market: Market, symbol: str) -> None: ...


class Restart(Fault):
    """The exchange restarts: its update ids start over, below all it ever said; `cuts` its connections too, or not."""

    def __init__(self, *, cuts: bool = True, **window: Any) -> None:
        super().__init__(**{"for_s": 0.0, **window})
        self._cuts = cuts

    def begin(self, source: object) -> None:
        if not isinstance(source, Market):
            return
        self.count += 1
        source.restart_ids()
        if self._cuts:
            for wire in self.chosen_wires():
                wire.abort()


class Finer(Upset):
    """Filters change: a tick ten times smaller, so prices have a longer fraction."""

    def upset(self, market: Market, symbol: str) -> None:
        market.refine(symbol)


class Delist(Upset):
    """Symbols trade no more: their streams say nothing, REST knows them no more. For good."""

    def upset(self, market: Market, symbol: str) -> None:
        market.delist(symbol)


class Halt(Upset):
    """Symbols stand still while it lasts, as contracts do that are halted or whose session is closed."""

    def __init__(self, **window: Any) -> None:
        super().__init__(**{"for_s": None, **window})

    def upset(self, market: Market, symbol: str) -> None:
        market.halt(symbol, True)

    def end(self, source: object) -> None:
        if isinstance(source, Market):
            for symbol in source.symbols:
                if fnmatchcase(symbol, self._symbol):
                    source.halt(symbol, False)


class Far(Upset):
    """Orders at the lowest price there is and at 1,000 times the market's."""

    def upset(self, market: Market, symbol: str) -> None:
        market.place(symbol, BID, 1 + self.rng.randrange(3))
        market.place(symbol, ASK, int(market.reference(symbol) * 1000) + self.rng.randrange(3))
