"""What `mdfeed replay --json` must say, computed the slow and obvious way: json, Decimal, dict. Uses nothing of mdfeed.

Reads gzip or plain text captures and cryptofeed format 1. Knows Binance USD-M, COIN-M and Spot.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any

RING = 1024  # diffs that wait for a verdict; older ones are given up
EXACT = Context(prec=60)


def plain(value: Decimal) -> str:
    """Plain decimal without trailing zeros, without exponent."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass
class Book:
    """`patience`: so many contradictions in a row, by diffs that were not held, make the book suspect."""

    patience: int = 1
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    last_id: int = 0
    is_waiting: bool = True
    held: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    pending: list[tuple[int, tuple[Decimal, ...]]] = field(default_factory=list)
    tickers: list[tuple[int, tuple[Decimal, ...]]] = field(default_factory=list)
    verdicts: list[tuple[int, bool]] = field(default_factory=list)
    run: int = 0
    digests: dict[int, str] = field(default_factory=dict)

    def top(self) -> tuple[Decimal, ...]:
        zero = Decimal(0)
        bid = max(self.bids, default=zero)
        ask = min(self.asks, default=zero)
        return bid, self.bids.get(bid, zero), ask, self.asks.get(ask, zero)

    def load(self, body: dict[str, Any]) -> None:
        self.bids = {Decimal(p): Decimal(q) for p, q in body["bids"] if Decimal(q)}
        self.asks = {Decimal(p): Decimal(q) for p, q in body["asks"] if Decimal(q)}
        self.last_id = body["lastUpdateId"]
        self.is_waiting = False
        held, self.held = self.held, []
        for diff in held:
            self.diff(diff, is_held=True)

    def diff(self, data: dict[str, Any], is_held: bool = False) -> None:
        """Futures chain by `pu`, Spot by `U` - 1: apply when prev <= last < u, drop when u <= last, else a gap."""
        if self.is_waiting:
            self.held.append(data)
            return
        last_id, prev_id = data["u"], data.get("pu", data["U"] - 1)
        if last_id <= self.last_id:
            self.counts["stale"] += 1
            return
        if prev_id > self.last_id:
            self.counts["gaps"] += 1
            self.suspect()
            self.held = [data]
            return
        for side, rows in ((self.bids, data["b"]), (self.asks, data["a"])):
            for price_text, qty_text in rows:
                price, qty = Decimal(price_text), Decimal(qty_text)
                if qty:
                    side[price] = qty
                else:
                    side.pop(price, None)
        self.last_id = last_id
        self.counts["applied"] += 1
        top = self.top()
        if top[1] and top[3] and top[0] >= top[2]:
            self.counts["crossed"] += 1
        self.pending.append((last_id, top))
        if len(self.pending) > RING:
            del self.pending[0]
            self.counts["unjudged"] += 1
        self.judge(is_held)

    def ticker(self, data: dict[str, Any]) -> None:
        if not self.tickers or data["u"] > self.tickers[-1][0]:
            self.tickers.append((data["u"], tuple(Decimal(data[key]) for key in "bBaA")))
            del self.tickers[:-RING]
        self.judge()

    def judge(self, is_held: bool = False) -> None:
        """A bookTicker with a larger id closes the diffs below it: each must equal the newest ticker at or below it."""
        while self.pending and self.tickers and self.pending[0][0] < self.tickers[-1][0]:
            last_id, top = self.pending.pop(0)
            said = next((t for u, t in reversed(self.tickers) if u <= last_id), None)
            if said is None:
                self.counts["unjudged"] += 1
                continue
            self.verdicts.append((last_id, said == top))
            self.run = 0 if said == top else self.run + 1
            if self.run >= self.patience and not is_held:
                self.suspect()

    def suspect(self) -> None:
        """The book stands still until the next snapshot."""
        self.counts["resyncs"] += 1
        self.is_waiting = True
        self.held = []
        self.give_up()

    def give_up(self) -> None:
        self.counts["unjudged"] += len(self.pending)
        self.pending = []
        self.run = 0

    def digest(self) -> str:
        sha = hashlib.sha256()
        for mark, side, is_down in (("b", self.bids, True), ("a", self.asks, False)):
            for price in sorted(side, reverse=is_down):
                sha.update(f"{mark},{plain(price)},{plain(side[price])}\n".encode())
        return sha.hexdigest()

    def best(self, side: str) -> list[str] | None:
        bid, bid_qty, ask, ask_qty = self.top()
        price, qty = (bid, bid_qty) if side == "bids" else (ask, ask_qty)
        return [plain(price), plain(qty)] if qty else None


