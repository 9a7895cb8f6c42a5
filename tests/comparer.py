"""Everything that is published of a simulated market, compared with what the market knows, as it comes.

Each kind of publication is taken by what it promises (docs/PROTOCOL.md): every level of `orderbook` and `mdfeed:book`,
the top in `market_data` and `mdfeed:bbo`, each trade's own values and that it comes once, `seq` that rises by one. It
believes nothing: what cannot be found in the market's past is wrong too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache

from mdfeed.exchange.market import Market
from mdfeed.exchange.profiles import Profile

HOUR_MS = 3_600_000
TEXTS_MAX = 2_000  # rows an instrument
UPDATE_ID = re.compile(rb'"last_update_id":(-?\d+)')
BBO_ID = re.compile(rb'"update_id":(-?\d+)')
SEQ = re.compile(rb'"epoch":(-?\d+),"seq":(\d+)')
LAST_PRICE = re.compile(rb'"last_price":([^,]+),')
Pairs = Sequence[tuple[int, int]]


class Texts:
    """How an instrument's numbers are published: exact, without trailing zeros, or with one fraction digit at least."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._rows: dict[tuple[int, int], tuple[str, str, str]] = {}

    def row(self, level: tuple[int, int]) -> tuple[str, str, str]:
        """A level, (ticks, steps), as `orderbook` and as `mdfeed:book` say it, and its price as `market_data` does."""
        row = self._rows.get(level)
        if row is None:
            if len(self._rows) >= TEXTS_MAX:
                self._rows.clear()
            price, qty = self.texts(level)
            row = self._rows[level] = (f'"{dotted(price)}":{dotted(qty)}', f'["{price}","{qty}"]', dotted(price))
        return row

    def texts(self, level: tuple[int, int]) -> tuple[str, str]:
        profile = self.profile
        return (
            plain(level[0] * profile.tick_units, profile.price_digits),
            plain(level[1] * profile.step_units, profile.qty_digits),
        )

    def middle(self, bid: int, ask: int) -> str:
        return plain((bid + ask) * 5 * self.profile.tick_units, self.profile.price_digits + 1)


class Once:
    """Ids that should come once each, in whatever order. As large as what is missing, however many came."""

    def __init__(self) -> None:
        self.last_id = 0
        self.missing: set[int] = set()

    def take(self, number: int) -> bool:
        """False when it was taken before, or is older than the first one."""
        if not self.last_id or number > self.last_id:
            if self.last_id:
                self.missing.update(range(self.last_id + 1, number))
            self.last_id = number
            return True
        if number in self.missing:
            self.missing.remove(number)
            return True
        return False


