"""A capture in the market's place: recorded frames with their timing, and REST answers that fit them.

Plays what capfile.py reads. Waits for the first listener, then plays at `speed`; at the end of the file it goes quiet
and stays up. Recorded frames go out unchanged but for the stream's name: who asks for @depth@100ms gets the file's
@depth@0ms. REST depth is kept from the file's snapshot and diffs in plain Python, as the venue's recipe has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from mdfeed.errors import CaptureError
from mdfeed.exchange import streams
from mdfeed.exchange.capfile import read_lines
from mdfeed.exchange.market import Said
from mdfeed.exchange.profiles import Profile
from mdfeed.exchange.streams import parse_stream
from mdfeed.exchange.tape import Tape

_SURVEY_FRAMES = 20_000  # read ahead for symbols, digits and streams; snapshots are looked for in all of the file
_MS = 1_000_000


class Instrument:
    """One symbol of the file: its digits as found, its book as far as played, its trades."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.price_digits = self.qty_digits = 0  # of the texts
        self.price_used = self.qty_used = 0  # of those, not always zero
        self.last_id = 0  # 0 while no snapshot is known
        self.event_ms = self.time_ms = 0
        self.bids: dict[Decimal, tuple[str, str]] = {}
        self.asks: dict[Decimal, tuple[str, str]] = {}
        self.profile: Profile | None = None
        self.tape: Tape | None = None

    def measure(self, rows: Sequence[Sequence[str]]) -> None:
        """Learn the digits of [price, qty] texts."""
        for price, qty, *_ in rows:
            fraction = price.partition(".")[2]
            self.price_digits = max(self.price_digits, len(fraction))
            self.price_used = max(self.price_used, len(fraction.rstrip("0")))
            fraction = qty.partition(".")[2]
            self.qty_digits = max(self.qty_digits, len(fraction))
            self.qty_used = max(self.qty_used, len(fraction.rstrip("0")))

    def settle(self, price: str) -> None:
        """Make the profile from what was measured; `price` is any price of the file."""
        base, quote = (self.symbol[:-4], "USDT") if self.symbol.endswith("USDT") else (self.symbol, "USD")
        tick = 10 ** (self.price_digits - self.price_used)
        step = 10 ** (self.qty_digits - self.qty_used)
        self.profile = Profile(
            self.symbol, tick, self.price_digits, step, self.qty_digits, float(price), 1.0, 1.0, 1.0, base, quote
        )
        self.tape = Tape(self.price_ticks(price), 1, 0, 0, 0, None)

    def price_ticks(self, text: str) -> int:
        """In ticks; rounded down if the survey has not seen so fine a price."""
        return int(Decimal(text).scaleb(self.price_used))

    def qty_steps(self, text: str) -> int:
        return int(Decimal(text).scaleb(self.qty_used))

    def load(self, body: dict[str, Any]) -> None:
        """Start the book from a snapshot, unless it is already past it."""
        if body["lastUpdateId"] <= self.last_id:
            return
        self.last_id = body["lastUpdateId"]
        self.event_ms, self.time_ms = body.get("E", 0), body.get("T", 0)
        for book, rows in ((self.bids, body["bids"]), (self.asks, body["asks"])):
            book.clear()
            book.update((Decimal(price), (price, qty)) for price, qty, *_ in rows)

    def apply(self, data: dict[str, Any]) -> None:
        """A diff: quantities are absolute, zero deletes, what is not newer than the book is dropped."""
        if not self.last_id or data["u"] <= self.last_id:
            return
        self.last_id = data["u"]
        self.event_ms = data["E"]
        self.time_ms = data.get("T", self.event_ms)
        for book, rows in ((self.bids, data["b"]), (self.asks, data["a"])):
            for price, qty in rows:
                number = Decimal(price)
                if Decimal(qty):
                    book[number] = (price, qty)
                else:
                    book.pop(number, None)

    def depth(self, limit: int) -> str | None:
        if not self.last_id:
            return None
        bids = [self.bids[price] for price in sorted(self.bids, reverse=True)[:limit]]
        asks = [self.asks[price] for price in sorted(self.asks)[:limit]]
        times = {"E": self.event_ms, "T": self.time_ms}
        return json.dumps({"lastUpdateId": self.last_id, **times, "bids": bids, "asks": asks}, separators=(",", ":"))


