"""Feed and simulated market on virtual time: no socket, no sleep, millions of frames.

The market's truth knows the exact book at every id, so every published book is compared with it, on every published
level. What the feed is handed (which frame, on which line, when, in which order) is the test's to spoil.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from mdfeed import venues
from mdfeed._encode import Collector
from mdfeed._feed import Feed
from mdfeed.exchange.faults import Seam
from mdfeed.exchange.market import START_NS, Market, Said
from mdfeed.exchange.profiles import Profile

MS = 10**6
S = 10**9
CHANNELS = ("depth@100ms", "bookTicker", "aggTrade")

PING_PATIENCE_NS = 10 * S  # after which a client gives up a connection on which nothing comes, not even a PONG

Spoil = Callable[[int, int, str, bytes], Iterable[tuple[int, bytes]]]
"""(line, time, stream, frame) -> what arrives of it: (delay in ns, frame) any number of times."""


def untouched(line: int, time_ns: int, stream: str, frame: bytes) -> Iterable[tuple[int, bytes]]:
    return ((0, frame),)


class LocalWire:
    """One line's connection, as faults see it. Bytes have no meaning here: whole frames arrive."""

    def __init__(self, world: World, number: int, path: str) -> None:
        self.path = path
        self.is_frozen = False
        self._world, self._number = world, number

    def write(self, data: bytes) -> None:
        raise AssertionError("no bytes on virtual time")

    def close(self, code: int, reason: str) -> None:
        self._world.cut(self._number, self)

    def abort(self) -> None:
        self._world.cut(self._number, self)

    def say(self, text: bytes) -> None:
        self._world.bring(self._number, text)

    def freeze(self) -> None:
        """The client notices that nothing comes and its PING has no answer."""
        self.is_frozen = True
        self._world.at(self._world.now_ns + PING_PATIENCE_NS, lambda _: self._world.cut(self._number, self))

    def mute_pongs(self) -> None:
        """Nobody minds as long as frames come."""