@dataclass
class Trades:
    rows: list[tuple[Decimal, Decimal]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        with localcontext(EXACT):
            qty = sum((q for _, q in self.rows), Decimal(0))
            prices = [p for p, _ in self.rows]
            return {
                "count": len(self.rows),
                "qty": plain(qty),
                "vwap": sum((p * q for p, q in self.rows), Decimal(0)) / qty,
                "high": plain(max(prices)),
                "low": plain(min(prices)),
                "last": plain(prices[-1]),
            }


@dataclass
class Outcome:
    messages: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    books: dict[str, Book] = field(default_factory=dict)
    trades: dict[str, Trades] = field(default_factory=dict)


def open_text(path: Path) -> Iterator[bytes]:
    is_gzip = path.read_bytes()[:2] == b"\x1f\x8b"
    with gzip.open(path) if is_gzip else path.open("rb") as file:
        yield from file


def records(path: Path) -> Iterator[tuple[int, str | None, bytes]]:
    """(receive time in ns, symbol of a REST body or None, text) of each frame and REST body."""
    only = None
    for line in open_text(path):
        line = line.strip()
        if match := re.fullmatch(rb"(?:https?://\S+[?&]symbol=(\w+)\S* -> )?(\d+\.\d+): (.*)", line, re.S):
            yield int(Decimal(match[2].decode()) * 10**9), match[1].decode() if match[1] else None, match[3]
        elif match := re.fullmatch(rb"(\d{15,19}) (.*)", line, re.S):
            recv_ns = int(match[1]) * (1000 if len(match[1]) < 18 else 1)
            symbol = None
            if match[2].startswith(b'{"lastUpdateId"'):
                symbol = json.loads(match[2]).get("symbol")
                if symbol is None:
                    only = only or {
                        json.loads(t.split(b" ", 1)[1])["data"]["s"] for t in open_text(path) if b'"s":"' in t
                    }
                    (symbol,) = only
            yield recv_ns, symbol, match[2]


def compute(
    paths: list[Path], patience: int = 1, to_update_id: int | None = None, marks: frozenset[int] = frozenset()
) -> Outcome:
    """Everything of one session. `marks`: diff ids after which the book's digest is kept in `digests`."""
    out = Outcome()
    stopped: set[str] = set()
    rows = [row for path in paths for row in records(path)]
    for _, symbol, text in sorted(rows, key=lambda row: row[0]):
        data = json.loads(text)
        if symbol:
            book = out.books.setdefault(symbol, Book(patience))
            if book.is_waiting and not (to_update_id and data["lastUpdateId"] > to_update_id):
                book.load(data)
            continue
        data = data.get("data", data)
        event = data.get("e", "bookTicker" if {"u", "b", "B", "a", "A"} <= data.keys() else "other")
        symbol = data["s"]
        if symbol in stopped:
            continue
        if event == "depthUpdate" and to_update_id and data["u"] > to_update_id:
            stopped.add(symbol)
            if stopped == out.books.keys():
                break
            continue
        out.messages += 1
        out.by_type[event] += 1
        if event == "depthUpdate":
            book = out.books.setdefault(symbol, Book(patience))
            book.diff(data)
            if data["u"] in marks:
                book.digests[data["u"]] = book.digest()
        elif event == "bookTicker":
            out.books.setdefault(symbol, Book(patience)).ticker(data)
        elif event in ("trade", "aggTrade") and data.get("X", "MARKET") == "MARKET":
            out.trades.setdefault(symbol, Trades()).rows.append((Decimal(data["p"]), Decimal(data["q"])))
    for book in out.books.values():
        book.give_up()
    return out
