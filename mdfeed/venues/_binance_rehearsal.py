"""Frames of a market that does not exist, in the wire schema of the Binance family: see mdfeed/rehearsal.py.

A book whose levels come and go below a top that stays, its bookTickers and its trades. Ids go on for ever, so that each
frame is taken like the ones before.
"""

from __future__ import annotations

from collections.abc import Sequence

SYMBOL = "REHEARSAL"
STREAMS = ("rehearsal@depth@100ms", "rehearsal@bookTicker", "rehearsal@aggTrade")
TOP_BID, TOP_ASK = 59_999.5, 60_000.0
LEVELS = 100
# Levels a side of one diff.
CHANGED = 16
TOP = f'"b":"{TOP_BID:.2f}","B":"1.000","a":"{TOP_ASK:.2f}","A":"1.000"'


def _levels(numbers: Sequence[int], qty: float) -> str:
    def side(top: float, step: float) -> str:
        return ",".join(f'["{top + number * step:.2f}","{qty:.3f}"]' for number in numbers)

    return f'[{side(TOP_BID, -0.5)}],"a{{}}":[{side(TOP_ASK, 0.5)}]'


class BinanceRehearsal:
    """Frames without end, for `product` ("usdm", "coinm", "spot")."""

    symbol = SYMBOL
    streams = STREAMS

    def __init__(self, product: str) -> None:
        self._is_spot = product == "spot"
        self._number = 0
        self._id = 1000
        # Every third level below the top is taken away, comes back, and changes.
        numbers = range(3, 3 * (CHANGED + 1), 3)
        self._changes = [_levels(numbers, qty).replace("a{}", "a") for qty in (0.0, 2.5, 3.25)]

    def snapshot(self) -> bytes:
        """A REST depth body that the next diff continues."""
        sides = _levels(range(LEVELS), 1.0).replace("a{}", "asks")
        return f'{{"lastUpdateId":{self._id},"bids":{sides}}}'.encode()

    def frame(self, ts_ms: int) -> bytes:
        """The next: a diff, a bookTicker that proves it, and a trade now and then."""
        self._number += 1
        if self._number % 16 == 0:
            data = self._trade(ts_ms)
        elif self._number % 2:
            data = self._diff(ts_ms)
        else:
            data = self._book_ticker(ts_ms)
        return data.encode()

    def _diff(self, ts_ms: int) -> str:
        prev_id, self._id = self._id, self._id + 10
        head = f'"e":"depthUpdate","E":{ts_ms}'
        if not self._is_spot:
            head += f',"T":{ts_ms}'
        ids = f'"U":{prev_id + 1},"u":{self._id}' + ("" if self._is_spot else f',"pu":{prev_id}')
        changes = self._changes[self._number // 2 % len(self._changes)]
        return f'{{"stream":"{STREAMS[0]}","data":{{{head},"s":"{SYMBOL}",{ids},"b":{changes}}}}}'

    def _book_ticker(self, ts_ms: int) -> str:
        # Beyond the newest diff, so that it judges the book as that has left it.
        seen_id = self._id + 1
        if self._is_spot:
            return f'{{"stream":"{STREAMS[1]}","data":{{"u":{seen_id},"s":"{SYMBOL}",{TOP}}}}}'
        return (
            f'{{"stream":"{STREAMS[1]}","data":{{"e":"bookTicker","u":{seen_id},"s":"{SYMBOL}",{TOP},'
            f'"T":{ts_ms},"E":{ts_ms}}}}}'
        )

    def _trade(self, ts_ms: int) -> str:
        number = self._number // 16
        return (
            f'{{"stream":"{STREAMS[2]}","data":{{"e":"aggTrade","E":{ts_ms},"s":"{SYMBOL}","a":{number},'
            f'"p":"{TOP_ASK:.2f}","q":"0.500","f":{number},"l":{number},"T":{ts_ms},"m":false}}}}'
        )