class World:
    """A market, a feed with `lines` redundant lines, and what the feed has published."""

    def __init__(
        self,
        symbols: Sequence[str] = ("BTCUSDT",),
        *,
        seed: int = 1,
        rate: float = 60.0,
        lines: int = 1,
        latency_ns: int = 2 * MS,
        rest_latency_ns: int = 80 * MS,
        snapshot_limit: int = 1000,
        depth: int = 20,
        channels: Sequence[str] = CHANNELS,
        levels: int | None = None,
        profiles: Sequence[Profile] = (),
        seam: Seam | None = None,
        **feed_options: int,
    ) -> None:
        self.market = Market(symbols, seed=seed, rate=rate, levels=levels, profiles=profiles)
        self.seam = seam or Seam()
        self.collector = Collector(outputs=("market_data", "orderbook", "trades", "state"))
        self.feed = Feed(
            venues.get("binance-usdm"),
            outboxes=[self.collector],
            depth=depth,
            snapshot_limit=snapshot_limit,
            **feed_options,
        )
        self.streams = [f"{symbol.lower()}@{channel}" for symbol in symbols for channel in channels]
        for symbol in symbols:
            self.feed.add(symbol)
        for stream in self.streams:
            assert self.market.want(stream)
        self.now_ns = START_NS
        self.latency_ns = latency_ns
        self.rest_latency_ns = rest_latency_ns
        self.skew_ns = 0  # of the client's clock against the venue's
        self.wires: dict[int, LocalWire] = {}
        self.lines = {number: self.open(number) for number in range(lines)}
        self.spoil: Spoil = untouched
        self.spoil_snapshot: Callable[[str, str], str | None] = lambda symbol, body: body
        self.is_fetching = True
        self.books_compared = 0
        self.levels_compared = 0
        self.trade_ids: dict[str, list[int]] = {symbol: [] for symbol in symbols}
        self.states: list[tuple[int, str, str, str]] = []
        self.snapshots_asked = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._next_tick_ns = self._next_poll_ns = self.now_ns

    # ---- lines

    def open(self, number: int) -> int:
        """Connect line `number` (anew); returns the feed's own number of this connection."""
        wire = self.wires[number] = LocalWire(self, number, f"/public/stream?line={number}")
        self.seam.opened(wire)
        return self.feed.open_line(f"public-{number}", self.streams, self.now_ns + self.skew_ns)

    def lose(self, number: int) -> None:
        """The connection ends: what was on its way is gone too."""
        self.seam.closed(self.wires.pop(number))
        self.feed.lost(self.lines.pop(number), self.now_ns + self.skew_ns)

    def cut(self, number: int, wire: LocalWire) -> None:
        """The far side, or the watchdog, ends one certain connection."""
        if self.wires.get(number) is wire:
            self.lose(number)

    def bring(self, number: int, text: bytes) -> None:
        """A message outside all streams, on its way to the client."""
        self.at(self.now_ns + self.latency_ns, self._deliver, number, self.lines[number], text)

    def reconnect(self, number: int) -> None:
        self.lines[number] = self.open(number)

    # ---- time

    def run(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass, then compare what was published meanwhile."""
        end_ns = self.now_ns + round(seconds * S)
        while self.now_ns < end_ns:
            step_ns = min(self.now_ns + 10 * MS, end_ns)
            self.seam.step(self.now_ns, self.market)
            for said in self.market.step(step_ns):
                self.seam.step(said.time_ns, self.market)
                for number, line in list(self.lines.items()):
                    self._send(said, number, line)
            self.now_ns = step_ns
            self._work(step_ns)
            while self._due and self._due[0][0] <= step_ns:
                heapq.heappop(self._due)[2]()
            self.check()

    def _send(self, said: Said, number: int, line: int) -> None:
        wire = self.wires[number]
        if wire.is_frozen:
            return
        for delay_ns, frame in self.spoil(number, said.time_ns, said.stream, said.frame):
            for delay_s, text in self.seam.frame(wire, said.stream, frame):
                due_ns = said.time_ns + self.latency_ns + delay_ns + round(delay_s * S)
                self.at(due_ns, self._deliver, number, line, text)

    def at(self, time_ns: int, do: Callable[..., None], *about: object) -> None:
        heapq.heappush(self._due, (time_ns, next(self._serial), lambda: do(*about, time_ns)))

    def _deliver(self, number: int, line: int, frame: bytes, time_ns: int) -> None:
        if self.lines.get(number) == line:
            self.feed.receive(line, frame, time_ns + self.skew_ns)

    def _work(self, now_ns: int) -> None:
        if now_ns >= self._next_tick_ns:
            self._next_tick_ns = now_ns + 250 * MS
            self.feed.tick(now_ns + self.skew_ns)
        if now_ns >= self._next_poll_ns and self.is_fetching:
            self._next_poll_ns = now_ns + 100 * MS
            for wanted in self.feed.wanted(now_ns):
                self.snapshots_asked += 1
                self.feed.snapshot_requested(wanted.symbol, now_ns)
                self.at(now_ns + self.rest_latency_ns // 2, self._answer, wanted.symbol, wanted.limit)

    def _answer(self, symbol: str, limit: int, time_ns: int) -> None:
        """The venue looks at its book now; the answer travels for the other half of the latency."""
        body = self.spoil_snapshot(symbol, self.market.depth(symbol, limit) or "")
        self.at(time_ns + self.rest_latency_ns // 2, self._bring, symbol, limit, body)

    def _bring(self, symbol: str, limit: int, body: str | None, time_ns: int) -> None:
        if body is None:
            self.feed.snapshot_failed(symbol, "server_error", time_ns)
        else:
            self.feed.snapshot(symbol, "rest", limit, body.encode(), time_ns)

    # ---- what was published

    def check(self) -> None:
        """Every book published since the last look equals the truth at its id, on every level it shows."""
        for kind, symbol, payload in self.collector.take():
            if kind == "orderbook":
                self._compare(symbol, json.loads(payload, parse_float=Decimal, parse_int=int))
            elif kind == "trades":
                self.trade_ids[symbol].append(json.loads(payload)["trade_id"])
            elif kind == "state":
                said = json.loads(payload)
                self.states.append((self.now_ns, symbol, said["state"], said["reason"]))

    def _compare(self, symbol: str, book: dict) -> None:
        truth = self.market.book_at(symbol, book["last_update_id"])
        self.books_compared += 1
        for side in ("bids", "asks"):
            shown = [(Decimal(price), qty) for price, qty in book[side].items()]
            shown.sort(reverse=side == "bids")
            exact = [(Decimal(price), Decimal(qty)) for price, qty in truth.levels(side, len(shown))]
            assert shown == exact, f"{symbol} {side} at {book['last_update_id']}"
            self.levels_compared += len(shown)

    def proof(self) -> dict[str, int]:
        """Verdicts over all symbols."""
        proofs = [track.proof for track in self.feed.tracks.values()]
        return {name: sum(proof[name] for proof in proofs) for name in ("match", "mismatch", "unjudged")}
