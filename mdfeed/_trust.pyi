from typing import Any

from mdfeed._book import Book
from mdfeed._tape import Tape
from mdfeed._window import Window

DAY_FIGURES: tuple[str, ...]
SOURCES: tuple[str, ...]

class Trust:
    """State, proof, trades, 24 h figures and publication of one symbol."""

    symbol: str
    book: Book
    agg_trades: Tape
    single_trades: Tape
    window: Window
    resyncs: dict[str, int]
    @property
    def index(self) -> int:
        """Its instrument's, for outboxes; it keeps it when it is followed no more."""
    @property
    def clock_offset_ns(self) -> int: ...
    seq: int
    bbo_seq: int
    state_since_ns: int
    frames: int
    applied: int
    crossed: int
    last_frame_ns: int
    last_update_ns: int
    def __init__(self, symbol: str, publisher: Any, fuse: Any, patience: int, max_levels: int) -> None: ...
    def resume_trades(self, past_id: int, now_ns: int, own_id: int = 0, is_doubted: bool = False) -> None:
        """Trades are published from now on, and were up to those ids: what is between is missing (Tape.resume)."""

    def refresh(self, now_ns: int) -> None:
        """Say everything again: for a sink that has come (back)."""

    def leave(self) -> None:
        """The symbol is not followed any more: its key goes, its counts stay for when it comes back."""

    def finish(self) -> None:
        """End of input: what waits for a verdict gets none."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def source(self) -> str:
        """Where the snapshot came from that the book stands on."""

    @property
    def proof(self) -> dict[str, int]: ...
    @property
    def last_mismatch(self) -> tuple[int, tuple[int, int, int, int], tuple[int, int, int, int]] | None:
        """(update id, ours, theirs) of the newest mismatch, or None; tops: scaled (bid price, qty, ask price, qty)."""

    @property
    def tape(self) -> Tape: ...
    @property
    def trades(self) -> int: ...
    @property
    def trade_gaps(self) -> int: ...
    @property
    def day_errors(self) -> dict[str, float]:
        """Our 24 h figures less those of the newest ticker, as shares of them, by name; empty until both are known."""

    @property
    def cadence_ns(self) -> int:
        """Mean time between two frames, learned; 0 before the second."""

    @property
    def venue_delay_ns(self) -> int | None: ...
    def trade_summary(self) -> dict[str, int | str | None] | None:
        """Count and exact sums of the market trades seen (see Tape.summary), or None."""
