"""24 h figures that are right from the start: the venue's ticker for every symbol, then its minutes, weight permitting.

Answers for asking each symbol's ticker once, its klines once the first minute of ours is over and again when trades
were lost for good, in the order of the configuration, with pauses after failures. Knows no arithmetic: that is the
Window's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from mdfeed._feed import Feed
from mdfeed._seeds import Seeds
from mdfeed._window import Window
from mdfeed.errors import VenueError
from mdfeed.governor import Purpose
from mdfeed.refusals import Backoff, Fold, of_exception
from mdfeed.rest import Rest
from mdfeed.venues import KlineRow, TickerRow, Venue

log = logging.getLogger(__name__)

MINUTE_S = 60.0
MINUTE_NS = 60 * 10**9
MS = 10**6
CLOCK_GRAIN_NS = 2 * 10**9  # of what is known of the venue's clock, and an answer's way
SETTLED_S = 5.0  # after a minute's end, until its last trades have reached us
MINUTES = 1442  # the window's 1440, the one it began in, the one under way
# Failures that are the symbol's, not the host's.
SYMBOLS_OWN = frozenset({"http", "not_found"})
REFUSED_S = 300.0
ALL = ""  # stands for all symbols, where a symbol is named
TICKERS_A_TURN = 20
ROWS_A_TURN = 120  # read, or taken, between two turns of the loop: 1 ms or so


class Figures:
    """`run` serves all symbols of the feed, those added later too, until cancelled.

    `outcomes` counts "ticker", "minutes" and the tokens of failures. `refine` asks a symbol's minutes again.
    """

    def __init__(
        self,
        feed: Feed,
        venue: Venue,
        rest: Rest,
        *,
        poll_s: float = 0.5,
        concurrency: int = 3,
        longest_pause_s: float = 60.0,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._feed = feed
        self._seeds = Seeds(feed)
        self._venue = venue
        self._rest = rest
        self._poll_s = poll_s
        self._concurrency = concurrency
        self._known: dict[str, Window] = {}  # symbol -> its window, when a ticker has come for it
        self._minutes_due: dict[str, float] = {}  # symbol with a ticker -> loop time at which its minutes are due
        self._failures: Counter[str] = Counter()  # by symbol, in a row
        self._refused: dict[str, float] = {}  # symbol that the venue does not know -> loop time of the next attempt
        self._under_way: set[str] = set()
        self._backoff = Backoff(1.0, longest_pause_s)
        self._paused_until_s = 0.0  # loop time
        self._fold = Fold()

    def refine(self, symbol: str) -> None:
        """Ask a symbol's minutes (again), once the one under way is over."""
        self._minutes_due[symbol] = asyncio.get_running_loop().time() + self._until_minute_s()

    def _until_minute_s(self) -> float:
        return MINUTE_S - self._rest.governor.venue_ns / 1e9 % MINUTE_S + SETTLED_S

    async def run(self) -> None:
        """Serves until cancelled. No far side's behaviour ends it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            job = self._next()
            if job is None:
                await asyncio.sleep(self._poll_s)
                continue
            symbol, do = job
            self._under_way.add(symbol)
            try:
                await self._attempt(symbol, do)
            finally:
                self._under_way.discard(symbol)

    def _next(self) -> tuple[str, Callable[[str], Awaitable[None]]] | None:
        """All tickers, then the minutes that are due; what has failed comes last."""
        now_s, tracks = asyncio.get_running_loop().time(), self._feed.tracks
        if now_s < self._paused_until_s:
            return None
        if len(self._known) > len(tracks):
            self._known = {symbol: window for symbol, window in self._known.items() if symbol in tracks}
        new = [symbol for symbol in self._unknown() if self._is_free(symbol, now_s)]
        if new:
            each = self._venue.ticker_request(new[0]).weight
            if len(new) * each > self._venue.tickers_request().weight and self._is_free(ALL, now_s):
                return ALL, self._seed_tickers
            if ALL not in self._under_way:
                return min(new, key=self._failures.__getitem__), self._seed_ticker
        due = [
            symbol
            for symbol, due_s in self._minutes_due.items()
            if due_s <= now_s and symbol in tracks and self._is_free(symbol, now_s)
        ]
        return (min(due, key=self._failures.__getitem__), self._seed_minutes) if due else None

    def _unknown(self) -> list[str]:
        """Symbols that came newly, or whose figures have started over."""
        return [symbol for symbol, track in self._feed.tracks.items() if track.window is not self._known.get(symbol)]

    def _is_free(self, symbol: str, now_s: float) -> bool:
        return symbol not in self._under_way and now_s >= self._refused.get(symbol, 0.0)

    async def _attempt(self, symbol: str, do: Callable[[str], Awaitable[None]]) -> None:
        try:
            await do(symbol)
        except VenueError as error:
            reason = of_exception(error.__cause__ or error).reason
            self.outcomes[reason] += 1
            self._failures[symbol] += 1
            if reason in SYMBOLS_OWN:
                self._leave_alone(symbol)
                log.warning("24 h figures of %s: %s", symbol or "all symbols", error)
                return
            imposed_s = self._rest.governor.blocked_s
            self._paused_until_s = asyncio.get_running_loop().time() + (imposed_s or max(self._backoff.wait_s(), 0.1))
            held = self._fold.let_through(reason)
            if held is not None:
                log.warning("24 h figures of %s: %s%s", symbol or "all symbols", error, held)
        except Exception:
            if symbol != ALL and symbol not in self._feed.tracks:
                self._minutes_due.pop(symbol, None)  # removed while the answer was on its way
                return
            self.outcomes["error"] += 1
            self._failures[symbol] += 1
            self._leave_alone(symbol)
            log.exception("24 h figures of %s: a fault of ours", symbol or "all symbols")
        else:
            self._failures.pop(symbol, None)
            if symbol != ALL:
                self._refused.pop(symbol, None)
            self._backoff.reset()

    def _leave_alone(self, symbol: str) -> None:
        self._refused[symbol] = asyncio.get_running_loop().time() + REFUSED_S

    async def _seed_ticker(self, symbol: str) -> None:
        body = await self._rest.fetch(self._venue.ticker_request(symbol), Purpose.TICKER)
        self._seed(symbol, self._venue.parse_ticker(body))

    async def _seed_tickers(self, all_of_them: str) -> None:
        """Many symbols by one request; those that it does not bring are asked for one by one."""
        body = await self._rest.fetch(self._venue.tickers_request(), Purpose.TICKER)
        self._leave_alone(all_of_them)
        rows = self._venue.parse_tickers(body, set(self._unknown()))
        for taken, (symbol, row) in enumerate(rows.items(), 1):
            if symbol in self._feed.tracks:
                self._seed(symbol, row)
            if taken % TICKERS_A_TURN == 0:
                await asyncio.sleep(0)

    def _seed(self, symbol: str, row: TickerRow) -> None:
        self._seeds.ticker(symbol, row)
        self._known[symbol] = self._feed.tracks[symbol].window
        self.refine(symbol)
        self.outcomes["ticker"] += 1

    async def _seed_minutes(self, symbol: str) -> None:
        due_s = self._minutes_due[symbol]
        # From the newest back: each part joins what is complete already.
        start_ms: int | None = None
        closed_to = 0
        left = MINUTES
        while left > 0:
            limit = min(left, self._venue.klines_most)
            request = self._venue.klines_request(symbol, "1m", limit, start_ms)
            body = await self._rest.fetch(request, Purpose.KLINES)
            # Minutes that were over when the venue first answered, by its own clock.
            closed_to = closed_to or (self._rest.governor.venue_ns - CLOCK_GRAIN_NS) // MINUTE_NS * MINUTE_NS - 1
            rows: list[KlineRow] = []
            for row in self._venue.parse_klines(body):
                if row.open_ts <= closed_to:
                    rows.append(row)
                if len(rows) % ROWS_A_TURN == 0:
                    await asyncio.sleep(0)
            for end in range(len(rows), 0, -ROWS_A_TURN):
                self._seeds.minutes(symbol, rows[max(0, end - ROWS_A_TURN) : end], closed_to)
                await asyncio.sleep(0)
            left -= limit
            if not rows:
                break  # listed not long ago: there is nothing before
            start_ms = (rows[0].open_ts - min(left, self._venue.klines_most) * MINUTE_NS) // MS
        if self._minutes_due.get(symbol) == due_s:  # else asked again meanwhile
            del self._minutes_due[symbol]
        self.outcomes["minutes"] += 1
