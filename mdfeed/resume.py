"""What an earlier daemon has published last, so that a restart leaves no silent hole in the trades.

Answers for reading the newest aggregate trade of each symbol from its stream in Redis, once, and handing it to the
heart, which counts what is between as missing (backfill.py fetches that). Refuses to know when it may be read: the
wiring asks once nobody else publishes the symbol any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from mdfeed._feed import Feed
from mdfeed.sentinel import client_of

FAR_SIDE = (RedisError, OSError, TimeoutError, RuntimeError)  # as in lease.py
KEY = "mdfeed:trades:"
NEWEST = 20  # entries of a stream that usually tell
PAGE = 1000
SYMBOLS_AT_ONCE = 50
TIMEOUT_S = 2.0
RETRY_S = 0.5
LATE_NS = 1_500_000_000  # a trade that was published so long after it happened may have been fetched: its id is no end

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What is read of one entry of a stream."""

    epoch: int
    trade_id: int
    late_ns: int


class Resume:
    """`run` reads what is asked for, until cancelled. `done` is set as soon as all of `symbols` were read once.

    `epoch` is our own: what we have published ourselves is passed over. `maxlen` is how long a stream may be.
    """

    def __init__(
        self, url: str, feed: Feed, symbols: Iterable[str], *, epoch: int, maxlen: int, now_ns: Callable[[], int]
    ) -> None:
        self.done = asyncio.Event()
        self._feed = feed
        self._epoch = epoch
        self._pages = maxlen // PAGE + 2
        self._now_ns = now_ns
        self._left = set(symbols)
        self._asked: set[str] = set()
        self._poked = asyncio.Event()
        self._client = client_of(url, socket_timeout=None, socket_connect_timeout=TIMEOUT_S, client_name="mdfeed-past")

    def ask(self, symbols: Iterable[str]) -> None:
        """From now on nobody else publishes these. Those that were read already are not read again."""
        self._asked |= self._left & set(symbols)
        if self._asked:
            self._poked.set()

    async def run(self) -> None:
        """Serves until cancelled. No far side's behaviour ends it."""
        try:
            while self._left:
                await self._poked.wait()
                self._poked.clear()
                while self._asked:
                    try:
                        await self._read(sorted(self._asked)[:SYMBOLS_AT_ONCE])
                    except FAR_SIDE as error:
                        log.debug("the newest trades of an earlier daemon cannot be read: %s", error)
                        await asyncio.sleep(RETRY_S)
            self.done.set()
        finally:
            with suppress(*FAR_SIDE):
                await self._client.aclose()

    async def _read(self, symbols: list[str]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            pipeline = self._client.pipeline(transaction=False)
            for symbol in symbols:
                pipeline.xrevrange(KEY + symbol, count=NEWEST)
            answers = await pipeline.execute(raise_on_error=False)
        for symbol, answer in zip(symbols, answers, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
                raise answer
            # A refusal, or a key of another kind: there is nothing to know.
            entries = [] if isinstance(answer, Exception) else entries_of(answer)
            if entries and not self._is_plain(entries):
                entries = await self._read_all(symbol)
            self._note(symbol, entries)

    def _is_plain(self, entries: list[Entry]) -> bool:
        """Whether the first of them, the newest, is surely the end: another's, and live."""
        newest = entries[0]
        if newest.epoch == self._epoch or newest.late_ns > LATE_NS:
            return False
        return all(later.trade_id > earlier.trade_id for later, earlier in pairwise(entries))

    async def _read_all(self, symbol: str) -> list[Entry]:
        found: list[Entry] = []
        before = "+"
        for _ in range(self._pages):
            async with asyncio.timeout(TIMEOUT_S):
                rows: Any = await self._client.xrevrange(KEY + symbol, max=before, count=PAGE)
            found += entries_of(rows)
            if len(rows) < PAGE:
                break
            before = f"({rows[-1][0].decode()}"
        return found

    def _note(self, symbol: str, entries: list[Entry]) -> None:
        self._left.discard(symbol)
        self._asked.discard(symbol)
        past = [entry.trade_id for entry in entries if entry.epoch != self._epoch]
        track = self._feed.tracks.get(symbol)
        if past and track is not None:
            track.resume_trades(max(past), self._now_ns())


def entries_of(rows: Iterable[Any]) -> list[Entry]:
    """What can be read of a stream's entries; others than ours are passed over."""
    entries = []
    for row in rows:
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            said = json.loads(row[1][b"data"])
            trade_id = int(said["trade_id"])
            if 0 < trade_id < 1 << 62:
                entries.append(Entry(int(said["epoch"]), trade_id, int(said["recv_ns"]) - int(said["ts_event"])))
    return entries
