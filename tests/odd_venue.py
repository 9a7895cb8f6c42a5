"""A venue that does everything its rules allow, and lines that do worse: the twin that the whole Feed is held against.

Knows nothing of mdfeed. Its book is a dict, its truth is kept at every id, its text is written by Decimal. Ids are
shared by all symbols, diffs are batches whose `U` is not `pu` + 1, snapshots come from any time, sides run empty,
unknown levels are deleted, prices are far, tiny or huge, fractions grow, ids start over.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

START_MS = 1_767_000_000_000
SHOWN = 40  # levels a side that the truth remembers at each id
Level = tuple[Decimal, Decimal]


@dataclass(frozen=True)
class Kind:
    """What a market's numbers look like: `fraction` and `qty_fraction` digits are written, zeros included."""

    symbol: str
    tick: str
    base: int  # price in ticks
    step: str = "0.001"
    most: int = 50_000  # quantity in steps
    fraction: int | None = None
    qty_fraction: int | None = None


KINDS = (
    Kind("BTCUSDT", "0.1", 618_000, fraction=2),
    Kind("1000SHIBUSDT", "0.000001", 21_345, "1", 10**9),
    Kind("BTCDOMUSDT", "0.1", 100_000_000),
    Kind("NANOUSDT", "0.00000001", 10, "1", 10**12, 8, 8),
    Kind("ATTOUSDT", "0.000000000000000001", 4_321, "1", 9),
    Kind("WEIUSDT", "0.000000000000000001", 8 * 10**18, "0.000000000000000001", 9 * 10**18),
    Kind("HUGEUSDT", "1", 5_000, "1", 2**63 - 1),
    Kind("BTCUSDT_260327", "0.1", 617_000),
    Kind("币安人生USDT", "0.00001", 12_345, "1", 10**6),
)


