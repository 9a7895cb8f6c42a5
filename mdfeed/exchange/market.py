"""All instruments on one clock and one id counter: the market behind the simulated venue.

Time is an argument: `step(now_ns)` lets everything happen that is due and yields the frames of the wanted streams, so
the same market runs behind sockets on the wall clock and in a test on virtual time. With the same seed and start it
does the same whatever is listened to, except that frames exist only while their stream is wanted. Update ids come
from one counter with holes (the venue's other instruments), so `U` is almost never `pu + 1`.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mdfeed.exchange import streams
from mdfeed.exchange.flow import Flow
from mdfeed.exchange.matching import ASK, BID, Fill, OrderBook
from mdfeed.exchange.profiles import Profile, profile_for
from mdfeed.exchange.streams import Channel, parse_stream
from mdfeed.exchange.tape import AGG_WINDOW_MS, AGGS_MAX, AggTrade, Tape
from mdfeed.exchange.truth import TrueBook, Truth
from mdfeed.exchange.voices import (
    MS,
    BookVoice,
    DiffVoice,
    ForceVoice,
    PartialVoice,
    PulseVoice,
    TopVoice,
    TradeVoice,
    Voice,
)

START_NS = 1_790_000_000_000_000_000  # of virtual time, 2026-09
FIRST_ID = 7_000_000_000_000
LEVELS_A_SIDE = 1200  # more than a limit-1000 snapshot shows
_LEVELS_IN_ALL = 50_000  # a side, over all instruments: about 1 KB a level
_CHANGES_IN_ALL = 2_000_000  # of the truth logs, over all instruments
_ID_HOLE_MAX = 40
_ERA_IDS = 10_000_000_000  # between the first ids before and after a restart: more than an era uses twice
_LIQUIDATION_SHARE = 0.02  # of market orders

_ACT, _CUT, _AGGS, _PULSE, _SAY = range(5)


class Said(NamedTuple):
    """A frame leaving the venue: when (UTC ns), on which stream, as combined streams carry it."""

    time_ns: int
    stream: str
    frame: bytes


class Listing:
    """One instrument in the market."""

    def __init__(self, profile: Profile, seed: str, rate: float, levels: int, start_ns: int, changes_max: int) -> None:
        self.profile = profile
        self.book = OrderBook()
        self.flow = Flow(profile, f"{seed}:{profile.symbol}", rate, levels)
        self.flow.open(self.book)
        draw = random.Random(f"{seed}:{profile.symbol}:ids")
        self.tape = Tape(
            profile.price_ticks,
            max(1, round(profile.qty_steps)),
            start_ns // MS,
            draw.randrange(10**9, 6 * 10**9),
            draw.randrange(10**8, 2 * 10**9),
            f"{seed}:{profile.symbol}:past",
            min(AGGS_MAX, changes_max // 8),  # of many instruments fewer, as of their changes
        )
        self.truth = Truth(profile, FIRST_ID, changes_max)
        self.truth.note(FIRST_ID, self.book.changes)
        self.book.changes.clear()
        self.last_id = FIRST_ID
        self.last_ns = start_ns
        self.closed_aggs: list[AggTrade] = []
        self.books: list[BookVoice] = []
        self.tops: list[TopVoice] = []
        self.trades: list[TradeVoice] = []
        self.aggs: list[TradeVoice] = []
        self.forced: list[ForceVoice] = []
        self.is_listed = True
        self.is_halted = False

    def voices(self, voice: Voice) -> list[Voice] | None:
        """The list that `voice` is told of changes through; None for one that speaks by the clock alone."""
        for kind, voices in (
            (BookVoice, self.books),
            (TopVoice, self.tops),
            (ForceVoice, self.forced),
            (TradeVoice, self.trades if voice.channel.kind == "trade" else self.aggs),
        ):
            if isinstance(voice, kind):
                return voices  # type: ignore[return-value]  # the list of this voice's own class
        return None

    def refine(self, voices: list[Voice]) -> None:
        """A tick ten times smaller from now on, for everything of this instrument."""
        self.profile = self.profile.finer()
        self.book.rescale_prices(10)
        self.truth.rescale_prices(10, self.profile)
        self.tape.rescale_prices(10)
        self.flow.rescale_prices(10, self.profile)
        for voice in voices:
            voice.rescale_prices(10, self.profile)


class Market:
    """`symbols` at `rate` order events/s each; `levels` a side are seeded: 1,200, or fewer from 42 symbols on.

    `changes_max` level changes an instrument are remembered by its truth: 262,144, or fewer from 8 symbols on.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        seed: int = 1,
        rate: float = 50.0,
        start_ns: int = START_NS,
        levels: int | None = None,
        profiles: Sequence[Profile] = (),
        changes_max: int | None = None,
    ) -> None:
        given = {profile.symbol: profile for profile in profiles}
        count = max(1, len(symbols))
        if levels is None:
            levels = min(LEVELS_A_SIDE, max(100, _LEVELS_IN_ALL // count))
        if changes_max is None:
            changes_max = min(262_144, max(16_384, _CHANGES_IN_ALL // count))
        self.now_ns = start_ns
        self.last_id = FIRST_ID
        self.events = 0
        self._seed = str(seed)
        self._rng = random.Random(f"{seed}:ids")
        self._listings = {
            symbol: Listing(given.get(symbol) or profile_for(symbol), self._seed, rate, levels, start_ns, changes_max)
            for symbol in symbols
        }
        self._voices: dict[str, Voice] = {}
        self._serial = 0
        self._due: list[tuple[int, int, int, object, object]] = []
        self._eras = [0]  # what was taken off the market's own ids, since the start and after each restart
        if rate > 0:
            for listing in self._listings.values():
                self._push(start_ns + listing.flow.gap_ns(), _ACT, listing)

    @property
    def symbols(self) -> list[str]:
        return [symbol for symbol, listing in self._listings.items() if listing.is_listed]

    @property
    def next_ns(self) -> int | None:
        """When the next thing is due; None when nothing ever is."""
        return self._due[0][0] if self._due else None

    def profile(self, symbol: str) -> Profile | None:
        listing = self._listings.get(symbol)
        return listing.profile if listing and listing.is_listed else None

    def truth(self, symbol: str) -> Truth:
        """The exact past of a symbol's book, by the market's own ids. KeyError for an unknown symbol.

        They are the ids that are said, until a restart: from then on ask `book_at`.
        """
        return self._listings[symbol].truth

    def book_at(self, symbol: str, said_id: int) -> TrueBook:
        """The full book at an id as the venue said it, before or after whatever restart. Raises LookupError."""
        return self._listings[symbol].truth.book_at(self._own_id(symbol, said_id))

    def best_at(self, symbol: str, said_id: int, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The best `count` levels of each side, (ticks, steps), at an id as the venue said it. Raises LookupError."""
        return self._listings[symbol].truth.best_at(self._own_id(symbol, said_id), count)

    def _own_id(self, symbol: str, said_id: int) -> int:
        era = (FIRST_ID - said_id + _ERA_IDS // 2 - 1) // _ERA_IDS
        if not 0 <= era < len(self._eras):
            raise LookupError(f"{symbol}: id {said_id} was never said")
        return said_id + self._eras[era]

    def tape(self, symbol: str) -> Tape:
        """What a symbol has traded. KeyError for an unknown symbol."""
        return self._listings[symbol].tape

    def depth(self, symbol: str, limit: int) -> str | None:
        """The body of REST `depth` now."""
        listing = self._listings[symbol]
        bids = streams.levels_text(listing.profile, listing.book.levels(BID, limit))
        asks = streams.levels_text(listing.profile, listing.book.levels(ASK, limit))
        return self._depth_body(listing, listing.last_id, bids, asks)

    def depth_at(self, symbol: str, limit: int, own_id: int) -> str:
        """The body of REST `depth` as it was at one of the market's own ids. Raises LookupError."""
        listing = self._listings[symbol]
        book = listing.truth.book_at(own_id)
        bids = streams.levels_text(listing.profile, sorted(book.bids.items(), reverse=True)[:limit])
        asks = streams.levels_text(listing.profile, sorted(book.asks.items())[:limit])
        return self._depth_body(listing, own_id, bids, asks)

    def _depth_body(self, listing: Listing, own_id: int, bids: str, asks: str) -> str:
        return (
            f'{{"lastUpdateId":{own_id - self._eras[-1]},"E":{max(self.now_ns, listing.last_ns) // MS},'
            f'"T":{listing.last_ns // MS},"bids":{bids},"asks":{asks}}}'
        )

    # ---- what happens to a venue

    def set_rate(self, rate: float) -> None:
        """From the next event of each instrument on, `rate` (above 0) events/s."""
        for listing in self._listings.values():
            listing.flow.rate = rate

    def restart_ids(self) -> None:
        """The venue's update ids start over, below all that were ever said; books and trades go on."""
        self._eras.append(self.last_id - FIRST_ID + len(self._eras) * _ERA_IDS)
        for voice in self._voices.values():
            voice.id_offset = self._eras[-1]

    def refine(self, symbol: str) -> None:
        """The symbol's filters change: a tick ten times smaller."""
        voices = [voice for voice in self._voices.values() if voice.channel.symbol == symbol]
        self._listings[symbol].refine(voices)

    def halt(self, symbol: str, is_halted: bool) -> None:
        """The symbol trades no more for now: its book stands, and REST shows it."""
        self._listings[symbol].is_halted = is_halted

    def delist(self, symbol: str) -> None:
        """The symbol trades no more, and REST knows it no more."""
        self._listings[symbol].is_listed = False

    def reference(self, symbol: str) -> float:
        """The price in ticks that the symbol's orders come around."""
        return self._listings[symbol].flow.reference

    def top(self, symbol: str) -> tuple[int, int, int, int]:
        """Best bid and its quantity, best ask and its quantity, now; an empty side is 0, 0."""
        return self._listings[symbol].book.top()

    def place(self, symbol: str, side: int, price: int) -> None:
        """An order of somebody at `price` ticks, however far from the market."""
        listing = self._listings[symbol]
        if listing.is_halted:
            return
        self._tell(listing, side, listing.flow.place(listing.book, side, price), self.now_ns)

    def time_ms(self, now_ms: int) -> int:
        """Events are stamped with the venue's own clock."""
        return now_ms

    def names_for(self, name: str) -> str:
        """The name under which frames for a listener of `name` come: here its own."""
        return name

    def want(self, name: str) -> bool:
        """Start (or count one more listener of) a stream; False when the venue has no such data."""
        voice = self._voices.get(name)
        if voice is None:
            channel = parse_stream(name)
            listing = self._listings.get(channel.symbol) if channel else None
            if channel is None or listing is None:
                return False
            voice = self._voices[name] = self._voice(name, channel, listing)
            voice.id_offset = self._eras[-1]
            told = listing.voices(voice)
            if told is not None:
                told.append(voice)
            else:
                self._push(voice.next_cut(self.now_ns), _PULSE, voice, listing)
        voice.listeners += 1
        return True

    def unwant(self, name: str) -> None:
        """One listener less; the stream's chain ends with the last one."""
        voice = self._voices.get(name)
        if voice is None:
            return
        voice.listeners -= 1
        if not voice.listeners:
            del self._voices[name]
            told = self._listings[voice.channel.symbol].voices(voice)
            if told is not None:
                told.remove(voice)

    def step(self, now_ns: int, most: int = 1 << 62) -> Iterator[Said]:
        """Let what is due up to `now_ns` happen, at most `most` things, and yield the frames in order of time."""
        due = self._due
        while due and most and due[0][0] <= now_ns:
            most -= 1
            time_ns, _, what, subject, about = heapq.heappop(due)
            self.now_ns = time_ns
            if what == _ACT:
                self._act(subject, time_ns)  # type: ignore[arg-type]  # the heap holds what _push was given
            elif what == _SAY:
                yield Said(time_ns, subject, about)  # type: ignore[arg-type]
            elif what == _CUT:
                self._cut(subject, about, time_ns)  # type: ignore[arg-type]
            elif what == _AGGS:
                self._close_aggs(subject, time_ns)  # type: ignore[arg-type]
            else:
                self._pulse(subject, about, time_ns)  # type: ignore[arg-type]
        if most:
            self.now_ns = max(self.now_ns, now_ns)

    def postpone(self, by_ns: int) -> None:
        """Shift everything that is due: for a driver that cannot keep up and must not fall ever further behind."""
        self._due = [(time_ns + by_ns, *rest) for time_ns, *rest in self._due]  # type: ignore[misc]

    def _push(self, time_ns: int, what: int, subject: object, about: object = None) -> None:
        self._serial += 1
        heapq.heappush(self._due, (time_ns, self._serial, what, subject, about))

    def _say(self, voice: Voice, text: str, now_ns: int) -> None:
        self._push(voice.due(now_ns), _SAY, voice.name, streams.combined(voice.name, text))

    def _voice(self, name: str, channel: Channel, listing: Listing) -> Voice:
        seed, profile = self._seed, listing.profile
        match channel.kind:
            case "depth":
                return DiffVoice(name, channel, seed, profile, listing.last_id)
            case "partial":
                return PartialVoice(name, channel, seed, profile, listing.last_id)
            case "bookTicker":
                return TopVoice(name, channel, seed, profile, listing.book)
            case "aggTrade" | "trade":
                return TradeVoice(name, channel, seed, profile)
            case "forceOrder":
                return ForceVoice(name, channel, seed, profile)
            case _:
                return PulseVoice(name, channel, seed, profile)

    def _act(self, listing: Listing, now_ns: int) -> None:
        if not listing.is_listed:
            return
        if listing.is_halted:
            self._push(now_ns + listing.flow.gap_ns(), _ACT, listing)
            return
        self.events += 1
        side, fills = listing.flow.act(listing.book)
        self._push(now_ns + listing.flow.gap_ns(), _ACT, listing)
        self._tell(listing, side, fills, now_ns)

    def _tell(self, listing: Listing, side: int, fills: list[Fill], now_ns: int) -> None:
        changes = listing.book.changes
        if not changes:
            return
        self.last_id += 1 + int(self._rng.random() * _ID_HOLE_MAX)
        listing.last_id = self.last_id
        listing.last_ns = now_ns
        listing.truth.note(self.last_id, changes)
        for voice in listing.books:
            if not voice.is_dirty:
                self._push(voice.next_cut(now_ns), _CUT, voice, listing)
            voice.note(self.last_id, changes, now_ns)
        changes.clear()
        if fills:
            self._trade(listing, side, fills, now_ns)
        for top in listing.tops:
            text = top.note(self.last_id, listing.book.top(), now_ns)
            if text is not None:
                self._say(top, text, now_ns)

    def _trade(self, listing: Listing, side: int, fills: list[Fill], now_ns: int) -> None:
        tape = listing.tape
        if not tape.is_agg_open and not listing.closed_aggs:
            window_ns = AGG_WINDOW_MS * MS
            self._push(now_ns - now_ns % window_ns + window_ns, _AGGS, listing)
        for fill in fills:
            trade, closed = tape.trade(fill.price, fill.qty, now_ns // MS, side == ASK)
            if closed is not None:
                listing.closed_aggs.append(closed)
            for voice in listing.trades:
                self._say(voice, voice.trade(trade, now_ns), now_ns)
        if self._rng.random() < _LIQUIDATION_SHARE:
            for forced in listing.forced:
                text = forced.note(side == ASK, fills[-1].price, sum(fill.qty for fill in fills), now_ns)
                if text is not None:
                    self._say(forced, text, now_ns)

    def _close_aggs(self, listing: Listing, now_ns: int) -> None:
        last = listing.tape.close_agg()
        if last is not None:
            listing.closed_aggs.append(last)
        for voice in listing.aggs:
            for agg in listing.closed_aggs:
                self._say(voice, voice.agg(agg, now_ns), now_ns)
        listing.closed_aggs.clear()

    def _cut(self, voice: BookVoice, listing: Listing, now_ns: int) -> None:
        if voice.listeners:
            self._say(voice, voice.cut(listing.book, now_ns), now_ns)

    def _pulse(self, voice: PulseVoice, listing: Listing, now_ns: int) -> None:
        if voice.listeners and listing.is_listed:
            self._say(voice, voice.pulse(listing.tape, listing.flow.reference, now_ns), now_ns)
            self._push(voice.next_cut(now_ns), _PULSE, voice, listing)
