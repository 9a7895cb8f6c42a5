"""The whole Feed against a venue that does everything its rules allow, over lines that lose, repeat, lag and reorder.

Whatever happens: no book is published that the venue never had at that id, none while the state is not LIVE or PROVED,
`seq` counts by one, each trade comes once with its own numbers. And when the lines behave again, every book is good.
MDFEED_ODD_SEEDS=first:last plays other seeds than the few of every run.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from mdfeed import venues
from mdfeed._encode import Collector
from mdfeed._feed import Feed
from tests.odd_venue import KINDS, START_MS, Kind, OddVenue

# An exception in a noexcept function would be swallowed.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
MS = 10**6
S = 10**9
CHANNELS = ("depth@100ms", "bookTicker", "aggTrade", "depth20@100ms")
NUMBER = re.compile(r"-?\d+\.\d+")
FIRST, LAST = map(int, os.environ.get("MDFEED_ODD_SEEDS", "1:16").split(":"))


class Line:
    """One connection: what it does to a frame is drawn anew for each run."""

    def __init__(self, draw: random.Random) -> None:
        self.loss = draw.choice((0.0, 0.0, 0.01, 0.1))
        self.twice = draw.choice((0.0, 0.0, 0.05))
        self.lag_ns = draw.choice((0, 1, 30, 400)) * MS
        self.jitter_ns = draw.choice((0, 0, 0, 150)) * MS
        self.ticker_lag_ns = draw.choice((0, 0, 20, 300)) * MS
        self.number = -1
        self.last_ns: dict[str, int] = {}

    def calm(self) -> None:
        self.loss = self.twice = 0.0
        self.jitter_ns = 0


class Trial:
    """One history and what the Feed made of it."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        product = draw.choice(("usdm", "usdm", "spot"))
        kinds: tuple[Kind, ...] = tuple(draw.sample(KINDS, draw.randint(1, 3)))
        self.venue = OddVenue(kinds, seed, product)
        self.depth = draw.choice((1, 5, 20))
        self.collector = Collector(epoch=77)
        self.feed = Feed(
            venues.get(f"binance-{product}"),
            outboxes=[self.collector],
            depth=self.depth,
            snapshot_limit=draw.choice((20, 100, 1000)),
            first_limit=draw.choice((5, 20, 50)),
            max_levels=draw.choice((0, 0, 60)),
            buffer_bytes=draw.choice((16 << 10, 1 << 20)),
            recall_bytes=draw.choice((0, 65536)),
        )
        self.symbols = [kind.symbol for kind in kinds]
        for symbol in self.symbols:
            self.feed.add(symbol)
        self.now_ns = START_MS * MS
        self.due: list[tuple[int, int, Callable[[], object]]] = []
        self.serial = itertools.count()
        self.lines = [Line(draw) for _ in range(draw.choice((1, 1, 2, 3)))]
        self.has_partials = draw.random() < 0.3
        self.is_rest_odd = draw.random() < 0.5
        self.bodies: dict[str, list[bytes]] = {symbol: [] for symbol in self.symbols}
        self.said_trades: dict[str, dict[int, tuple[str, str]]] = {symbol: {} for symbol in self.symbols}
        self.brought: dict[str, set[int]] = {symbol: set() for symbol in self.symbols}
        self.trades: dict[str, Counter[int]] = {symbol: Counter() for symbol in self.symbols}
        self.states = dict.fromkeys(self.symbols, "COLD")
        self.seqs = dict.fromkeys(self.symbols, 0)
        self.bbo_seqs = dict.fromkeys(self.symbols, 0)
        self.books = 0
        self.next_restart_ns = self.now_ns
        self.skew_ms = 0  # of the venue's clock
        for line in self.lines:
            self.connect(line)

    def connect(self, line: Line) -> None:
        streams = [f"{symbol.lower()}@{channel}" for symbol in self.symbols for channel in CHANNELS]
        line.number = self.feed.open_line("line", streams, self.now_ns)
        line.last_ns = {}

    def at(self, time_ns: int, do: Callable[[], object]) -> None:
        heapq.heappush(self.due, (time_ns, next(self.serial), do))

    # ---- the venue speaks

    def say(self, frame: bytes, kind: str, trade: tuple[str, int] | None = None) -> None:
        for line in self.lines:
            if self.draw.random() < line.loss:
                continue
            for _ in range(2 if self.draw.random() < line.twice else 1):
                lag_ns = line.lag_ns + (line.ticker_lag_ns if kind == "bookTicker" else 0)
                due_ns = self.now_ns + lag_ns
                if line.jitter_ns:
                    due_ns += self.draw.randint(0, line.jitter_ns)  # frames overtake each other
                else:
                    due_ns = line.last_ns[kind] = max(due_ns, line.last_ns.get(kind, 0))
                self.at(due_ns, self.delivery(line, line.number, frame, trade))

    def delivery(self, line: Line, number: int, frame: bytes, trade: tuple[str, int] | None) -> Callable[[], None]:
        def deliver() -> None:
            if line.number == number:
                self.feed.receive(number, frame, self.now_ns)
                if trade:
                    self.brought[trade[0]].add(trade[1])

        return deliver

    def step(self, is_calm: bool) -> None:
        draw, venue = self.draw, self.venue
        now_ms = self.now_ns // MS
        ms = now_ms + self.skew_ms
        for symbol, market in venue.markets.items():
            if draw.random() < 0.003:
                market.finer = 1  # its prices need more digits from now on
            for _ in range(draw.choice((0, 0, 1, 4))):
                before = market.top("b", 1), market.top("a", 1)
                market.move(venue)
                if before != (market.top("b", 1), market.top("a", 1)):
                    self.say(venue.ticker(market, ms), "bookTicker")
            if not is_calm and draw.random() < 0.004:
                draw.choice((market.cross, lambda v, m=market: m.empty(v, draw.choice("ba"))))(venue)
                self.say(venue.ticker(market, ms), "bookTicker")
                if (frame := venue.diff(market, ms)) is not None:
                    self.say(frame, "depth")
                market.uncross(venue)
                self.say(venue.ticker(market, ms), "bookTicker")
            if draw.random() < 0.1:
                trade_id, frame = venue.trade(market, ms)
                data = json.loads(frame)["data"]
                self.said_trades[symbol][trade_id] = data["p"], data["q"]
                self.say(frame, "aggTrade", (symbol, trade_id))
            if now_ms % 100 < 20:
                if (frame := venue.diff(market, ms)) is not None:
                    self.say(frame, "depth")
                if self.has_partials:
                    self.say(venue.partial(market, ms), "partial")
        if not is_calm and draw.random() < 0.002 and self.now_ns >= self.next_restart_ns:
            self.next_restart_ns = self.now_ns + 6 * S
            venue.start_over()
            self.set_clock()
        if not is_calm and draw.random() < 0.0005:
            self.set_clock()
        if not is_calm and draw.random() < 0.003:
            line = draw.choice(self.lines)
            self.feed.lost(line.number, self.now_ns)
            line.number = -1
            self.at(self.now_ns + draw.choice((50, 3000)) * MS, lambda: line.number == -1 and self.connect(line))

    def set_clock(self) -> None:
        """The venue's clock jumps, or not."""
        self.skew_ms = self.draw.choice((0, 0, self.skew_ms, -60_000, -3_600_000, 5_000))

    # ---- the feed asks

    def fetch(self, is_calm: bool) -> None:
        for wanted in self.feed.wanted(self.now_ns):
            self.feed.snapshot_requested(wanted.symbol, self.now_ns)
            self.at(
                self.now_ns + self.draw.choice((1, 60, 700)) * MS, self.answer(wanted.symbol, wanted.limit, is_calm)
            )

    def answer(self, symbol: str, limit: int, is_calm: bool) -> Callable[[], None]:
        def look() -> None:
            body = self.venue.depth(self.venue.markets[symbol], limit, self.now_ns // MS + self.skew_ms)
            kept = self.bodies[symbol]
            if self.is_rest_odd and not is_calm and limit > 5:
                chance = self.draw.random()
                if chance < 0.2 and kept:
                    body = kept[-1]  # a cache that is behind
                elif chance < 0.3:
                    self.feed.snapshot_failed(symbol, "server_error", self.now_ns)
                    return
            if limit > 5:
                kept.append(body)
            late_ns = self.draw.choice((1, 40, 900)) * MS
            self.at(self.now_ns + late_ns, lambda: self.feed.snapshot(symbol, "rest", limit, body, self.now_ns))

        return look

    # ---- time, and what came out

    def run(self, seconds: float, is_calm: bool) -> None:
        end_ns = self.now_ns + round(seconds * S)
        while self.now_ns < end_ns:
            self.step(is_calm)
            self.now_ns += 20 * MS
            while self.due and self.due[0][0] <= self.now_ns:
                heapq.heappop(self.due)[2]()
            if self.now_ns // MS % 100 < 20:
                self.fetch(is_calm)
            if self.now_ns // MS % 1000 < 20:
                self.feed.tick(self.now_ns)
            self.check()

    def check(self) -> None:
        for kind, symbol, payload in self.collector.take():
            if kind == "events" or kind == "withdraw":
                continue
            said = json.loads(payload, parse_float=Decimal)
            if kind == "state":
                self.states[symbol] = said["state"]
            elif kind == "book":
                self.check_book(symbol, said)
            elif kind == "orderbook":
                self.check_orderbook(symbol, said, payload.decode())
            elif kind == "market_data":
                truth = self.truth(symbol, said["last_update_id"])
                best = [side[0][0] if side else None for side in truth]
                assert [said["bid_price"], said["ask_price"]] == best
            elif kind == "bbo":
                self.bbo_seqs[symbol] += 1
                assert said["seq"] == self.bbo_seqs[symbol]
                shown = [tuple(map(Decimal, said[side])) if said[side] else None for side in ("bid", "ask")]
                assert shown == [side[0] if side else None for side in self.truth(symbol, said["update_id"])]
            elif kind == "trades":
                self.trades[symbol][said["trade_id"]] += 1
                price, qty = self.said_trades[symbol][said["trade_id"]]
                assert (said["price"], said["quantity"]) == (Decimal(price), Decimal(qty))

    def truth(self, symbol: str, update_id: int) -> tuple[list[Any], list[Any]]:
        truth = self.venue.markets[symbol].at(update_id)
        assert truth is not None, f"{symbol}: the venue has said no {update_id}"
        return truth

    def check_book(self, symbol: str, said: dict[str, Any]) -> None:
        self.books += 1
        self.seqs[symbol] += 1
        assert said["seq"] == self.seqs[symbol]
        assert said["state"] == self.states[symbol], "the state is said before the book"
        assert said["state"] in ("LIVE", "PROVED")
        truth = self.truth(symbol, said["last_update_id"])
        for side, exact in zip(("bids", "asks"), truth, strict=True):
            shown = [(Decimal(price), Decimal(qty)) for price, qty in said[side]]
            assert shown == exact[: len(shown)], f"{symbol} {side} at {said['last_update_id']}"
            assert len(shown) == min(self.depth, said["verified_levels"][side])
        if truth[0] and truth[1] and said["bids"] and said["asks"]:
            assert truth[0][0][0] < truth[1][0][0], "crossed"

    def check_orderbook(self, symbol: str, said: dict[str, Any], text: str) -> None:
        truth = self.truth(symbol, said["last_update_id"])
        for side, exact in zip(("bids", "asks"), truth, strict=True):
            body = re.search(rf'"{side}":{{(.*?)}}', text)[1]
            texts = [part.split(":") for part in body.split(",")] if body else []
            assert all(NUMBER.fullmatch(price.strip('"')) and NUMBER.fullmatch(qty) for price, qty in texts)
            prices = [Decimal(price.strip('"')) for price, _ in texts]
            assert prices == sorted(prices)
            shown = sorted(((Decimal(p), Decimal(q)) for p, q in said[side].items()), reverse=side == "bids")
            assert shown == exact[: len(shown)]


@pytest.mark.parametrize("seed", range(FIRST, LAST + 1))
def test_whatever_happens_nothing_wrong_is_published_and_all_heals(seed):
    trial = Trial(seed)
    trial.run(12, is_calm=False)
    for line in trial.lines:
        line.calm()
    trial.run(45, is_calm=True)
    assert trial.books > 50
    for symbol, track in trial.feed.tracks.items():
        assert track.state in ("LIVE", "PROVED"), (symbol, track.state, track.reason, track.resyncs)
        track.book.check()
        ids = trial.trades[symbol]
        assert not ids or max(ids.values()) == 1
        first = min(ids, default=0)
        assert {i for i in trial.brought[symbol] if i >= first} - set(ids) == set(), "a trade was swallowed"
    assert trial.feed.publisher.failures == 0
