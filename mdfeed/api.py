"""The gateway API: what the feed knows of each symbol, as JSON for those who cannot read Redis.

Answers for: paths, fields and status codes below /api/v1/market-data. Refuses to know: sockets, credentials, and any
book that is not trusted: what is not LIVE or PROVED is answered with 503 and the reason, never with levels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote

from mdfeed._feed import Feed
from mdfeed._recent import Recent
from mdfeed._track import Track

PREFIX = "/api/v1/market-data"
GOOD = ("LIVE", "PROVED")
# Levels of a side in an answer, whatever order_book_depth is: an answer may not hold the loop.
MOST_LEVELS = 500
Answer = tuple[int, dict[str, Any]]


class Api:
    """`answer` gives (status, JSON object) of a path. Attaches itself to the feed for trades and 24 h figures."""

    def __init__(self, feed: Feed, depth: int, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.feed = feed
        self.depth = min(depth, MOST_LEVELS)
        self.now_ns = now_ns
        self.recent = Recent()
        feed.attach(self.recent)
        self.kinds = {"orderbook": self.orderbook, "trades": self.trades, "ticker": self.ticker}

    @property
    def paths(self) -> list[str]:
        return [f"{PREFIX}/symbols", *(f"{PREFIX}/{kind}/{{SYMBOL}}" for kind in self.kinds)]

    def answer(self, path: str) -> Answer | None:
        """None when there is no such path."""
        kind, slash, symbol = unquote(path.removeprefix(f"{PREFIX}/")).partition("/")
        if kind == "symbols" and not slash:
            return self.symbols()
        if kind not in self.kinds or not symbol or "/" in symbol:
            return None
        track = self.feed.tracks.get(symbol.upper())
        if track is None:
            near = get_close_matches(symbol.upper(), self.feed.tracks, 1, 0.6)
            return 404, {"error": "unknown symbol", "symbol": symbol, "did_you_mean": near[0] if near else None}
        if kind != "trades" and track.state not in GOOD:
            return 503, {"error": f"the book is {track.state} ({track.reason})", **self.standing(track)}
        return 200, {**self.standing(track), **self.kinds[kind](track)}

    def standing(self, track: Track) -> dict[str, Any]:
        """How far the symbol can be trusted now."""
        since = track.last_update_ns
        return {
            "symbol": track.symbol,
            "state": track.state,
            "reason": track.reason,
            "since_ns": track.state_since_ns,
            "age_s": round((self.now_ns() - since) / 1e9, 6) if since else None,
        }

    def symbols(self) -> Answer:
        return 200, {"venue": self.feed.venue, "symbols": [self.standing(track) for track in self.feed.tracks.values()]}

    def orderbook(self, track: Track) -> dict[str, Any]:
        book = track.book
        return {
            "last_update_id": book.last_id,
            "ts_event": book.ts_event,
            "recv_ns": book.recv_ns,
            "verified_levels": {"bids": book.verified_bids, "asks": book.verified_asks},
            "bids": rows(book.levels("bids", self.depth, verified_only=True)),
            "asks": rows(book.levels("asks", self.depth, verified_only=True)),
        }

    def trades(self, track: Track) -> dict[str, Any]:
        return {"trades": self.recent.trades(self.feed.instruments.index(track.symbol))}

    def ticker(self, track: Track) -> dict[str, Any]:
        bid, ask = track.book.best_bid, track.book.best_ask
        return {
            "bid": rows([bid])[0] if bid else None,
            "ask": rows([ask])[0] if ask else None,
            **self.recent.figures(self.feed.instruments.index(track.symbol)),
        }


def rows(levels: list[tuple[Decimal, Decimal]]) -> list[list[str]]:
    """Plain decimals without exponent and without trailing zeros."""
    return [[plain(price), plain(qty)] for price, qty in levels]


def plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
