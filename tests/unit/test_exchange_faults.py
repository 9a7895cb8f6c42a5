"""Faults one by one, without a feed: windows, what becomes of frames, and a truth that stays askable."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

import pytest

from mdfeed.exchange import garbling, refusing
from mdfeed.exchange.faults import Answer, Asked
from mdfeed.exchange.market import START_NS, Market
from mdfeed.exchange.script import Fault, Script
from mdfeed.exchange.spec import parse

S = 10**9
FRAME = (
    b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":7,"s":"BTCUSDT","b":"1.0","B":"2","a":"1.1","A":"3"}}'
)


@dataclass(eq=False)
class Wire:
    path: str = "/public/stream"
    done: list = field(default_factory=list)

    def write(self, data):
        self.done.append(("write", data))

    def close(self, code, reason):
        self.done.append(("close", code, reason))

    def abort(self):
        self.done.append(("abort",))

    def say(self, text):
        self.done.append(("say", text))

    def freeze(self):
        self.done.append(("freeze",))

    def mute_pongs(self):
        self.done.append(("mute",))


def at(fault: Fault, seconds: float, source: object = None) -> None:
    fault.step(START_NS + round(seconds * S), source)


def test_a_window_opens_closes_and_opens_again():
    fault = garbling.Drop(at_s=2, for_s=1, every_s=10)
    seen = []
    for tenth in range(250):
        at(fault, tenth / 10)
        seen.append(fault.is_on)
    assert [i for i in range(1, 250) if seen[i] != seen[i - 1]] == [20, 30, 120, 130, 220, 230]
    assert not fault.is_over


def test_what_happens_at_a_moment_happens_however_coarse_the_steps_are():
    script, wire = Script(), Wire()
    script.opened(wire)
    fault = parse("close:code=1008,reason=x,at=10s")
    script.add(fault)
    for second in (0, 7, 14, 21):
        script.step(START_NS + second * S, None)
    assert wire.done == [("close", 1008, "x")]
    assert fault.is_over


def test_a_path_chooses_the_connections():
    script, public, market = Script([parse("reset:path=/public*")]), Wire(), Wire("/market/stream")
    script.opened(public)
    script.opened(market)
    script.step(START_NS, None)
    assert (public.done, market.done) == ([("abort",)], [])


def test_a_shutdown_is_announced_and_comes():
    script, wire = Script([parse("shutdown:grace=2s")]), Wire()
    script.opened(wire)
    script.step(START_NS, None)
    assert json.loads(wire.done[0][1])["e"] == "serverShutdown"
    script.step(START_NS + 2 * S, None)
    assert wire.done[1][:2] == ("close", 1001)


def test_what_was_held_back_is_never_overtaken():
    fault, wire, draw = garbling.Delay(by_s=0.3, jitter_s=0.4, for_s=1.0), Wire(), random.Random(2)
    arrivals, now_s = [], 0.0
    for number in range(400):
        now_s += draw.random() * 0.01
        at(fault, now_s)
        for delay_s, text in fault.frame(wire, "a@depth", b"%d" % number):
            arrivals.append((now_s + delay_s, int(text)))
    assert len(arrivals) == 400
    assert [number for _, number in sorted(arrivals)] == list(range(400))
    assert arrivals[-1][0] == now_s


def test_reordered_frames_all_come():
    fault, wire = garbling.Reorder(share=0.5, for_s=1.0), Wire()
    came = []
    for number in range(100):
        at(fault, number / 50)
        came += [int(text) for _, text in fault.frame(wire, "a@depth", b"%d" % number)]
    assert sorted(came) == list(range(100))
    assert came != sorted(came)
    assert came[60:] == list(range(60, 100))


@pytest.mark.parametrize("name", ["strange", "meaning"])
def test_changed_frames_are_json_of_the_same_stream(name):
    fault, wire = parse(name), Wire()
    at(fault, 0)
    texts = [json.loads(text) for _, text in fault.frame(wire, "btcusdt@bookTicker", FRAME)]
    data = texts[-1]["data"]
    assert texts[-1]["stream"] == "btcusdt@bookTicker"
    assert (data["b"], data["B"]) == ("1.0", "12" if name == "meaning" else "2")


def test_skew_moves_times_alone():
    fault = parse("skew:by=-10s")
    at(fault, 0)
    text = b'{"e":"trade","E":1700000010000,"T":1700000010001,"t":1700000010002,"p":"1700000010003"}'
    ((_, moved),) = fault.frame(Wire(), "x@trade", text)
    assert json.loads(moved) == {
        "e": "trade",
        "E": 1700000000000,
        "T": 1700000000001,
        "t": 1700000010002,
        "p": "1700000010003",
    }


# ---- the market's own


def ids_of(market: Market, until_s: float) -> list[tuple[int, int, int]]:
    said = [json.loads(frame)["data"] for _, _, frame in market.step(START_NS + round(until_s * S))]
    return [(one["pu"], one["U"], one["u"]) for one in said if one["e"] == "depthUpdate"]


def test_ids_start_over_and_the_truth_knows_both_pasts():
    market = Market(["BTCUSDT"], rate=100)
    market.want("btcusdt@depth@100ms")
    before = ids_of(market, 5)
    books = {last: market.book_at("BTCUSDT", last) for _, _, last in before}
    market.restart_ids()
    snapshot = json.loads(market.depth("BTCUSDT", 5))
    after = ids_of(market, 10)
    assert max(last for _, _, last in after) < min(prev for prev, _, _ in before)
    assert all(later[0] == earlier[2] for earlier, later in pairwise(after))
    assert after[0][0] <= snapshot["lastUpdateId"] < after[1][2]
    for last, book in books.items():
        assert market.book_at("BTCUSDT", last).bids == book.bids
    shown = market.book_at("BTCUSDT", snapshot["lastUpdateId"]).levels("bids", 5)
    assert [tuple(row) for row in snapshot["bids"]] == shown
    with pytest.raises(LookupError):
        market.book_at("BTCUSDT", 12)


def test_a_finer_tick_changes_texts_and_not_what_they_mean():
    market = Market(["BTCUSDT", "SYM001USDT"], rate=100)
    for symbol in market.symbols:
        market.want(f"{symbol.lower()}@depth@100ms")
        market.want(f"{symbol.lower()}@bookTicker")
    list(market.step(START_NS + 3 * S))
    for symbol in market.symbols:
        last_id = market.truth(symbol).last_id
        before = [(Decimal(p), Decimal(q)) for p, q in market.book_at(symbol, last_id).levels("bids")]
        digits = len(market.profile(symbol).tick_size.rstrip("0").partition(".")[2])
        market.refine(symbol)
        assert [(Decimal(p), Decimal(q)) for p, q in market.book_at(symbol, last_id).levels("bids")] == before
        assert len(market.profile(symbol).tick_size.rstrip("0").partition(".")[2]) == digits + 1
    fine = [json.loads(frame)["data"] for _, _, frame in market.step(START_NS + 8 * S)]
    prices = [row[0] for one in fine if one["e"] == "depthUpdate" and one["s"] == "BTCUSDT" for row in one["b"]]
    assert any(not price.endswith("0") for price in prices)


def test_a_delisted_symbol_is_gone_for_rest_and_silent():
    market = Market(["BTCUSDT", "ETHUSDT"], rate=100)
    market.want("btcusdt@depth@100ms")
    list(market.step(START_NS + S))
    market.delist("BTCUSDT")
    list(market.step(START_NS + 2 * S))
    assert market.symbols == ["ETHUSDT"]
    assert market.profile("BTCUSDT") is None
    assert list(market.step(START_NS + 5 * S)) == []


def test_stale_snapshots_are_exact_ones_of_the_past():
    market = Market(["BTCUSDT"], rate=100)
    market.want("btcusdt@depth@100ms")
    fault = refusing.Stale(age_s=2.0)
    for tenth in range(50):
        now_ns = START_NS + tenth * S // 10
        fault.step(now_ns, market)
        list(market.step(now_ns))
    asked = Asked("GET", "/fapi/v1/depth?symbol=BTCUSDT&limit=20", "x", False)
    body = json.loads(fault.answered(asked, Answer(200, market.depth("BTCUSDT", 20).encode())).body)
    assert body["lastUpdateId"] < json.loads(market.depth("BTCUSDT", 20))["lastUpdateId"]
    truth = market.book_at("BTCUSDT", body["lastUpdateId"])
    assert [tuple(row) for row in body["asks"]] == truth.levels("asks", 20)


def test_far_orders_are_in_the_book():
    market = Market(["BTCUSDT"], rate=100)
    list(market.step(START_NS + S))
    parse("far").step(START_NS + S, market)
    book = market.book_at("BTCUSDT", market.truth("BTCUSDT").last_id)
    assert min(book.bids) < 5
    assert max(book.asks) > 500 * min(book.asks)
