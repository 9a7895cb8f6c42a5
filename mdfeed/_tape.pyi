from decimal import Decimal

class Tape:
    """Count, quantity, notional, high, low and last of the trades of one kind."""

    first_id: int
    last_id: int
    last_ts: int
    count: int
    duplicates: int
    gaps: int
    missing: int
    lost: int
    filled: int
    restarts: int
    said_id: int
    is_withheld: bool
    @property
    def holes(self) -> list[tuple[int, int]]:
        """Open holes as (first_id, last_id), oldest first."""

    def resume(self, past_id: int, own_id: int = 0, is_doubted: bool = False) -> tuple[int, int] | None:
        """From now on what comes is published (again). Opens what is still to be: (first, last) of it, or None."""

    def give_up(self, first_id: int, last_id: int) -> int:
        """Ids first..last will not come any more: they are counted as lost. Returns how many of them were missing."""

    def summary(self, price_digits: int, qty_digits: int) -> dict[str, int | str | None] | None:
        """`count`, and as exact decimal text `qty`, `high`, `low`, `last`; `vwap` has 8 digits more at most."""

def plain(value: Decimal) -> str:
    """Decimal as text without exponent and without trailing zeros."""
