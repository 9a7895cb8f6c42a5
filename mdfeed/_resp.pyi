from collections.abc import Iterable
from typing import Final

from mdfeed._encode import OUTPUTS, Encoder

FIRST: Final[int]
LAST: Final[int]
NOTHING: Final[int]

class RespOutbox(Encoder):
    @property
    def pending_commands(self) -> int: ...
    @property
    def pending_bytes(self) -> int: ...
    @property
    def trades_maxlen(self) -> int: ...
    @property
    def events_maxlen(self) -> int: ...
    @property
    def expire_s(self) -> int: ...
    def __init__(
        self,
        instruments: object,
        *,
        epoch: int,
        outputs: Iterable[str] = OUTPUTS,
        trades_maxlen: int = 10_000,
        events_maxlen: int = 10_000,
        expire_s: int = 300,
        max_pending_bytes: int = 64 << 20,
    ) -> None: ...
    def published_of(self, index: int) -> dict[str, int]: ...
    @property
    def pending_kinds(self) -> bytes: ...
    def take(self) -> bytes: ...
