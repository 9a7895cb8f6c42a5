"""Which symbols are served: checked against the venue's own list, and changed while everything else goes on.

Answers for the operator's mistake in `symbols` (at start, later, at a reload), for telling it from a symbol that the
venue has ceased to list or to trade, which stops no other, and for adding and removing symbols at run time. Refuses to
know signals, and how lines carry symbols.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from mdfeed._clock import now_ns
from mdfeed._feed import Feed
from mdfeed.config import Config, value_of
from mdfeed.errors import MdfeedError, VenueError
from mdfeed.kept import ListedFile
from mdfeed.readiness import GOOD
from mdfeed.refusals import Backoff
from mdfeed.rest import Rest
from mdfeed.settings import KEYS
from mdfeed.venues import Filters, Venue

log = logging.getLogger(__name__)

LISTING_S = 2.0  # how long a start or a reload waits for the venue's list
TRADING = frozenset({"TRADING", ""})
GONE = "not listed any more by the venue"
LOOK_S = 5.0  # between looks at which symbols are silent
SILENT_S = 10.0  # so long, and the venue is asked whether it still lists it
SILENT = frozenset({"silent", "quiet", "depth_silent"})
FIRST_AGAIN_S, LAST_AGAIN_S = 60.0, 3600.0  # until it is asked about the same silent symbol again
LEAST_APART_S = 30.0  # between two times that the list is asked for: it is weight 1, and a megabyte


def unknown_symbols(symbols: Iterable[str], listing: Mapping[str, Filters], venue: str) -> dict[str, str]:
    """A sentence for each symbol that the venue does not list, with the likely one."""
    problems = {}
    for symbol in symbols:
        if symbol not in listing:
            near = difflib.get_close_matches(symbol, listing, 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems[symbol] = f"{venue} does not list {symbol}{hint}"
    return problems


class Follower(Protocol):
    """What of the lines is needed here."""

    def follow(self, symbols: list[str], /) -> None: ...


class Silence:
    """Since when a symbol has been silent, and when the venue is asked about it (loop times)."""

    def __init__(self, now_s: float, patience_s: float) -> None:
        self.ask_at_s = now_s + patience_s
        self._again_s = FIRST_AGAIN_S

    def asked(self, now_s: float) -> None:
        self.ask_at_s = now_s + self._again_s
        self._again_s = min(2 * self._again_s, LAST_AGAIN_S)


class Roster:
    """The symbols of one venue. `config` is what is in force; `unknown` what the venue was found never to have listed,
    `fates` what it says of those that it has ceased to list or does not trade; both are sentences.
    """

    def __init__(
        self,
        config: Config,
        feed: Feed,
        venue: Venue,
        rest: Rest,
        lines: Follower,
        flush: Callable[[], object],
        listed: ListedFile | None = None,
    ) -> None:
        self.config = config
        self.unknown: dict[str, str] = {}
        self.fates: dict[str, str] = {}
        self._feed = feed
        self._venue = venue
        self._rest = rest
        self._lines = lines
        self._flush = flush
        self._listed = listed or ListedFile(None)
        self._reloading = asyncio.Lock()
        self._is_unchecked = False
        self._silent: dict[str, Silence] = {}
        self._asked_at_s = float("-inf")  # loop time
        self._changed = asyncio.Event()

    def reasons(self) -> list[str]:
        """What the venue says that explains a book which is not good."""
        tracks = self._feed.tracks
        told = [
            f"{symbol}: {fate}"
            for symbol, fate in self.fates.items()
            if fate == GONE or symbol not in tracks or tracks[symbol].state not in GOOD
        ]
        return [*self.unknown.values(), *told]

    async def open(self) -> None:
        """Follow the configured symbols. ConfigError for one that the venue has never listed, if it says so in time."""
        listing = await self._listing_in_time()
        if listing is not None:
            self._judge(listing)
            if self.unknown:
                raise self.config.error("symbols", "; ".join(self.unknown.values()))
        self._is_unchecked = listing is None
        self._lines.follow(self.config.symbols)

    async def run(self) -> None:
        """Check the symbols as soon as the venue can be asked, and those that fall silent, until cancelled."""
        backoff = Backoff(1.0, 60.0)
        while True:
            try:
                if self._is_due():
                    await self._check_again()
            except VenueError as error:
                log.warning("the list of symbols: %s; retrying", error)
                await asyncio.sleep(min(backoff.wait_s(), self._rest.governor.blocked_s or float("inf")))
                continue
            backoff.reset()
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()

    async def reload(self, read: Callable[[], Config]) -> bool:
        """Take over the symbols of `read()`. A configuration with a mistake changes nothing; True when it was taken.

        Only symbols that are new can be a mistake: what the venue does with the others stops no reload.
        """
        async with self._reloading:
            try:
                config = read()
                listing = await self._listing_in_time()
                if listing is not None:
                    added = [symbol for symbol in config.symbols if symbol not in self.config.symbols]
                    problems = unknown_symbols(added, listing, self._venue.name)
                    if problems:
                        raise config.error("symbols", "; ".join(problems.values()))
            except MdfeedError as error:
                log.error("nothing is reloaded: %s", error)
                return False
            self._take(config)
            if listing is not None:
                self._judge(listing)
            else:
                self._is_unchecked = True
            self._changed.set()
            return True

    def _take(self, config: Config) -> None:
        old, new = self.config.symbols, config.symbols
        added = [symbol for symbol in new if symbol not in old]
        removed = [symbol for symbol in old if symbol not in new]
        restart = [name for name in KEYS if name != "symbols" and value_of(config, name) != value_of(self.config, name)]
        for symbol in removed:
            self._feed.remove(symbol, now_ns())
            for about in (self.unknown, self.fates, self._silent):
                about.pop(symbol, None)
        for symbol in added:
            self._feed.add(symbol)
        self.config = msgspec.structs.replace(self.config, symbols=new)
        self._lines.follow(new)
        self._flush()
        log.info("reloaded: added %s; removed %s", ", ".join(added) or "none", ", ".join(removed) or "none")
        if restart:
            log.warning("changed in the configuration, but taken over by a restart only: %s", ", ".join(restart))

    # ---- what is asked of the venue

    async def _listing_in_time(self) -> dict[str, Filters] | None:
        """The venue's list; None when it could not be asked in time."""
        try:
            async with asyncio.timeout(LISTING_S):
                return await self._listing()
        except (VenueError, TimeoutError) as error:
            log.warning("symbols are not checked yet: %s", str(error) or "no answer in time")
            return None

    async def _listing(self) -> dict[str, Filters]:
        return self._venue.parse_exchange_info(await self._rest.fetch(self._venue.exchange_info_request()))

    async def _check_again(self) -> None:
        self._asked_at_s = asyncio.get_running_loop().time()
        told = set(self.unknown)
        self._judge(await self._listing())
        self._is_unchecked = False
        for symbol in self.unknown.keys() - told:
            log.error("symbols: %s", self.unknown[symbol])
        for symbol in self._due():
            self._silent[symbol].asked(self._asked_at_s)

    def _judge(self, listing: Mapping[str, Filters]) -> None:
        symbols = self.config.symbols
        self._listed.add({symbol for symbol in symbols if symbol in listing})
        never = [symbol for symbol in symbols if symbol not in self._listed.symbols]
        self.unknown = unknown_symbols(never, listing, self._venue.name)
        fates = {}
        for symbol in symbols:
            if symbol not in listing and symbol not in self.unknown:
                fates[symbol] = GONE
            elif symbol in listing and listing[symbol].status not in TRADING:
                fates[symbol] = f"the venue says {listing[symbol].status}"
        for symbol, fate in fates.items():
            if self.fates.get(symbol) != fate:
                kind = "delisted" if fate == GONE else "not_trading"
                self._feed.publisher.event(now_ns(), symbol, kind, says=fate)
        self.fates = fates

    # ---- symbols that fall silent

    def _is_due(self) -> bool:
        self._look_for_silent()
        if self._is_unchecked:
            return True
        now_s = asyncio.get_running_loop().time()
        return now_s - self._asked_at_s >= LEAST_APART_S and bool(self._due())

    def _due(self) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        return [symbol for symbol, silence in self._silent.items() if now_s >= silence.ask_at_s]

    def _look_for_silent(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for symbol, track in self._feed.tracks.items():
            # With a lost line it is not the symbol's own silence.
            if track.reason != "line_lost" and (track.state not in GOOD or track.reason == "quiet"):
                # One that waits for its snapshot is mostly not silent at all.
                patience_s = SILENT_S if track.reason in SILENT else FIRST_AGAIN_S
                self._silent.setdefault(symbol, Silence(now_s, patience_s))
            elif self._silent.pop(symbol, None) is not None and track.state in GOOD:
                self.fates.pop(symbol, None)  # it speaks
