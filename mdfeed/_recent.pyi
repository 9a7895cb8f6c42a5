from typing import Any

from mdfeed._encode import Outbox

class Recent(Outbox):
    """Attach it to a Feed. Symbols are asked for by their index in the feed's Instruments."""

    def trades(self, index: int, most: int = 100) -> list[dict[str, Any]]:
        """The newest trades of a symbol, `most` at most, newest first: `mdfeed:trades`' fields, decimals as text."""

    def figures(self, index: int) -> dict[str, Any]:
        """Last price and 24 h figures with a symbol's newest book, as exact text; None while unknown."""
