"""The plain-Python twin: orjson, SortedDict, a pipelined redis.asyncio, websockets. What a good team writes first.

Publishes what mdfeed publishes on `market_data:`, `orderbook:` and `trades:`, with the same rule of continuity, for one
USD-M symbol; it does not prove its book. Prices are floats, as usual in such code. Run as a program it is one side of
bench/end_to_end.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sortedcontainers import SortedDict

Command = tuple[str, str, bytes]  # SET or PUBLISH, key or channel, payload


class TwinBook:
    """Float price -> float quantity, both sides ascending."""

    def __init__(self) -> None:
        self.bids: SortedDict = SortedDict()
        self.asks: SortedDict = SortedDict()
        self.last_id = 0

    def load(self, body: dict[str, Any]) -> None:
        self.bids = SortedDict((float(p), float(q)) for p, q in body["bids"])
        self.asks = SortedDict((float(p), float(q)) for p, q in body["asks"])
        self.last_id = body["lastUpdateId"]

    def apply(self, data: dict[str, Any]) -> bool:
        """False: not newer than the book. RuntimeError at a gap: the bench feeds whole chains."""
        if data["u"] <= self.last_id:
            return False
        if data["pu"] > self.last_id:
            raise RuntimeError(f"gap at {data['u']}")
        for side, rows in ((self.bids, data["b"]), (self.asks, data["a"])):
            for price_text, qty_text in rows:
                price, qty = float(price_text), float(qty_text)
                if qty == 0.0:
                    side.pop(price, None)
                else:
                    side[price] = qty
        self.last_id = data["u"]
        return True


class Twin:
    """One symbol's feed: frames in, Redis commands out."""

    def __init__(self, symbol: str, depth: int = 20) -> None:
        self.symbol = symbol
        self.depth = depth
        self.book = TwinBook()
        self.last_price: float | None = None

    def receive(self, frame: bytes, recv_ns: int) -> list[Command]:
        data = orjson.loads(frame)["data"]
        event = data["e"]
        if event == "depthUpdate":
            if not self.book.apply(data):
                return []
            return self.publish_book(recv_ns)
        if event in ("trade", "aggTrade"):
            return self.publish_trade(data)
        return []

    def publish_book(self, recv_ns: int) -> list[Command]:
        bids, asks = self.book.bids, self.book.asks
        bid, ask = bids.keys()[-1], asks.keys()[0]
        key = f"market_data:{self.symbol}"
        market_data = orjson.dumps(
            {
                "symbol": self.symbol,
                "last_price": (bid + ask) / 2 if self.last_price is None else self.last_price,
                "bid_price": bid,
                "ask_price": ask,
                "volume_24h": None,
                "high_24h": None,
                "low_24h": None,
                "updated_at": datetime.fromtimestamp(recv_ns / 1e9, UTC).isoformat(),
            }
        )
        orderbook = orjson.dumps(
            {
                "symbol": self.symbol,
                "bids": {str(price): bids[price] for price in bids.keys()[-self.depth :]},
                "asks": {str(price): asks[price] for price in asks.keys()[: self.depth]},
                "last_update_id": self.book.last_id,
                "timestamp": recv_ns // 1000,
                "initialized": True,
            }
        )
        return [
            ("SET", key, market_data),
            ("PUBLISH", key, market_data),
            ("PUBLISH", f"orderbook:{self.symbol}", orderbook),
        ]

    def publish_trade(self, data: dict[str, Any]) -> list[Command]:
        self.last_price = float(data["p"])
        payload = orjson.dumps(
            {
                "symbol": self.symbol,
                "trade_id": data["t"] if data["e"] == "trade" else data["a"],
                "price": self.last_price,
                "quantity": float(data["q"]),
                "timestamp": data["T"],
                "is_buyer_maker": data["m"],
            }
        )
        return [("PUBLISH", f"trades:{self.symbol}", payload)]


async def serve(url: str, redis_url: str, symbol: str, snapshot: bytes) -> None:
    import redis.asyncio
    from websockets.asyncio.client import connect

    client = redis.asyncio.Redis.from_url(redis_url)
    await client.ping()
    twin = Twin(symbol)
    twin.book.load(orjson.loads(snapshot))
    async with connect(url, compression=None, max_size=None, max_queue=1024) as socket:
        async for frame in socket:
            commands = twin.receive(frame, time.time_ns())  # type: ignore[arg-type]
            if commands:
                pipe = client.pipeline(transaction=False)
                for name, key, payload in commands:
                    if name == "SET":
                        pipe.set(key, payload, ex=300)
                    else:
                        pipe.publish(key, payload)
                await pipe.execute()
    await client.aclose()


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--symbol", required=True)
    parser.add_argument("--snapshot", type=Path, required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.url, options.redis, options.symbol, options.snapshot.read_bytes()))
    sys.exit(0)


if __name__ == "__main__":
    main()
