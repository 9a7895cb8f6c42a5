"""Feed and simulated market on virtual time: no socket, no sleep, millions of frames.

The market's truth knows the exact book at every id, so everything that is published is compared with it, on every
level. What the feed is handed (which frame, on which line, when, in which order) is the test's to spoil.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Sequence

from mdfeed import venues
from mdfeed._encode import Collector
from mdfeed._feed import Feed
from mdfeed.exchange.faults import Seam
from mdfeed.exchange.market import START_NS, Market, Said
from mdfeed.exchange.profiles import Profile
from tests.comparer import Comparer

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
        changes_max: int | None = None,
        **feed_options: int,
    ) -> None:
        self.market = Market(symbols, seed=seed, rate=rate, levels=levels, profiles=profiles, changes_max=changes_max)
        self.seam = seam or Seam()
        self.comparer = Comparer(self.market, depth=depth)
        self.collector = Collector()
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
        self.step_ns = 10 * MS
        self.latency_ns = latency_ns
        self.rest_latency_ns = rest_latency_ns
        self.wires: dict[int, LocalWire] = {}
        self.lines = {number: self.open(number) for number in range(lines)}
        self.spoil: Spoil = untouched
        self.spoil_snapshot: Callable[[str, str], str | None] = lambda symbol, body: body
        self.is_fetching = True
        self.trade_ids: dict[str, list[int]] = {symbol: [] for symbol in symbols}
        self.states: list[tuple[int, str, str, str]] = []
        self.snapshots_asked = 0
        self._due: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._serial = itertools.count()
        self._next_tick_ns = self._next_poll_ns = self.now_ns

    def ours(self, time_ns: int) -> int:
        """What the client's clock says at a moment of the venue's."""
        return time_ns

    # ---- lines

    def open(self, number: int) -> int:
        """Connect line `number` (anew); returns the feed's own number of this connection."""
        wire = self.wires[number] = LocalWire(self, number, f"/public/stream?line={number}")
        self.seam.opened(wire)
        return self.feed.open_line(f"public-{number}", self.streams, self.ours(self.now_ns))

    def lose(self, number: int) -> None:
        """The connection ends: what was on its way is gone too."""
        self.seam.closed(self.wires.pop(number))
        self.feed.lost(self.lines.pop(number), self.ours(self.now_ns))

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
            step_ns = min(self.now_ns + self.step_ns, end_ns)
            self.seam.step(self.now_ns, self.market)
            for said in self.market.step(step_ns):
                self.seam.step(said.time_ns, self.market)
                for number, line in list(self.lines.items()):
                    self._send(said, number, line)
            self.now_ns = step_ns
            self._work(step_ns)
            while self._due and self._due[0][0] <= step_ns:
                time_ns, _, do, about = heapq.heappop(self._due)
                do(*about, time_ns)
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
        heapq.heappush(self._due, (time_ns, next(self._serial), do, about))

    def _deliver(self, number: int, line: int, frame: bytes, time_ns: int) -> None:
        if self.lines.get(number) == line:
            self.feed.receive(line, frame, self.ours(time_ns))

    def _work(self, now_ns: int) -> None:
        if now_ns >= self._next_tick_ns:
            self._next_tick_ns = now_ns + 250 * MS
            self.feed.tick(self.ours(now_ns))
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
        """Everything published since the last look is true."""
        comparer = self.comparer
        for kind, symbol, payload in self.collector.take():
            assert comparer.take(kind, symbol, payload), comparer.wrong
            if kind == "trades":
                self.trade_ids[symbol].append(json.loads(payload)["trade_id"])
            elif kind == "state":
                said = json.loads(payload)
                self.states.append((self.now_ns, symbol, said["state"], said["reason"]))

    @property
    def books_compared(self) -> int:
        """Books in `orderbook`."""
        return self.comparer.compared["orderbook"]

    def proof(self) -> dict[str, int]:
        """Verdicts over all symbols."""
        proofs = [track.proof for track in self.feed.tracks.values()]
        return {name: sum(proof[name] for proof in proofs) for name in ("match", "mismatch", "unjudged")}
