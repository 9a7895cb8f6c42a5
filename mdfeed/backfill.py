"""Trades that the lines have missed, fetched by their ids and published late but once.

Answers for waiting until another line has had its chance, for asking no more than the venue gives at once, and for
giving up holes that are too old or too large (counted, never silent). A hole is found by the heart: a step in the ids
of aggregate trades.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from mdfeed._feed import Feed
from mdfeed._seeds import Seeds
from mdfeed.errors import VenueError
from mdfeed.governor import Purpose
from mdfeed.refusals import Backoff, of_exception
from mdfeed.rest import Rest
from mdfeed.venues import Venue

log = logging.getLogger(__name__)

ROWS_A_REQUEST = 1000
GRACE_S = 2.0  # another line may still bring them
LONGEST_S = 1800.0
LARGEST = 20_000  # ids: 20 requests
EMPTY_MOST = 3  # answers without any of the missing trades, then they are nowhere


class Backfill:
    """`run` fills the holes of all symbols until cancelled. `flush` is called after each answer: it may have published.

    `outcomes` counts answers ("filled", "empty") and the tokens of failures; `filled` and `lost` count trades.
    `on_lost(symbol)` is called when trades are given up.
    """

    def __init__(
        self,
        feed: Feed,
        venue: Venue,
        rest: Rest,
        *,
        flush: Callable[[], object],
        on_lost: Callable[[str], object] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        poll_s: float = 0.5,
        grace_s: float = GRACE_S,
        longest_s: float = LONGEST_S,
        largest: int = LARGEST,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.filled = 0
        self.lost = 0
        self._feed = feed
        self._seeds = Seeds(feed)
        self._venue = venue
        self._rest = rest
        self._flush = flush
        self._on_lost = on_lost
        self._now_ns = now_ns
        self._poll_s = poll_s
        self._grace_s = grace_s
        self._longest_s = longest_s
        self._largest = largest
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}  # (symbol, last id) -> (loop time, empty answers)
        self._backoff = Backoff(1.0, 15.0)

    async def run(self) -> None:
        """Serves until cancelled. No far side's behaviour ends it."""
        while True:
            wait_s = self._poll_s
            for symbol, first_id, last_id in self._due():
                try:
                    await self._fill(symbol, first_id, last_id)
                    self._backoff.reset()
                except VenueError as error:
                    reason = of_exception(error.__cause__ or error).reason
                    self.outcomes[reason] += 1
                    imposed_s = self._rest.governor.blocked_s or float("inf")
                    wait_s = max(min(self._backoff.wait_s(), imposed_s), self._poll_s)
                    break  # the host's trouble: the next hole would meet it again
            await asyncio.sleep(wait_s)

    def _due(self) -> list[tuple[str, int, int]]:
        """Holes that no line has filled in time, the youngest symbols' last; hopeless ones are given up here."""
        now_s = asyncio.get_running_loop().time()
        due, seen = [], {}
        for symbol, track in list(self._feed.tracks.items()):
            for first_id, last_id in track.agg_trades.holes:
                since_s, empty = seen[symbol, last_id] = self._seen.get((symbol, last_id), (now_s, 0))
                size = last_id - first_id + 1
                if track.agg_trades.is_withheld:
                    continue  # what is fetched would be kept back too
                if size > self._largest or now_s - since_s > self._longest_s or empty >= EMPTY_MOST:
                    self._give_up(symbol, first_id, last_id)
                elif now_s - since_s >= self._grace_s:
                    due.append((symbol, first_id, last_id))
        self._seen = seen
        return due

    def _give_up(self, symbol: str, first_id: int, last_id: int) -> None:
        lost = self._feed.tracks[symbol].agg_trades.give_up(first_id, last_id)
        self.lost += lost
        self._feed.publisher.event(self._now_ns(), symbol, "trades_lost", first_id=first_id, last_id=last_id)
        if self._on_lost is not None:
            self._on_lost(symbol)

    async def _fill(self, symbol: str, first_id: int, last_id: int) -> None:
        limit = min(last_id - first_id + 1, ROWS_A_REQUEST)
        request = self._venue.agg_trades_request(symbol, first_id, limit)
        body = await self._rest.fetch(request, Purpose.BACKFILL)
        rows = self._venue.parse_agg_trades(body)
        if symbol not in self._feed.tracks:
            return
        found = self._seeds.trades(symbol, rows, self._now_ns())
        self.filled += found
        self.outcomes["filled" if found else "empty"] += 1
        since_s, empty = self._seen.get((symbol, last_id), (0.0, 0))
        if (symbol, last_id) in self._seen:
            self._seen[symbol, last_id] = (since_s, 0 if found else empty + 1)
        if found:
            self._feed.publisher.event(self._now_ns(), symbol, "trades_filled", first_id=first_id, count=found)
            self._flush()
