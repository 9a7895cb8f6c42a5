"""The HTTP side over a small feed, for tests that ask it: two symbols, one of them with a book and two trades."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed.api import Api
from mdfeed.exposition import Exposition
from mdfeed.gate import Gate
from mdfeed.http import HttpServer
from mdfeed.metrics import FeedCollector
from mdfeed.page import Page
from mdfeed.settings import Auth
from mdfeed.view import View
from mdfeed.viewers import Viewers
from tests.wire import certificate


def contexts(scheme: str, folder: Path) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """The server's and a client's, for "http" (none), "https", or "mutual": the client's certificate is demanded."""
    if scheme == "http":
        return None, None
    context, cert = certificate(folder, "IP:127.0.0.1")
    client = ssl.create_default_context(cafile=str(cert))
    if scheme == "mutual":
        context.load_verify_locations(cert)
        context.verify_mode = ssl.CERT_REQUIRED
        client.load_cert_chain(cert, folder / "key.pem")
    return context, client


def feed_of_two() -> Feed:
    """BTCUSDT is LIVE with two trades, ETHUSDT knows nothing yet."""
    feed = Feed(venues.get("binance-usdm"))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        feed.add(symbol, 1, 3)
    return feed


def fill(feed: Feed) -> int:
    """The line's number, for more frames."""
    now = time.time_ns()
    line = feed.open_line("public-0", ["btcusdt@depth@100ms", "btcusdt@aggTrade"], now)
    feed.snapshot_requested("BTCUSDT", now)
    body = {"lastUpdateId": 10, "E": 1, "T": 1, "bids": [["61800.10", "2.500"]], "asks": [["61800.30", "0.010"]]}
    feed.snapshot("BTCUSDT", "rest", 1000, json.dumps(body).encode(), now)
    for trade_id, price in ((7, "61800.20"), (8, "61800.25")):
        trade = {"e": "aggTrade", "E": now // 10**6, "s": "BTCUSDT", "a": trade_id, "p": price, "q": "0.120"}
        trade |= {"f": trade_id, "l": trade_id, "T": now // 10**6, "m": True}
        feed.receive(line, json.dumps({"stream": "btcusdt@aggTrade", "data": trade}).encode(), now)
    return line


def advance(rig: Rig, last_id: int, bids: list[list[str]], asks: list[list[str]] | None = None) -> None:
    """One more diff of BTCUSDT."""
    now, track = time.time_ns(), rig.feed.tracks["BTCUSDT"]
    diff = {"e": "depthUpdate", "E": now // 10**6, "T": now // 10**6, "s": "BTCUSDT", "U": last_id, "u": last_id}
    diff |= {"pu": track.book.last_id, "b": bids, "a": asks or []}
    rig.feed.receive(rig.line, json.dumps({"stream": "btcusdt@depth@100ms", "data": diff}).encode(), now)


@dataclass
class Rig:
    """A whole HTTP side on a free port, over a feed that a test may go on filling."""

    feed: Feed
    api: Api
    view: View
    viewers: Viewers
    server: HttpServer
    line: int

    @property
    def port(self) -> int:
        return self.server.port


@asynccontextmanager
async def rig_of(
    auth: Auth | None = None, tls: ssl.SSLContext | None = None, origins: Iterable[str] = ()
) -> AsyncIterator[Rig]:
    feed = feed_of_two()
    api = Api(feed, 20)
    line = fill(feed)

    def health() -> tuple[int, dict[str, Any]]:
        return 200, {"service": "market-data", "status": "healthy", "version": "1"}

    def ready() -> tuple[int, dict[str, Any]]:
        return 503, {"status": "not_ready", "reasons": ["ETHUSDT: COLD"]}

    view = View(feed, api, ready=ready)
    viewers = Viewers(view, origins)
    server = HttpServer(
        "127.0.0.1", 0, health=health, ready=ready, metrics=Exposition(FeedCollector(feed)).render, api=api,
        page=Page(viewers), gate=Gate(auth or Auth()), tls=tls,
    )  # fmt: skip
    await server.start()
    try:
        yield Rig(feed, api, view, viewers, server, line)
    finally:
        await server.stop()


@asynccontextmanager
async def served(auth: Auth | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of one."""
    async with rig_of(auth, tls) as rig:
        yield rig.port
