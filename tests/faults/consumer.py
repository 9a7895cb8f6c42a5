"""A consumer that believes nothing: every published book is compared with the exchange's truth, as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

from mdfeed.exchange.market import Market
from tests.faults.world import plain_units


class Consumer:
    """Subscribes by pattern as consumers do and comes back when Redis does. `run` until cancelled.

    `wrong` holds what was published and is not the truth; it is to stay empty.
    """

    def __init__(self, url: str, market: Market) -> None:
        self.books = 0
        self.levels = 0
        self.trades = 0
        self.trades_twice = 0
        self.subscriptions = 0
        self.unknown = 0  # published later than the truth remembers
        self.wrong: list[str] = []
        self.states: dict[str, str] = {}
        self.keys_read = 0
        self._url, self._market = url, market
        self._seen: dict[str, set[int]] = {}
        self.by_channel: Counter[str] = Counter()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                await self._listen()
            await asyncio.sleep(0.05)

    async def _listen(self) -> None:
        async with redis.Redis.from_url(self._url) as client, client.pubsub() as subscriber:
            await subscriber.psubscribe("orderbook:*", "trades:*", "mdfeed:state:*")
            self.subscriptions += 1
            async for message in subscriber.listen():
                if message["type"] == "pmessage":
                    self.take(message["channel"].decode(), message["data"])

    def take(self, channel: str, payload: bytes) -> None:
        symbol = channel.rpartition(":")[2]
        self.by_channel[channel] += 1
        if channel.startswith("orderbook:"):
            self.compare(symbol, json.loads(payload, parse_float=str, parse_int=str))
        elif channel.startswith("trades:"):
            trade_id = json.loads(payload)["trade_id"]
            seen = self._seen.setdefault(symbol, set())
            self.trades += 1
            self.trades_twice += trade_id in seen
            seen.add(trade_id)
        else:
            self.states[symbol] = json.loads(payload)["state"]

    def compare(self, symbol: str, book: dict) -> None:
        try:
            truth = self._market.book_at(symbol, int(book["last_update_id"]))
        except LookupError as error:
            self.wrong.append(str(error))
            return
        self.books += 1
        profile = truth.profile
        for side, own in (("bids", truth.bids), ("asks", truth.asks)):
            shown = list(book[side].items())
            prices = sorted(own, reverse=side == "bids")[: len(shown)]
            if side == "bids":
                prices.reverse()
            exact = [
                (
                    plain_units(price * profile.tick_units, profile.price_digits),
                    plain_units(own[price] * profile.step_units, profile.qty_digits),
                )
                for price in prices
            ]
            self.levels += len(shown)
            if shown != exact:
                self.wrong.append(f"{symbol} {side} at {book['last_update_id']}")

    def trades_missing(self) -> int:
        """Between the first and the last of each symbol."""
        return sum(max(seen) - min(seen) + 1 - len(seen) for seen in self._seen.values() if seen)

    async def read_keys(self, symbols: Sequence[str]) -> dict[str, str]:
        """The state that each symbol's key says now; without those that have none, empty while Redis is away."""
        with contextlib.suppress(RedisError, OSError):
            async with redis.Redis.from_url(self._url, socket_timeout=2.0) as client:
                said = await client.mget([f"mdfeed:state:{symbol}" for symbol in symbols])
                return {symbol: json.loads(text)["state"] for symbol, text in zip(symbols, said, strict=True) if text}
        return {}

    def __str__(self) -> str:
        return (
            f"{self.books:,} books compared on {self.levels:,} levels, {len(self.wrong)} wrong; {self.trades:,} "
            f"trades, {self.trades_twice} twice"
        )
