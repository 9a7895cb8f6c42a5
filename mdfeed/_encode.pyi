from collections.abc import Iterable, Sequence
from typing import Final

OUTPUTS: Final[tuple[str, ...]]
KINDS: Final[tuple[str, ...]]
STATES: Final[tuple[str, ...]]
DROP_REASONS: Final[tuple[str, ...]]
CHANNELS: Final[dict[str, str]]

class Market:
    def __init__(self, symbol: str, index: int = 0, price_digits: int = 2, qty_digits: int = 3) -> None: ...

class Outbox:
    def put_book(
        self,
        market: Market,
        bids: Sequence[tuple[int, int]],
        asks: Sequence[tuple[int, int]],
        *,
        state: str = "LIVE",
        seq: int = 0,
        first_id: int = 0,
        last_id: int = 0,
        ts_event: int = 0,
        recv_ns: int = 0,
        last_price: int | None = None,
        day: tuple[int, int, int, int, int, int] | None = None,
    ) -> None: ...
    def put_trade(
        self,
        market: Market,
        trade_id: int,
        price: int,
        qty: int,
        *,
        is_buyer_maker: bool = False,
        ts_event: int = 0,
        recv_ns: int = 0,
    ) -> None: ...
    def put_bbo(
        self,
        market: Market,
        update_id: int,
        bid: tuple[int, int],
        ask: tuple[int, int],
        *,
        seq: int = 0,
        ts_event: int = 0,
        recv_ns: int = 0,
    ) -> None: ...
    def put_state(
        self, market: Market, state: str, reason: str = "", *, since_ns: int = 0, last_id: int = 0, now_ns: int = 0
    ) -> None: ...
    def withdraw(self, market: Market) -> None: ...
    def put_event(self, text: bytes) -> None: ...

class Encoder(Outbox):
    @property
    def is_open(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    @property
    def outputs(self) -> frozenset[str]: ...
    @property
    def published(self) -> dict[str, int]: ...
    @property
    def dropped(self) -> dict[str, int]: ...
    def __init__(self, *, epoch: int, outputs: Iterable[str] = OUTPUTS) -> None: ...
    def open(self) -> None: ...
    def close(self, reason: str) -> None: ...

class Collector(Encoder):
    @property
    def maxlen(self) -> int: ...
    def __init__(self, *, epoch: int = 0, outputs: Iterable[str] = OUTPUTS, maxlen: int = 1_000_000) -> None: ...
    def __len__(self) -> int: ...
    def take(self) -> list[tuple[str, str, bytes]]: ...
