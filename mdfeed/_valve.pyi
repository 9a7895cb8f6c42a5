from mdfeed._encode import Outbox

class Valve(Outbox):
    """In front of `outbox`. Everything is shut until `open` says otherwise, events too until something is open."""

    outbox: Outbox
    held_back: int
    owes_trades: bool
    def __init__(self, outbox: Outbox, *, owes_trades: bool = False) -> None: ...
    def open(self, index: int, until_ns: int) -> bool:
        """Let a symbol through until then (UTC ns). False when it was open all the time, and nothing was kept back.

        MemoryError when there is no room to remember it.
        """

    def let_trades(self, index: int) -> bool:
        """Let its trades through too. False when the symbol is shut."""

    def begin(self, index: int) -> None:
        """A symbol was added (again): it is shut, and has not been open yet."""

    def shut(self, index: int) -> None:
        """Nothing of a symbol passes any more."""

    def shut_all(self) -> None:
        """Nothing passes any more."""

    def is_open(self, index: int) -> bool: ...
