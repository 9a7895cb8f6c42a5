"""The whole way on virtual time: simulated venue with faults, lines that reconnect, the real governor, the real heart.

Lines are modelled (their sockets are what the socket form tests); REST is mdfeed's own Rest and Snapshots, running on
a virtual clock, with the venue's answers in the place of its sockets.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from email.utils import formatdate
from functools import lru_cache

from mdfeed import venues
from mdfeed.exchange.faults import Asked
from mdfeed.exchange.market import START_NS
from mdfeed.exchange.profiles import Profile, profile_for
from mdfeed.exchange.rest import Desk
from mdfeed.exchange.script import Script
from mdfeed.exchange.weight import Scales
from mdfeed.refusals import Backoff, of_status
from mdfeed.rest import Rest
from mdfeed.snapshots import Snapshots
from tests.faults.clock import VirtualLoop
from tests.virtual import MS, S, World

PEER = "192.0.2.1"


class VirtualRest(Rest):
    """Rest with the venue's desk in the place of its sockets."""

    def __init__(self, world: FaultWorld) -> None:
        super().__init__("http://venue.invalid", now_ns=lambda: world.now_ns + world.skew_ns)
        self._world = world

    async def _exchange(self, path: str) -> tuple[int, dict[str, str], bytes]:
        world = self._world
        asked = Asked("GET", path, PEER, False)
        world.note_request(path)
        async with asyncio.timeout(self._timeout_s):
            await asyncio.sleep(world.rest_latency_ns / 2e9)
            answer = world.seam.asked(asked)
            if answer is None:
                answer = world.seam.answered(asked, world.desk.answer("GET", path, PEER))
            await asyncio.sleep(world.rest_latency_ns / 2e9 + answer.delay_s)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        headers["date"] = formatdate(world.now_ns / 1e9, usegmt=True)
        return answer.status, headers, answer.body


class FaultWorld(World):
    """`script` holds the faults. Every published book is compared; `counts` says what was."""

    def __init__(self, symbols: Sequence[str], *, lines: int = 1, seed: int = 1, **options: object) -> None:
        self.script = Script()
        self.connects: list[tuple[int, int]] = []  # (time, line) of accepted connections
        self.requests: dict[str, list[int]] = defaultdict(list)  # symbol -> times of its snapshot requests
        self._draw = random.Random(f"{seed}:lines")
        profiles = [busy(symbol) for symbol in symbols]
        super().__init__(symbols, lines=lines, seed=seed, seam=self.script, profiles=profiles, **options)
        self._line_count = lines
        self.loop = VirtualLoop()
        self.desk = Desk(self.market, lambda: self.now_ns, Scales())
        self.rest = VirtualRest(self)
        venue = venues.get("binance-usdm")
        self.snapshots = Snapshots(
            self.feed, venue, self.rest, flush=lambda: None, now_ns=lambda: self.now_ns + self.skew_ns
        )
        self.serving = self.loop.create_task(self.snapshots.run())
        self.trades_published = 0
        self.trades_twice = 0
        self._trades_seen: dict[str, set[int]] = {symbol: set() for symbol in symbols}
        self.trade_ids = {}

    def end(self) -> None:
        """Nothing of the event loop stays behind."""
        self.serving.cancel()
        self.loop.advance(self.loop.time() + 0.001)
        self.loop.close()

    # ---- lines that come back

    def open(self, number: int) -> int:
        self.connects.append((self.now_ns, number))
        return super().open(number)

    def lose(self, number: int) -> None:
        super().lose(number)
        self._come_back(number, Backoff(1.0, 60.0, self._draw.random))

    def _come_back(self, number: int, backoff: Backoff, wait_s: float | None = None) -> None:
        wait_s = backoff.wait_s() if wait_s is None else wait_s
        self.at(self.now_ns + round(wait_s * S), lambda _: self._try(number, backoff))

    def _try(self, number: int, backoff: Backoff) -> None:
        answer = self.seam.asked(Asked("GET", f"/public/stream?line={number}", PEER, True))
        if answer is None:
            self.lines[number] = self.open(number)
        else:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            self._come_back(number, backoff, backoff.wait_s(of_status(answer.status, headers, answer.body)))

    # ---- the governor's turn

    def note_request(self, path: str) -> None:
        symbol = path.partition("symbol=")[2].partition("&")[0]
        self.requests[symbol].append(self.now_ns)

    def _work(self, now_ns: int) -> None:
        if now_ns >= self._next_tick_ns:
            self._next_tick_ns = now_ns + 250 * MS
            self.feed.tick(now_ns + self.skew_ns)
        self.loop.advance((now_ns - START_NS) / 1e9)
        if self.serving.done():
            self.serving.result()

    # ---- what was published

    def check(self) -> None:
        for kind, symbol, payload in self.collector.take():
            if kind == "orderbook":
                self._compare(symbol, json.loads(payload, parse_float=str, parse_int=str))
            elif kind == "trades":
                self._note_trade(symbol, json.loads(payload)["trade_id"])

    def _compare(self, symbol: str, book: dict) -> None:
        truth = self.market.book_at(symbol, int(book["last_update_id"]))
        self.books_compared += 1
        profile = truth.profile
        tick, digits, step, qty_digits = (
            profile.tick_units,
            profile.price_digits,
            profile.step_units,
            profile.qty_digits,
        )
        for side, own in (("bids", truth.bids), ("asks", truth.asks)):
            # Payloads ascend by price on both sides.
            shown = list(book[side].items())
            prices = sorted(own, reverse=side == "bids")[: len(shown)]
            if side == "bids":
                prices.reverse()
            exact = [
                (plain_units(price * tick, digits), plain_units(own[price] * step, qty_digits)) for price in prices
            ]
            assert shown == exact, f"{symbol} {side} at {book['last_update_id']}"
            self.levels_compared += len(shown)

    def _note_trade(self, symbol: str, trade_id: int) -> None:
        self.trades_published += 1
        seen = self._trades_seen[symbol]
        self.trades_twice += trade_id in seen
        seen.add(trade_id)

    def trades_missing(self) -> int:
        """Aggregate trades between the first and the last published one of a symbol that were not published."""
        return sum(max(seen) - min(seen) + 1 - len(seen) for seen in self._trades_seen.values() if seen)

    def trades_counted_missing(self) -> int:
        """What the heart says of it."""
        return sum(track.agg_trades.missing + track.agg_trades.lost for track in self.feed.tracks.values())

    def unproved(self) -> list[str]:
        return [symbol for symbol, track in self.feed.tracks.items() if track.state != "PROVED"]

    def missing_lines(self) -> int:
        return self._line_count - len(self.lines)

    def frames(self) -> int:
        return sum(self.feed.frames_by_kind.values())


def busy(symbol: str) -> Profile:
    """An instrument whose top changes several times a second at modest rates: a proof needs a bookTicker."""
    return replace(profile_for(symbol), reach_ticks=1.5)


@lru_cache(maxsize=500_000)
def plain_units(units: int, digits: int) -> str:
    """`units` * 10**-digits as payloads write it: no trailing zeros, one fraction digit at least."""
    text = format(Decimal(units).scaleb(-digits).normalize(), "f")
    return text if "." in text else text + ".0"
