from decimal import Decimal
from typing import NamedTuple

class Evidence(NamedTuple):
    """What led to a contradicted book: ids and tops as Trust.last_mismatch has them, frames as (recv_ns, frame)."""

    symbol: str
    at_ns: int
    mismatch: tuple[int, tuple[int, int, int, int], tuple[int, int, int, int]]
    digits: tuple[int, int]
    book: tuple[int, list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]
    frames: list[tuple[int, bytes]]

class Recall:
    """The newest raw frames, as many as fit `capacity` bytes; the oldest give way."""

    capacity: int
    count: int
    def __init__(self, capacity: int) -> None: ...
    def keep(self, frame: bytes, recv_ns: int) -> None:
        """Take one frame. One larger than a quarter of the ring is not kept."""

    def frames_of(self, symbol: str, most_bytes: int) -> list[tuple[int, bytes]]:
        """(recv_ns, frame) of the frames that name a symbol, oldest first: the newest ones within `most_bytes`."""
