"""Which symbols are served: checked against the venue's own list, and changed while everything else goes on.

Answers for the operator's mistake in `symbols` (at start, later, at a reload), and for adding and removing symbols at
run time. Refuses to know signals, and how lines carry symbols.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from mdfeed._clock import now_ns
from mdfeed._feed import Feed
from mdfeed.config import Config, value_of
from mdfeed.errors import MdfeedError, VenueError
from mdfeed.lines import Lines
from mdfeed.refusals import Backoff
from mdfeed.rest import Rest
from mdfeed.settings import KEYS
from mdfeed.venues import Filters, Venue

log = logging.getLogger(__name__)

LISTING_S = 2.0  # how long a start or a reload waits for the venue's list
TRADING = frozenset({"TRADING", ""})


def unknown_symbols(symbols: Iterable[str], listing: Mapping[str, Filters], venue: str) -> dict[str, str]:
    """A sentence for each symbol that the venue does not list, with the likely one."""
    problems = {}
    for symbol in symbols:
        if symbol not in listing:
            near = difflib.get_close_matches(symbol, listing, 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems[symbol] = f"{venue} does not list {symbol}{hint}"
    return problems


class Roster:
    """The symbols of one venue. `config` is what is in force; `unknown` what the venue was found not to list."""

    def __init__(
        self, config: Config, feed: Feed, venue: Venue, rest: Rest, lines: Lines, flush: Callable[[], object]
    ) -> None:
        self.config = config
        self.unknown: dict[str, str] = {}
        self._feed = feed
        self._venue = venue
        self._rest = rest
        self._lines = lines
        self._flush = flush
        self._reloading = asyncio.Lock()
        self._is_unchecked = False
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Follow the configured symbols. ConfigError for one that the venue does not list, if it says so in time."""
        problems = await self._problems(self.config.symbols)
        if problems:
            raise self.config.error("symbols", "; ".join(problems.values()))
        self._is_unchecked = problems is None
        self._lines.follow(self.config.symbols)

    async def run(self) -> None:
        """Check the symbols as soon as the venue can be asked, in the background, until cancelled."""
        backoff = Backoff(1.0, 60.0)
        while True:
            try:
                if self._is_unchecked:
                    await self._check_again()
            except VenueError as error:
                log.warning("the list of symbols: %s; retrying", error)
                await asyncio.sleep(backoff.wait_s())
                continue
            backoff.reset()
            self._changed.clear()
            await self._changed.wait()

    async def reload(self, read: Callable[[], Config]) -> bool:
        """Take over the symbols of `read()`. A configuration with a mistake changes nothing; True when it was taken."""
        async with self._reloading:
            try:
                config = read()
                problems = await self._problems(config.symbols)
                if problems:
                    raise config.error("symbols", "; ".join(problems.values()))
            except MdfeedError as error:
                log.error("nothing is reloaded: %s", error)
                return False
            self._is_unchecked = problems is None
            self._take(config)
            return True

    def _take(self, config: Config) -> None:
        old, new = self.config.symbols, config.symbols
        added = [symbol for symbol in new if symbol not in old]
        removed = [symbol for symbol in old if symbol not in new]
        restart = [name for name in KEYS if name != "symbols" and value_of(config, name) != value_of(self.config, name)]
        for symbol in removed:
            self._feed.remove(symbol, now_ns())
            self.unknown.pop(symbol, None)
        for symbol in added:
            self._feed.add(symbol)
        self.config = msgspec.structs.replace(self.config, symbols=new)
        self._lines.follow(new)
        self._flush()
        self._changed.set()
        log.info("reloaded: added %s; removed %s", ", ".join(added) or "none", ", ".join(removed) or "none")
        if restart:
            log.warning("changed in the configuration, but taken over by a restart only: %s", ", ".join(restart))

    # ---- what is asked of the venue

    async def _problems(self, symbols: Iterable[str]) -> dict[str, str] | None:
        """What the venue does not list; None when it could not be asked in time."""
        try:
            async with asyncio.timeout(LISTING_S):
                return await self._ask(symbols)
        except (VenueError, TimeoutError) as error:
            log.warning("symbols are not checked yet: %s", str(error) or "no answer in time")
            return None

    async def _ask(self, symbols: Iterable[str]) -> dict[str, str]:
        listing = self._venue.parse_exchange_info(await self._rest.fetch(self._venue.exchange_info_request()))
        for symbol in symbols:
            if symbol in listing and listing[symbol].status not in TRADING:
                log.warning("%s: the venue says %s: it may be silent", symbol, listing[symbol].status)
        return unknown_symbols(symbols, listing, self._venue.name)

    async def _check_again(self) -> None:
        self.unknown = await self._ask(self.config.symbols)
        self._is_unchecked = False
        for problem in self.unknown.values():
            log.error("symbols: %s", problem)
