from collections.abc import Iterable
from decimal import Decimal

from mdfeed._feed import Feed
from mdfeed.venues import KlineRow, TickerRow, TradeRow

class Seeds:
    """The way into a feed for rows that a venue has parsed (mdfeed.venues)."""

    feed: Feed
    def __init__(self, feed: Feed) -> None: ...
    def ticker(self, symbol: str, row: TickerRow) -> None:
        """The venue's own 24 h figures (a TickerRow); our trades go on from there."""

    def minutes(self, symbol: str, rows: Iterable[KlineRow], closed_to_ns: int) -> None:
        """True minutes (KlineRows, closed ones only): each replaces a minute of ours that holds fewer trades.

        Together with rows given before they hold all trades of their time, up to `closed_to_ns`.
        """

    def trades(self, symbol: str, rows: Iterable[TradeRow], recv_ns: int) -> int:
        """Aggregate trades (TradeRows): those that are missing are published, in their order. Returns how many."""

def by_id(row: TradeRow) -> int: ...
def fraction_digits(value: Decimal | int) -> int:
    """Significant fraction digits of a Decimal (61800.20 has one); 0 of 0."""
