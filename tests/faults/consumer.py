"""A consumer that believes nothing: all that is published is compared with the exchange's truth, as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

from mdfeed.exchange.market import Market
from tests.comparer import Comparer

# The longest first: `mdfeed:trades:` is the stream.
KINDS = {"mdfeed:book:": "book", "mdfeed:bbo:": "bbo", "orderbook:": "orderbook", "market_data:": "market_data"}
KINDS |= {"trades:": "trades"}
KEYS = {"mdfeed:book:": "key book", "market_data:": "key market_data"}


class Consumer:
    """Subscribes by pattern and follows the streams as consumers do, and comes back when Redis does.

    `run` until cancelled. `comparer.wrong` is to stay empty.
    """

    def __init__(self, url: str, market: Market, symbols: Sequence[str]) -> None:
        self.comparer = Comparer(market, is_whole=False)
        self.subscriptions = 0
        self._url = url
        self._symbols = symbols
        self._entries = {f"mdfeed:trades:{symbol}": "0" for symbol in symbols}

    @property
    def books(self) -> int:
        return self.comparer.books

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self._listen))
            group.create_task(self._again(self._follow))

    async def _again(self, do) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                await do()
            await asyncio.sleep(0.05)

    async def _listen(self) -> None:
        async with redis.Redis.from_url(self._url) as client, client.pubsub() as subscriber:
            await subscriber.psubscribe(*(f"{prefix}*" for prefix in KINDS))
            self.subscriptions += 1
            async for message in subscriber.listen():
                if message["type"] == "pmessage":
                    prefix, _, symbol = message["channel"].decode().rpartition(":")
                    self.comparer.take(KINDS[f"{prefix}:"], symbol, message["data"])

    async def _follow(self) -> None:
        """The entries of the trade streams."""
        async with redis.Redis.from_url(self._url) as client:
            while True:
                for key, entries in await client.xread(self._entries, count=1000, block=500):
                    name = key.decode()
                    for entry_id, fields in entries:
                        self.comparer.take("trades_stream", name.rpartition(":")[2], fields[b"data"])
                        self._entries[name] = entry_id.decode()

    async def read_states(self) -> dict[str, str]:
        """The state that each symbol's key says now; without those that have none, empty while Redis is away."""
        with contextlib.suppress(RedisError, OSError):
            async with redis.Redis.from_url(self._url, socket_timeout=2.0) as client:
                said = await client.mget([f"mdfeed:state:{symbol}" for symbol in self._symbols])
                named = zip(self._symbols, said, strict=True)
                return {symbol: json.loads(text)["state"] for symbol, text in named if text}
        return {}

    async def judge_keys(self) -> None:
        """What the keys hold is true as well."""
        with contextlib.suppress(RedisError, OSError):
            async with redis.Redis.from_url(self._url, socket_timeout=2.0) as client:
                for prefix, kind in KEYS.items():
                    said = await client.mget([f"{prefix}{symbol}" for symbol in self._symbols])
                    for symbol, payload in zip(self._symbols, said, strict=True):
                        if payload is not None:
                            self.comparer.take(kind, symbol, payload)

    def __str__(self) -> str:
        comparer = self.comparer
        return (
            f"{comparer.books:,} books and tops compared on {comparer.levels:,} levels, {len(comparer.wrong)} wrong; "
            f"{comparer.trades:,} trades, {comparer.trades_missing():,} missing"
        )
