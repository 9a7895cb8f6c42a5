"""What an earlier daemon has published last, so that a restart leaves no silent hole in the trades.

Answers for reading the newest aggregate trade of each symbol from its stream in Redis, whenever a lease was had
(again), and handing it to the heart, which counts what is between as missing (backfill.py fetches that). Until then
the valve lets no trade through. Refuses to know when it may be read: the wiring asks once nobody else publishes the
symbol any more.
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
from mdfeed._valve import Valve
from mdfeed.sentinel import client_of

FAR_SIDE = (RedisError, OSError, TimeoutError, RuntimeError)  # as in lease.py
KEY = "mdfeed:trades:"
NEWEST = 20  # entries of a stream that usually tell
PAGE = 1000
SYMBOLS_AT_ONCE = 50
TIMEOUT_S = 2.0
RETRY_S = 0.5
FAILURES_TOLD = 20  # in a row
SETTLE_S = 0.1  # a server that was frozen may still be taking what it was sent before
LATE_NS = 1_500_000_000  # a trade that was published so long after it happened may have been fetched: its id is no end

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What is read of one entry of a stream."""

    epoch: int
    trade_id: int
    late_ns: int


class Resume:
    """`run` reads what is asked for, until cancelled. `done` is set as soon as all of `symbols` were read once.

    `epoch` is our own, `maxlen` is how long a stream may be, `valve` is opened for a symbol's trades once
    its stream was read. Without one nothing keeps trades back, and each symbol is read once.
    """

    def __init__(
        self,
        url: str,
        feed: Feed,
        symbols: Iterable[str],
        *,
        epoch: int,
        maxlen: int,
        now_ns: Callable[[], int],
        valve: Valve | None = None,
    ) -> None:
        self.done = asyncio.Event()
        self._feed = feed
        self._epoch = epoch
        self._pages = maxlen // PAGE + 2
        self._now_ns = now_ns
        self._valve = valve
        self._left = set(symbols)
        self._doubted: dict[str, int] = {}  # symbol -> newest of our own ids at the last look, -1 before it
        self._asked: set[str] = set()
        self._run_id = ""  # of the server's process that was read last
        self._poked = asyncio.Event()
        self._client = client_of(url, socket_timeout=None, socket_connect_timeout=TIMEOUT_S, client_name="mdfeed-past")

    def ask(self, symbols: Iterable[str]) -> None:
        """From now on nobody else publishes these."""
        self._asked |= set(symbols) & (self._feed.tracks.keys() if self._valve is not None else self._left)
        if self._asked:
            self._poked.set()

    async def known(self, most_s: float) -> None:
        """Wait until all were read once, and no longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self.done.wait()

    def doubt(self) -> None:
        """A connection has ended: of what was sent last, only what is in the streams has arrived.

        That is true of the same server only: another one, or a new process, may have forgotten more than that.
        """
        self._doubted = dict.fromkeys(self._feed.tracks, -1)

    async def run(self) -> None:
        """Serves until cancelled. No far side's behaviour ends it."""
        failures = 0
        try:
            while True:
                await self._poked.wait()
                self._poked.clear()
                while self._asked:
                    symbols = sorted(self._asked)[:SYMBOLS_AT_ONCE]
                    self._asked -= set(symbols)
                    try:
                        await self._read(symbols)
                        failures = 0
                    except FAR_SIDE as error:
                        self._asked |= set(symbols)
                        failures += 1
                        # An outage is the sink's to tell: here only what keeps trades back though that is connected.
                        if failures % FAILURES_TOLD == 0:
                            log.warning("trades are kept back: their streams cannot be read: %s", error)
                        await asyncio.sleep(RETRY_S)
                    if self._doubted.keys() & self._asked:
                        await asyncio.sleep(SETTLE_S)
        finally:
            with suppress(*FAR_SIDE):
                await self._client.aclose()

    async def _look_whose(self) -> None:
        run_id = ""
        with suppress(ResponseError):  # a user need not have INFO
            run_id = str((await self._client.info("server")).get("run_id", ""))
        if not run_id or run_id != self._run_id:
            self._doubted.clear()
        self._run_id = run_id

    async def _read(self, symbols: list[str]) -> None:
        if self._doubted or not self._run_id:
            async with asyncio.timeout(TIMEOUT_S):
                await self._look_whose()
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
            if entries and not self._is_plain(entries, symbol not in self._left):
                entries = await self._read_all(symbol)
            self._note(symbol, entries)

    def _is_plain(self, entries: list[Entry], is_known: bool) -> bool:
        """Whether the first of them, the newest, is surely the end: live, and what others have is known."""
        newest = entries[0]
        if (newest.epoch == self._epoch and not is_known) or newest.late_ns > LATE_NS:
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
        if symbol in self._asked:  # asked again meanwhile: somebody may have published since
            return
        past_id = max((entry.trade_id for entry in entries if entry.epoch != self._epoch), default=0)
        own_id = max((entry.trade_id for entry in entries if entry.epoch == self._epoch), default=0)
        if self._doubted.get(symbol, own_id) != own_id:
            self._doubted[symbol] = own_id
            self._asked.add(symbol)
            return
        self._left.discard(symbol)
        track = self._feed.tracks.get(symbol)
        if track is None:
            pass
        elif self._valve is None:
            track.resume_trades(past_id, self._now_ns())
        elif self._valve.let_trades(self._feed.instruments.index(symbol)):
            is_doubted = self._doubted.pop(symbol, None) is not None
            track.resume_trades(past_id, self._now_ns(), own_id, is_doubted)
        if not self._left:
            self.done.set()


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