@dataclass
class Odd:
    """One market."""

    kind: Kind
    draw: random.Random
    bids: dict[int, int] = field(default_factory=dict)  # ticks -> steps
    asks: dict[int, int] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)  # of this era, ascending, with the truth at each
    truths: list[tuple[list[Level], list[Level]]] = field(default_factory=list)
    eras: list[tuple[list[int], list[tuple[list[Level], list[Level]]]]] = field(default_factory=list)  # earlier ones
    batch: list[tuple[str, int, int]] = field(default_factory=list)
    first_id: int = 0
    prev_u: int = 0
    trade_id: int = 0
    finer: int = 1  # prices are multiples of so many ticks

    @property
    def middle(self) -> int:
        return self.kind.base

    def price(self, ticks: int) -> str:
        return _text(ticks, self.kind.tick, self.kind.fraction)

    def qty(self, steps: int) -> str:
        return _text(steps, self.kind.step, self.kind.qty_fraction)

    def set(self, venue: OddVenue, side: str, ticks: int, steps: int) -> None:
        levels = self.bids if side == "b" else self.asks
        if steps:
            levels[ticks] = steps
        else:
            levels.pop(ticks, None)
        update_id = venue.next_id(self.draw)
        if not self.batch:
            self.first_id = update_id
        self.batch.append((side, ticks, steps))
        self.ids.append(update_id)
        self.truths.append((self.top("b"), self.top("a")))

    def top(self, side: str, n: int = SHOWN) -> list[Level]:
        levels = self.bids if side == "b" else self.asks
        best = sorted(levels, reverse=side == "b")[:n]
        tick, step = Decimal(self.kind.tick), Decimal(self.kind.step)
        return [(Decimal(p) * tick, Decimal(levels[p]) * step) for p in best]

    def at(self, update_id: int) -> tuple[list[Level], list[Level]] | None:
        """The truth at an id, of the era that the id lies in; None when the venue has said no such id."""
        for ids, truths in ((self.ids, self.truths), *self.eras):
            if ids and ids[0] <= update_id <= ids[-1]:
                return truths[bisect_right(ids, update_id) - 1]
        return None

    def move(self, venue: OddVenue) -> None:
        """One change, of the kinds that markets have."""
        draw, mid = self.draw, self.middle
        side = draw.choice("ba")
        near = max(1, min(int(draw.expovariate(0.15)) + 1, mid - 1))
        ticks = mid - near if side == "b" else mid + near
        ticks += -ticks % self.finer if side == "a" else -(ticks % self.finer)
        chance = draw.random()
        if chance < 0.30:
            levels = self.bids if side == "b" else self.asks
            known = sorted(levels, reverse=side == "b")
            self.set(venue, side, draw.choice(known[:10]) if known else max(1, ticks), 0)
        elif chance < 0.35:
            self.set(venue, side, max(1, ticks + draw.choice((-1, 1)) * self.finer), 0)  # perhaps no such level
        elif chance < 0.37:
            far = max(1, mid // 100) if side == "b" else min(mid * 10, mid + 10**18)
            self.set(venue, side, far, draw.randint(1, self.kind.most))
        elif ticks > 0 and (ticks < mid) == (side == "b") and ticks != mid:
            self.set(venue, side, ticks, draw.randint(1, self.kind.most))

    def empty(self, venue: OddVenue, side: str) -> None:
        for ticks in sorted(self.bids if side == "b" else self.asks):
            self.set(venue, side, ticks, 0)

    def cross(self, venue: OddVenue) -> None:
        if self.asks and self.bids:
            self.set(venue, "b", min(self.asks), 1)

    def uncross(self, venue: OddVenue) -> None:
        for ticks in [ticks for ticks in self.bids if self.asks and ticks >= min(self.asks)]:
            self.set(venue, "b", ticks, 0)


def _text(units: int, unit: str, digits: int | None) -> str:
    value = Decimal(units) * Decimal(unit)
    return f"{value:.{digits}f}" if digits is not None else f"{value:f}"


class OddVenue:
    """Markets with one id counter, and the frames they say. `product`: "usdm" or "spot"."""

    def __init__(self, kinds: tuple[Kind, ...], seed: int, product: str) -> None:
        self.draw = random.Random(seed)
        self.product = product
        self.last_id = self.draw.choice((5_000_000, 5_000_000_000_000, 2**62))
        self.markets = {kind.symbol: Odd(kind, self.draw) for kind in kinds}
        for market in self.markets.values():
            market.finer = self.draw.choice((1, 1, 10, 100))
            for _ in range(self.draw.choice((0, 3, 40, 200))):
                market.move(self)
            market.set(self, "b", market.middle - 1, 1)
            market.batch.clear()
            market.prev_u = self.last_id

    def next_id(self, draw: random.Random) -> int:
        self.last_id += draw.choice((1, 1, 2, 37))
        return self.last_id

    def start_over(self) -> None:
        """The matching engine was restarted: ids count from near zero, the books are the same."""
        self.last_id = self.draw.randint(1, 50)
        for market in self.markets.values():
            market.eras.append((market.ids, market.truths))
            market.ids, market.truths = [], []
            market.set(self, "b", 1, 0)
            market.batch.clear()
            market.prev_u = self.last_id

    def wrap(self, stream: str, data: dict[str, Any], ms: int) -> bytes:
        keys = list(data.items())
        if self.draw.random() < 0.2:
            self.draw.shuffle(keys)  # their order is not promised
        name = f"{data['s'].lower()}@{stream}" if "s" in data else stream
        return json.dumps({"stream": name, "data": dict(keys)}, ensure_ascii=False, separators=(",", ":")).encode()

    def diff(self, market: Odd, ms: int) -> bytes | None:
        """What has changed since the last one; each level with its newest quantity."""
        if not market.batch:
            return None
        newest = {(side, ticks): steps for side, ticks, steps in market.batch}
        rows: dict[str, list[list[str]]] = {"b": [], "a": []}
        for (side, ticks), steps in newest.items():
            rows[side].append([market.price(ticks), market.qty(steps)])
        last_id = market.ids[-1]
        data = {"e": "depthUpdate", "E": ms, "T": ms, "s": market.kind.symbol, "U": market.first_id, "u": last_id}
        if self.product == "usdm":
            data["pu"] = market.prev_u
        else:
            data["U"] = market.prev_u + 1
        market.batch.clear()
        market.prev_u = last_id
        return self.wrap("depth@100ms", {**data, **rows}, ms)

    def ticker(self, market: Odd, ms: int) -> bytes:
        zero = [(Decimal(0), Decimal(0))]
        (bid, bid_qty), (ask, ask_qty) = ((side or zero)[0] for side in (market.top("b", 1), market.top("a", 1)))
        data: dict[str, Any] = {"u": market.ids[-1], "s": market.kind.symbol}
        data.update(b=f"{bid:f}", B=f"{bid_qty:f}", a=f"{ask:f}", A=f"{ask_qty:f}")
        if self.product == "usdm":
            data = {"e": "bookTicker", **data, "T": ms, "E": ms}
        return self.wrap("bookTicker", data, ms)

    def trade(self, market: Odd, ms: int) -> tuple[int, bytes]:
        market.trade_id += 1
        price, qty = market.price(market.middle), market.qty(self.draw.randint(1, market.kind.most))
        data = {"e": "aggTrade", "E": ms, "s": market.kind.symbol, "a": market.trade_id, "p": price, "q": qty}
        data.update(f=market.trade_id, l=market.trade_id, T=ms, m=self.draw.random() < 0.5)
        return market.trade_id, self.wrap("aggTrade", data, ms)

    def partial(self, market: Odd, ms: int) -> bytes:
        data = {"e": "depthUpdate", "E": ms, "T": ms, "s": market.kind.symbol, "U": market.ids[-1], "u": market.ids[-1]}
        data.update(pu=market.prev_u, b=self._rows(market, "b", 20), a=self._rows(market, "a", 20))
        return self.wrap("depth20@100ms", data, ms)

    def depth(self, market: Odd, limit: int, ms: int) -> bytes:
        body: dict[str, Any] = {"lastUpdateId": market.ids[-1]}
        if self.product == "usdm":
            body.update(E=ms, T=ms)
        body.update(bids=self._rows(market, "b", limit), asks=self._rows(market, "a", limit))
        return json.dumps(body, separators=(",", ":")).encode()

    def _rows(self, market: Odd, side: str, limit: int) -> list[list[str]]:
        levels = market.bids if side == "b" else market.asks
        best = sorted(levels, reverse=side == "b")[:limit]
        return [[market.price(ticks), market.qty(levels[ticks])] for ticks in best]
