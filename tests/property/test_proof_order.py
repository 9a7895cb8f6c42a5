"""The proof judges the same whatever the order in which the two streams arrive against each other."""

from __future__ import annotations

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mdfeed import venues
from mdfeed._feed import Feed

MS = 10**6


def frame(stream: str, **data: object) -> bytes:
    return json.dumps({"stream": f"btcusdt@{stream}", "data": {"s": "BTCUSDT", "E": 1, "T": 1, **data}}).encode()


def history(seed: int, events: int = 60, window: int = 4) -> tuple[bytes, list[bytes], list[bytes]]:
    """(snapshot, diffs, bookTickers) of one true book: each event changes a level, each top has its bookTicker."""
    draw = random.Random(seed)
    book = {"b": {100 - n: n + 1 for n in range(8)}, "a": {102 + n: n + 1 for n in range(8)}}

    def top() -> tuple[int, int, int, int]:
        bid, ask = max(book["b"]), min(book["a"])
        return bid, book["b"][bid], ask, book["a"][ask]

    def rows(side: str, prices: object) -> list[list[str]]:
        return [[str(price), str(book[side].get(price, 0))] for price in prices]  # type: ignore[attr-defined]

    snapshot = {"lastUpdateId": 1000, "bids": rows("b", book["b"]), "asks": rows("a", book["a"])}
    diffs, tickers, changed, last, prev = [], [], {"b": set(), "a": set()}, top(), 1000
    for update_id in range(1001, 1001 + events):
        side = draw.choice("ba")
        price = draw.randint(94, 100) if side == "b" else draw.randint(102, 108)
        qty = draw.choice([0, 0, *range(1, 9)])
        if qty == 0 and len(book[side]) > 3:
            book[side].pop(price, None)
        elif qty:
            book[side][price] = qty
        changed[side].add(price)
        if top() != last:
            last = top()
            tickers.append(
                frame("bookTicker", e="bookTicker", u=update_id, b=str(last[0]),
                      B=str(last[1]), a=str(last[2]), A=str(last[3]))
            )  # fmt: skip
        if update_id % window == 0:
            diffs.append(
                frame(
                    "depth@100ms", e="depthUpdate", U=prev + 1, u=update_id, pu=prev,
                    b=rows("b", changed["b"]), a=rows("a", changed["a"]),
                )
            )  # fmt: skip
            prev, changed = update_id, {"b": set(), "a": set()}
    return json.dumps(snapshot).encode(), diffs, tickers


def feed_of(snapshot: bytes) -> tuple[Feed, int]:
    feed = Feed(venues.get("binance-usdm"))
    feed.add("BTCUSDT")
    assert feed.snapshot("BTCUSDT", "rest", 1000, snapshot, 1) == "joined"
    return feed, feed.open_line("one", ["btcusdt@depth@100ms", "btcusdt@bookTicker"], 1)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 50), st.data())
def test_verdicts_do_not_depend_on_how_the_streams_interleave(seed, data):
    snapshot, diffs, tickers = history(seed)
    feed, line = feed_of(snapshot)
    left = [list(diffs), list(tickers)]
    clock = 10
    while left[0] or left[1]:
        which = data.draw(st.integers(0, 1)) if left[0] and left[1] else int(not left[0])
        clock += MS
        feed.receive(line, left[which].pop(0), clock)
    track = feed.tracks["BTCUSDT"]
    feed.finish(clock)
    newest = json.loads(tickers[-1])["data"]["u"]
    first = json.loads(tickers[0])["data"]["u"]
    judged = [u for u in (json.loads(diff)["data"]["u"] for diff in diffs) if first <= u < newest]
    assert track.applied == len(diffs)
    assert track.proof == {"match": len(judged), "mismatch": 0, "unjudged": len(diffs) - len(judged)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(0, 13))
def test_a_diff_that_lies_about_the_top_is_contradicted(seed, at):
    snapshot, diffs, tickers = history(seed)
    feed, line = feed_of(snapshot)
    at = min(at, len(diffs) - 2)
    liar = json.loads(diffs[at])
    last_id = liar["data"]["u"]
    # A bid just below the ask that never was: the venue's own ticker does not know it.
    liar["data"]["b"].append(["101", "7"])
    diffs[at] = json.dumps(liar).encode()
    newest, first = (json.loads(tickers[n])["data"]["u"] for n in (-1, 0))
    for clock, one in enumerate((*diffs, *tickers), 10):
        feed.receive(line, one, clock * MS)
    track = feed.tracks["BTCUSDT"]
    if first <= last_id < newest:
        assert track.resyncs == {"proof_mismatch": 1}
        assert track.state == "SUSPECT"
        assert track.last_mismatch[1][:2] == (101, 7)
    else:
        assert track.proof["mismatch"] == 0 or track.resyncs


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.lists(st.integers(1, 4), min_size=80, max_size=80))
def test_cutting_batching_and_repeating_frames_change_nothing_of_the_book(seed, repeats):
    snapshot, diffs, _ = history(seed)
    books = []
    for times in ([1] * 80, repeats):
        feed, line = feed_of(snapshot)
        for clock, (one, count) in enumerate(zip(diffs, times, strict=False), 10):
            for _ in range(count):
                feed.receive(line, one, clock * MS)
        books.append((feed.tracks["BTCUSDT"].book.digest(), feed.tracks["BTCUSDT"].applied))
    assert books[0] == books[1]


def test_the_ring_forgets_the_oldest_and_says_so():
    snapshot, diffs, _ = history(3, events=6000, window=4)
    feed, line = feed_of(snapshot)
    for clock, one in enumerate(diffs, 10):
        feed.receive(line, one, clock * MS)
    track = feed.tracks["BTCUSDT"]
    assert len(diffs) > 1100
    assert track.proof == {"match": 0, "mismatch": 0, "unjudged": len(diffs) - 1024}
    feed.finish(0)
    assert track.proof["unjudged"] == len(diffs)


def test_a_lost_line_takes_its_testimony_with_it():
    snapshot, diffs, tickers = history(4)
    feed, line = feed_of(snapshot)
    for one in diffs:
        feed.receive(line, one, 10)
    feed.lost(line, 20)
    feed.receive(feed.open_line("two", ["btcusdt@depth@100ms"], 30), tickers[-1], 40)
    assert feed.tracks["BTCUSDT"].proof == {"match": 0, "mismatch": 0, "unjudged": len(diffs)}