class Playback:
    """Captures played as one session, `speed` times as fast as they were recorded.

    `hold_s` after the first listener came it starts: time for a client's other connections to be made.

    Raises CaptureError for a file that cannot be read, or holds no frames of a combined stream.
    """

    def __init__(self, files: Sequence[Path], speed: float = 1.0, hold_s: float = 0.0) -> None:
        self.now_ns = 0
        self.played = 0
        self.is_over = False
        self._files = list(files)
        self._speed = speed
        self._hold_ns = int(hold_s * 1e9)
        self._instruments: dict[str, Instrument] = {}
        self._names: dict[tuple[str, str], str] = {}  # (symbol, kind) -> the file's stream of that kind
        self._streams: set[str] = set()
        self._wanted: dict[str, int] = {}
        self._survey()
        self._lines = read_lines(self._files)
        self._next = next(self._lines, None)
        self._first_ns = self._next[0] if self._next else 0  # on the recording's clock
        self._start_ns: int | None = None  # on ours: when the first listener came

    @property
    def symbols(self) -> list[str]:
        return list(self._instruments)

    @property
    def next_ns(self) -> int | None:
        if self._next is None or self._start_ns is None:
            return None
        return self._time(self._next[0])

    def profile(self, symbol: str) -> Profile | None:
        instrument = self._instruments.get(symbol)
        return instrument.profile if instrument else None

    def tape(self, symbol: str) -> Tape:
        tape = self._instruments[symbol].tape
        if tape is None:
            raise KeyError(symbol)
        return tape

    def depth(self, symbol: str, limit: int) -> str | None:
        """The book as far as played; None when the files hold no snapshot of it."""
        return self._instruments[symbol].depth(limit)

    def time_ms(self, now_ms: int) -> int:
        """The recording's time: a client finds `E` and the venue's clock agreeing, however old the file is."""
        if self._start_ns is None:
            return self._first_ns // _MS
        played_ns = max(0, min(now_ms * _MS, self.now_ns) - self._start_ns)
        return (self._first_ns + int(played_ns * self._speed)) // _MS

    def names_for(self, name: str) -> str:
        """The file's stream that stands for `name`: for depth whatever interval the file has."""
        channel = parse_stream(name)
        if channel is None or channel.kind != "depth":
            return name
        return self._names.get((channel.symbol, "depth"), name)

    def want(self, name: str) -> bool:
        channel = parse_stream(name)
        has_trades = channel is not None and channel.kind == "aggTrade" and (channel.symbol, "trade") in self._names
        if name not in self._streams and not has_trades:
            return False
        self._wanted[name] = self._wanted.get(name, 0) + 1
        return True

    def unwant(self, name: str) -> None:
        if self._wanted.get(name, 0) > 1:
            self._wanted[name] -= 1
        else:
            self._wanted.pop(name, None)

    def postpone(self, by_ns: int) -> None:
        if self._start_ns is not None:
            self._start_ns += by_ns

    def step(self, now_ns: int, most: int = 1 << 62) -> Iterator[Said]:
        """The frames that are due, each once, whoever wants them; it starts when somebody wants one."""
        if self._start_ns is None:
            self.now_ns = now_ns
            if not self._wanted:
                return
            self._start_ns = now_ns + self._hold_ns
        while self._next is not None and most:
            time_ns = self._time(self._next[0])
            if time_ns > now_ns:
                break
            most -= 1
            self.now_ns = max(self.now_ns, time_ns)
            text = self._next[1]
            self._next = next(self._lines, None)
            try:
                said = self._play(text, time_ns)
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                raise CaptureError(f"{self._files[0]}: frame {self.played}: {error!r} in {text[:80]!r}") from error
            yield from said
        if self._next is None:
            self.is_over = True
        if most:
            self.now_ns = now_ns

    def _time(self, recorded_ns: int) -> int:
        assert self._start_ns is not None
        return self._start_ns + int((recorded_ns - self._first_ns) / self._speed)

    def _play(self, text: bytes, time_ns: int) -> list[Said]:
        """What one line of the file makes the venue say."""
        self.played += 1
        frame = json.loads(text)
        if "lastUpdateId" in frame:
            instrument = self._owner(frame)
            if instrument is not None:
                instrument.load(frame)
            return []
        name, data = frame.get("stream"), frame.get("data")
        if not isinstance(name, str) or not isinstance(data, dict):
            return []
        said: list[Said] = []
        channel = parse_stream(name)
        instrument = self._instruments.get(channel.symbol) if channel else None
        if channel is not None and instrument is not None:
            if channel.kind == "depth":
                instrument.apply(data)
            elif channel.kind == "trade":
                said += self._trade(instrument, data, time_ns)
        if not text.startswith(b'{"stream":"%b","data":' % name.encode()):
            # Other writers of captures put blanks, or the name last; links cut the event out by its place.
            text = streams.combined(name, json.dumps(data, separators=(",", ":")))
        return [*said, Said(time_ns, name, text)]

    def _trade(self, instrument: Instrument, data: dict[str, Any], time_ns: int) -> list[Said]:
        """A trade counts, and stands for an aggregate trade of its own where the file has none."""
        tape, profile = instrument.tape, instrument.profile
        if data.get("X", "MARKET") != "MARKET" or tape is None or profile is None:
            return []
        price, qty = instrument.price_ticks(data["p"]), instrument.qty_steps(data["q"])
        agg = tape.copy(data["t"], price, qty, data["T"], data["m"])
        name = f"{instrument.symbol.lower()}@aggTrade"
        if name not in self._streams and name in self._wanted:
            return [Said(time_ns, name, streams.combined(name, streams.agg_trade_text(profile, agg, data["E"])))]
        return []

    def _owner(self, snapshot: dict[str, Any]) -> Instrument | None:
        """Whose a snapshot is: the symbol it names, else the only instrument's."""
        symbol = snapshot.get("symbol")
        if symbol is not None:
            return self._instruments.get(symbol)
        return next(iter(self._instruments.values())) if len(self._instruments) == 1 else None

    def _survey(self) -> None:
        """Read ahead: symbols, streams, digits, and each symbol's first snapshot."""
        prices: dict[str, str] = {}
        snapshots: dict[str, dict[str, Any]] = {}  # the first of each symbol
        frames = 0
        for _, text in read_lines(self._files):
            is_snapshot = text.startswith(b'{"lastUpdateId"')
            frames += not is_snapshot
            if frames > _SURVEY_FRAMES and not is_snapshot:
                continue
            try:
                frame = json.loads(text)
                if is_snapshot:
                    snapshots.setdefault(frame.get("symbol", ""), frame)
                else:
                    self._look(frame, prices)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CaptureError(f"{self._files[0]}: frame {frames}: {error!r} in {text[:80]!r}") from error
        if not self._instruments:
            raise CaptureError(f"{self._files[0]}: no frame of a combined stream")
        for snapshot in snapshots.values():
            owner = self._owner(snapshot)
            if owner is not None:
                # The book from the start: what comes before it in the file is old to it, what is newer is applied,
                # also when the answer was recorded after diffs that it does not have.
                owner.load(snapshot)
                owner.measure([*snapshot["bids"], *snapshot["asks"]])
                prices.setdefault(owner.symbol, snapshot["bids"][0][0])
        for symbol, instrument in self._instruments.items():
            instrument.settle(prices.get(symbol, "1"))

    def _look(self, frame: dict[str, Any], prices: dict[str, str]) -> None:
        """Learn from one frame; `prices` gets the first price of each symbol."""
        name, data = frame.get("stream"), frame.get("data")
        if not isinstance(name, str) or not isinstance(data, dict):
            return
        self._streams.add(name)
        channel = parse_stream(name)
        if channel is None:
            return
        instrument = self._instruments.setdefault(channel.symbol, Instrument(channel.symbol))
        self._names.setdefault((channel.symbol, channel.kind), name)
        if channel.kind == "depth":
            instrument.measure([*data["b"], *data["a"]])
        elif channel.kind in ("trade", "aggTrade"):
            instrument.measure([(data["p"], data["q"])])
            prices.setdefault(channel.symbol, data["p"])
        elif channel.kind == "bookTicker":
            instrument.measure([(data["b"], data["B"]), (data["a"], data["A"])])
            prices.setdefault(channel.symbol, data["b"])
