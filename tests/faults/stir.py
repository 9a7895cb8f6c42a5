"""A script whose market's tops never stand still for long: a book can be proved only by a bookTicker that comes."""

from __future__ import annotations

from collections.abc import Iterable

from mdfeed.exchange.market import Market
from mdfeed.exchange.matching import BID
from mdfeed.exchange.script import Fault, Script

STIR_NS = 500_000_000


class Stirred(Script):
    """Somebody joins the best bid of each instrument whose top has not changed for half a second."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        super().__init__(faults)
        self._next_ns = 0
        self._tops: dict[str, tuple[int, int, int, int]] = {}

    def step(self, now_ns: int, source: object) -> None:
        super().step(now_ns, source)
        if now_ns < self._next_ns or not isinstance(source, Market):
            return
        self._next_ns = now_ns + STIR_NS
        tops = {symbol: source.top(symbol) for symbol in source.symbols}
        for symbol, top in tops.items():
            if top == self._tops.get(symbol) and top[0]:
                source.place(symbol, BID, top[0])
        self._tops = tops