class Comparer:
    """`take` judges one publication. `wrong` holds what is not the truth; it is to stay empty.

    `compared` counts publications by kind, `levels` the rows in them. `depth` is how many a side are published at most;
    `thin` counts books that show fewer though the market has more: the verified horizon. While `is_bbo_foreign` is set
    the venue's bookTicker means another thing, and `bbo` repeats what it says. With `is_whole` nothing is lost between
    publisher and here, so that `seq` has no holes and `last_price` is known.
    """

    def __init__(self, market: Market, *, depth: int = 20, is_whole: bool = True) -> None:
        self.is_bbo_foreign = False
        self.wrong: list[str] = []
        self.compared: Counter[str] = Counter()
        self.levels = 0
        self.thin = 0
        self._market = market
        self._depth = depth
        self._is_whole = is_whole
        self._trades: dict[str, Once] = {}
        self._entries: dict[str, Once] = {}  # those of the stream
        self._seqs: dict[tuple[str, str], tuple[int, int]] = {}
        self._last_prices: dict[str, str] = {}
        self._texts: dict[str, Texts] = {}
        self._newest: dict[str, tuple[int, Pairs, Pairs, Texts]] = {}  # one update is published in several outputs
        self._judges: dict[str, Callable[[str, bytes], str]] = {
            "orderbook": self._orderbook,
            "market_data": self._market_data,
            "book": self._book,
            "bbo": self._bbo,
            "trades": self._trade,
            "trades_stream": self._entry,
            "key book": self._rows_of_book,  # what a key holds was published before
            "key market_data": self._market_data,
        }

    @property
    def books(self) -> int:
        """Publications of a book's levels or top."""
        return sum(count for kind, count in self.compared.items() if not kind.startswith("trades"))

    @property
    def trades(self) -> int:
        return self.compared["trades"]

    def trades_missing(self) -> int:
        """Trades between the first and the last published one of each symbol that were not published."""
        return sum(len(once.missing) for once in self._trades.values())

    def leave_out(self, *kinds: str) -> None:
        """Do not judge these kinds: the market does not know what they say."""
        for kind in kinds:
            del self._judges[kind]

    def forget(self, symbol: str) -> None:
        """The symbol's publisher starts anew, knowing no trade."""
        self._last_prices.pop(symbol, None)

    def take(self, kind: str, symbol: str, payload: bytes) -> bool:
        """Whether it is true. Kinds that say nothing of the market are not judged."""
        judge = self._judges.get(kind)
        if judge is None:
            return True
        self.compared[kind] += 1
        try:
            what = judge(symbol, payload)
        except (LookupError, ValueError) as error:  # an id that the market never had, a field that is not there
            what = repr(error)
        if what:
            self.wrong.append(f"{kind} of {symbol}: {what} in {payload[:2000].decode()}")
        return not what

    # ---- books. What should be published is written, and bytes are compared: cheap for the usual, full book.

    def _orderbook(self, symbol: str, payload: bytes) -> str:
        update_id, bids, asks, texts = self._best(symbol, payload)
        bid_rows = ",".join([texts.row(level)[0] for level in reversed(bids)])
        ask_rows = ",".join([texts.row(level)[0] for level in asks])
        whole = f'{{"symbol":"{symbol}","bids":{{{bid_rows}}},"asks":{{{ask_rows}}},"last_update_id":{update_id},'
        if payload.startswith(whole.encode()):
            self.levels += len(bids) + len(asks)
            return ""
        said = json.loads(payload, parse_float=str, parse_int=str)
        return self._shown(
            [*reversed(said["bids"].items())], [*said["asks"].items()], *self._rows(texts, bids, asks, dotted)
        )

    def _book(self, symbol: str, payload: bytes) -> str:
        return self._rows_of_book(symbol, payload) or self._sequence("book", symbol, payload)

    def _rows_of_book(self, symbol: str, payload: bytes) -> str:
        _, bids, asks, texts = self._best(symbol, payload)
        bid_rows = ",".join([texts.row(level)[1] for level in bids])
        ask_rows = ",".join([texts.row(level)[1] for level in asks])
        if payload.endswith(f'"bids":[{bid_rows}],"asks":[{ask_rows}]}}'.encode()):
            self.levels += len(bids) + len(asks)
            return ""
        said = json.loads(payload)
        return self._shown(
            [*map(tuple, said["bids"])], [*map(tuple, said["asks"])], *self._rows(texts, bids, asks, str)
        )

    def _market_data(self, symbol: str, payload: bytes) -> str:
        _, bids, asks, texts = self._best(symbol, payload)
        bid, ask = (texts.row(side[0])[2] if side else "null" for side in (bids, asks))
        if f',"bid_price":{bid},"ask_price":{ask},'.encode() not in payload:
            return f"bid {bid} and ask {ask} are true"
        found = LAST_PRICE.search(payload)
        price = found[1].decode() if found else ""
        true = self._last_prices.get(symbol)
        if true is None:
            true = dotted(texts.middle(bids[0][0], asks[0][0])) if bids and asks else "null"
        is_known = self._is_whole and "trades" in self._judges
        return "" if price == true or not is_known else f"the last price is {true}"

    def _bbo(self, symbol: str, payload: bytes) -> str:
        what = self._sequence("bbo", symbol, payload)
        if what or self.is_bbo_foreign:
            return what
        found = BBO_ID.search(payload)
        update_id = int(found[1]) if found else -1
        texts = self._texts_of(symbol)
        bid, ask = (texts.row(side[0])[1] if side else "null" for side in self._market.best_at(symbol, update_id, 1))
        true = f'"update_id":{update_id},"bid":{bid},"ask":{ask},'
        return "" if true.encode() in payload else f"{true} is true"

    def _best(self, symbol: str, payload: bytes) -> tuple[int, Pairs, Pairs, Texts]:
        found = UPDATE_ID.search(payload)
        update_id = int(found[1]) if found else -1
        newest = self._newest.get(symbol)
        if newest is None or newest[0] != update_id:
            best = self._market.best_at(symbol, update_id, self._depth)
            newest = self._newest[symbol] = (update_id, *best, self._texts_of(symbol))
        return newest

    def _texts_of(self, symbol: str) -> Texts:
        texts = self._texts.get(symbol)
        profile = self._market.truth(symbol).profile
        if texts is None or texts.profile is not profile:
            texts = self._texts[symbol] = Texts(profile)
        return texts

    @staticmethod
    def _rows(texts: Texts, bids: Pairs, asks: Pairs, shape: Callable[[str], str]) -> list[list[tuple[str, ...]]]:
        return [[tuple(map(shape, texts.texts(level))) for level in side] for side in (bids, asks)]

    def _shown(self, bids: list, asks: list, true_bids: list, true_asks: list) -> str:
        """Both sides best first; they may end early, but never at the top."""
        for side, shown, true in (("bids", bids, true_bids), ("asks", asks, true_asks)):
            if shown != true[: len(shown)] or (true and not shown):
                return f"{side} {true} are true"
        self.levels += len(bids) + len(asks)
        self.thin += len(bids) < len(true_bids) or len(asks) < len(true_asks)
        return ""

    def _sequence(self, kind: str, symbol: str, payload: bytes) -> str:
        found = SEQ.search(payload)
        if found is None:
            return "epoch and seq are missing"
        epoch, seq = int(found[1]), int(found[2])
        last_epoch, last_seq = self._seqs.get((kind, symbol), (epoch, 0 if self._is_whole else seq - 1))
        self._seqs[kind, symbol] = (epoch, seq)
        if epoch != last_epoch:
            return "" if epoch > last_epoch else f"the epoch was {last_epoch}"
        return "" if (seq == last_seq + 1 if self._is_whole else seq > last_seq) else f"the last seq was {last_seq}"

    # ---- trades

    def _trade(self, symbol: str, payload: bytes) -> str:
        said = json.loads(payload, parse_float=str)
        true = self._market.tape(symbol).agg(said["trade_id"])
        if true is None:
            return "there was no such trade"
        once = self._trades.setdefault(symbol, Once())
        price, qty = map(dotted, self._texts_of(symbol).texts((true.price, true.qty)))
        if said["trade_id"] > once.last_id:
            self._last_prices[symbol] = price
        if not once.take(said["trade_id"]):
            return "it was published before"
        if (said["price"], said["quantity"], said["is_buyer_maker"]) != (price, qty, true.is_buyer_maker):
            return f"{true} is true"
        # The venue's clock may have jumped, by whole hours in the matrix.
        return "" if (said["timestamp"] - true.time_ms) % HOUR_MS == 0 else f"{true} is true"

    def _entry(self, symbol: str, payload: bytes) -> str:
        said = json.loads(payload)
        true = self._market.tape(symbol).agg(said["trade_id"])
        if true is None:
            return "there was no such trade"
        if not self._entries.setdefault(symbol, Once()).take(said["trade_id"]):
            return "it was published before"
        exact = (*self._texts_of(symbol).texts((true.price, true.qty)), true.is_buyer_maker)
        return "" if (said["price"], said["qty"], said["is_buyer_maker"]) == exact else f"{true} is true"


@lru_cache(maxsize=50_000)
def plain(units: int, digits: int) -> str:
    """`units` * 10**-digits without exponent and without trailing zeros."""
    return format(Decimal(units).scaleb(-digits).normalize(), "f")


def dotted(text: str) -> str:
    """With one fraction digit at least."""
    return text if "." in text else text + ".0"
