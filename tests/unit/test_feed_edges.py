"""Rare turns of one symbol's life, frame by frame: late answers, old snapshots, ids and digits that change."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mdfeed import venues
from mdfeed._encode import Collector
from mdfeed._feed import Feed
from mdfeed._resp import RespOutbox
from mdfeed._valve import Valve
from mdfeed.errors import DecodeError

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
S = 10**9
NOW = 1_767_000_000 * S
Rows = list[tuple[str, str]]
BIDS: Rows = [("100", "1"), ("99", "2")]
ASKS: Rows = [("101", "1"), ("102", "2")]


class Desk:
    """A feed of one symbol and what it says; every frame comes 0.1 s after the one before."""

    def __init__(self, symbol: str = "BTCUSDT", **options: Any) -> None:
        self.symbol, self.now_ns = symbol, NOW
        self.collector = Collector(epoch=1)
        self.feed = Feed(venues.get("binance-usdm"), outboxes=[self.collector], **options)
        self.feed.add(symbol)
        self.track = self.feed.tracks[symbol]
        self.line = self.open()

    def open(self) -> int:
        return self.feed.open_line("one", [f"{self.symbol.lower()}@depth@100ms"], self.now_ns)

    def frame(self, stream: str, line: int | None = None, **data: Any) -> None:
        self.now_ns += S // 10
        data.update(s=self.symbol, E=self.now_ns // 10**6)
        frame = {"stream": f"{self.symbol.lower()}@{stream}", "data": data}
        text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
        self.feed.receive(self.line if line is None else line, text.encode(), self.now_ns)

    def diff(self, prev_id: int, last_id: int, bids: Rows = (), asks: Rows = (), **more: Any) -> None:
        self.frame("depth@100ms", e="depthUpdate", U=prev_id + 1, u=last_id, pu=prev_id, b=bids, a=asks, **more)

    def ticker(self, update_id: int, bid: tuple[str, str], ask: tuple[str, str]) -> None:
        self.frame("bookTicker", e="bookTicker", u=update_id, b=bid[0], B=bid[1], a=ask[0], A=ask[1])

    def trade(self, trade_id: int, price: str, qty: str = "1") -> None:
        self.frame("aggTrade", e="aggTrade", a=trade_id, p=price, q=qty, T=self.now_ns // 10**6, m=True)

    def snapshot(self, last_id: int, bids: Rows = BIDS, asks: Rows = ASKS, limit: int = 1000) -> str:
        self.now_ns += S // 10
        body = json.dumps({"lastUpdateId": last_id, "bids": bids, "asks": asks})
        return self.feed.snapshot(self.symbol, "rest", limit, body.encode(), self.now_ns)

    def seat(self) -> None:
        """A good book at id 100."""
        self.diff(90, 100)
        assert self.snapshot(100) == "joined"

    def wait(self, seconds: float) -> None:
        """Ticks; nothing comes."""
        for _ in range(round(seconds * 4)):
            self.now_ns += S // 4
            self.feed.tick(self.now_ns)

    def said(self, output: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for kind, _, payload in self.collector.take() if kind == output]

    def wanted(self) -> list[tuple[str, int]]:
        return [(one.reason, one.limit) for one in self.feed.wanted(self.now_ns)]


@pytest.fixture
def desk() -> Desk:
    one = Desk()
    one.seat()
    return one


def test_a_quiet_symbol_is_good_again_soon_after_its_line_is_back(desk):
    desk.feed.lost(desk.line, desk.now_ns)
    assert (desk.track.state, desk.track.reason) == ("STALE", "line_lost")
    desk.wait(3)
    assert desk.wanted() == [], "no line yet: whatever a snapshot said would not last"
    desk.line = desk.open()
    desk.wait(2)
    assert desk.wanted() == [("line_lost", 5)]
    desk.feed.snapshot_requested(desk.symbol, desk.now_ns)
    assert desk.snapshot(100, limit=5) == "quiet"
    assert (desk.track.state, desk.track.reason) == ("LIVE", "quiet")


def test_a_quiet_symbol_that_has_missed_something_is_resynced(desk):
    desk.feed.lost(desk.line, desk.now_ns)
    desk.line = desk.open()
    desk.wait(2)
    assert desk.snapshot(104, limit=5) == "resync"
    assert (desk.track.state, desk.track.resyncs) == ("SUSPECT", {"line_lost": 1})


def test_a_check_that_is_answered_late_does_not_replace_a_deep_book(desk):
    desk.wait(8)
    assert desk.wanted() == [("silent", 5)]
    desk.feed.snapshot_requested(desk.symbol, desk.now_ns)
    desk.diff(100, 110, [("98", "5")])
    assert desk.snapshot(110, [("100", "1")], ASKS, limit=5) == "old"
    assert desk.track.book.count_of("bids") == 3
    desk.diff(110, 120)
    assert desk.track.book.count_of("bids") == 3


@pytest.mark.parametrize("limit", [5, 1000])
def test_a_check_is_a_check_whatever_the_limits_are(limit):
    desk = Desk(depth=1, first_limit=5, snapshot_limit=limit)
    desk.seat()
    desk.wait(8)
    assert desk.wanted() == [("silent", 5)]
    assert desk.snapshot(100, limit=5) == "quiet"
    assert desk.wanted() == []


def test_a_deep_snapshot_after_a_silence_is_no_check(desk):
    """As a capture may hold it."""
    desk.wait(8)
    assert desk.track.state == "STALE"
    assert desk.snapshot(110, [("100", "1")], ASKS, limit=400) == "shadow"
    desk.diff(100, 110, [("99", "0")])
    assert (desk.track.state, desk.track.resyncs, desk.track.book.last_id) == ("LIVE", {}, 110)


def test_a_withdrawn_key_is_set_at_once_when_a_quiet_book_is_good_again(desk):
    desk.wait(20)
    assert desk.track.state == "STALE"
    desk.collector.take()
    assert desk.snapshot(100, limit=5) == "quiet"
    desk.wait(0.5)
    assert [said["last_update_id"] for said in desk.said("market_data")] == [100]


def test_a_snapshot_older_than_what_the_line_has_shown_does_not_seat_a_book(desk):
    desk.diff(100, 110, [("101", "1")])
    assert (desk.track.state, desk.track.reason) == ("SUSPECT", "crossed")
    desk.collector.take()
    assert desk.snapshot(105) == "gap"
    assert desk.said("book") == []
    assert desk.snapshot(110) == "joined"
    assert [said["last_update_id"] for said in desk.said("book")] == [110]


def test_a_snapshot_that_the_held_diffs_contradict_does_not_seat_a_book():
    desk = Desk()
    desk.ticker(95, ("100", "1"), ("101", "1"))
    desk.diff(90, 100, [("98", "1")])
    desk.ticker(105, ("100", "1"), ("101", "1"))
    desk.collector.take()
    assert desk.snapshot(90, [("100.5", "9"), ("99", "2")]) == "joined"
    assert (desk.track.state, desk.track.reason) == ("SUSPECT", "proof_mismatch")
    assert desk.said("book") == []


def test_ids_that_start_over_while_a_snapshot_is_awaited_do_not_wait_for_ever():
    desk = Desk()
    desk.diff(5_000_000, 5_000_010)
    desk.diff(5_000_010, 5_000_020)
    desk.diff(3, 7)
    desk.diff(7, 9, [("98", "7")])
    assert desk.snapshot(5) == "joined"
    assert desk.track.book.last_id == 9


def test_ids_that_start_over_do_not_chain_by_chance(desk):
    desk.diff(70, 80)
    desk.diff(80, 90)
    desk.diff(90, 105, [("100", "0")])
    assert (desk.track.state, desk.track.reason, desk.track.book.last_id) == ("SUSPECT", "ids_restarted", 100)


def test_sequences_go_on_when_a_symbol_is_removed_and_added(desk):
    desk.ticker(101, ("100", "1"), ("101", "1"))
    last = desk.said("book")[-1]["seq"]
    desk.feed.remove(desk.symbol, desk.now_ns)
    desk.track = desk.feed.add(desk.symbol)
    desk.line = desk.open()
    desk.seat()
    assert [said["seq"] for said in desk.said("book")] == [last + 1]


def test_the_state_of_a_removed_symbol_is_said(desk):
    desk.collector.take()
    desk.feed.remove(desk.symbol, desk.now_ns)
    assert [(said["state"], said["reason"]) for said in desk.said("state")] == [("COLD", "removed")]


def test_the_best_prices_are_said_by_whichever_stream_shows_them_first(desk):
    desk.collector.take()
    desk.diff(100, 110, [("100", "0")])
    desk.ticker(108, ("99", "2"), ("101", "1"))
    desk.diff(110, 120, [("98", "3")])
    desk.ticker(121, ("99", "2"), ("101", "4"))
    said = desk.said("bbo")
    assert [(one["update_id"], one["bid"], one["ask"]) for one in said] == [
        (110, ["99", "2"], ["101", "1"]),
        (121, ["99", "2"], ["101", "4"]),
    ]
    assert said[1]["seq"] == said[0]["seq"] + 1


def test_digits_that_the_book_cannot_take_leave_its_shadow_alone(desk):
    desk.diff(100, 110, [], [("500000000000000000", "1")])
    desk.feed.snapshot_requested(desk.symbol, desk.now_ns)
    assert desk.snapshot(120) == "shadow"
    desk.ticker(111, ("99.25", "1"), ("101", "1"))
    assert desk.feed.decode_errors == {"overflow": 1}
    desk.collector.take()
    desk.diff(110, 120, [("98", "3")])
    desk.diff(120, 130, [("97", "4")])
    assert desk.said("book")[-1]["bids"] == [["100", "1"], ["99", "2"], ["97", "4"]]


def test_a_last_price_that_does_not_fit_new_digits_is_unknown_and_not_another():
    desk = Desk()
    desk.trade(1, "5000000000000000000")
    desk.diff(90, 100)
    assert desk.snapshot(100, [("100.25", "1")], [("100.5", "1")]) == "joined"
    assert desk.said("market_data")[-1]["last_price"] == 100.375
    desk.trade(2, "100.25")
    assert desk.track.trade_summary()["high"] == "100.25"


def test_a_depth_that_no_snapshot_doubles_does_not_ask_without_end():
    rows = [(str(50_000 - n), "1") for n in range(20)], [(str(50_001 + n), "1") for n in range(20)]
    desk = Desk(depth=20, snapshot_limit=20)
    desk.diff(90, 100)
    assert desk.snapshot(100, *rows, limit=20) == "joined"
    asked = 0
    for last_id in range(101, 301):
        desk.diff(last_id - 1, last_id)
        if desk.wanted():
            asked += 1
            desk.feed.snapshot_requested(desk.symbol, desk.now_ns)
            assert desk.snapshot(last_id, *rows, limit=20) == "swapped"
    assert 1 <= asked <= 4


def test_frames_without_times_have_no_delay(desk):
    for last_id in range(101, 121):
        frame = {"e": "depthUpdate", "s": desk.symbol, "U": last_id, "u": last_id, "pu": last_id - 1, "b": [], "a": []}
        desk.feed.receive(desk.line, json.dumps(frame).encode(), desk.now_ns)
    assert desk.track.book.last_id == 120
    assert abs(desk.feed.races["one"].delay_ns) < S


def test_a_symbol_need_not_be_ascii():
    desk = Desk("币安人生USDT")
    desk.seat()
    desk.diff(100, 110, [("98", "1")])
    assert [said["symbol"] for said in desk.said("orderbook")] == ["币安人生USDT"] * 2
    assert desk.track.applied == 1


def test_one_odd_fraction_does_not_keep_a_symbol_from_its_book_for_ever():
    desk = Desk()
    desk.trade(1, "1.000000000000000001")
    desk.diff(90, 100, [("61800.2", "1")])
    assert desk.feed.decode_errors == {"overflow": 1}
    with pytest.raises(DecodeError):
        desk.snapshot(100, [("61800.2", "1")], [("61800.3", "1")])
    desk.diff(100, 110, [("61800.1", "2")])
    assert desk.snapshot(105, [("61800.2", "1")], [("61800.3", "1")]) == "joined"
    assert desk.said("book")[-1]["bids"] == [["61800.2", "1"], ["61800.1", "2"]]
    desk.trade(2, "61800.25")
    assert desk.track.trade_summary()["last"] == "61800.25"


def test_a_sum_beyond_128_bits_is_unknown_and_not_another():
    desk = Desk()
    for trade_id in range(1, 5):
        desk.trade(trade_id, "8.123456789012345678", "9.123456789012345678")
    assert desk.track.trade_summary()["vwap"] is None
    assert desk.track.trade_summary()["qty"] == "36.493827156049382712"


def test_partial_depth_alone_survives_ids_that_start_over():
    desk = Desk()
    for last_id in (5000, 5010):
        desk.frame("depth20@100ms", e="depthUpdate", U=1, u=last_id, pu=1, b=BIDS, a=ASKS)
    desk.frame("depth20@100ms", e="depthUpdate", U=1, u=4990, pu=1, b=BIDS, a=ASKS)
    assert [said["last_update_id"] for said in desk.said("book")] == [5000, 5010]
    desk.now_ns += 2 * S
    desk.frame("depth20@100ms", e="depthUpdate", U=1, u=7, pu=1, b=BIDS, a=[("102", "1")])
    assert [(said["last_update_id"], said["asks"]) for said in desk.said("book")] == [(7, [["102", "1"]])]


def test_what_is_said_again_keeps_the_time_of_its_update(desk):
    desk.diff(100, 110, [("98", "5")])
    received_ns = desk.now_ns
    desk.collector.take()
    for _ in range(130):
        desk.wait(1)
        if desk.wanted() == [("silent", 5)]:
            assert desk.snapshot(110, limit=5) == "quiet"
    desk.feed.refresh(desk.collector, desk.now_ns)
    said = desk.collector.take()
    books = [json.loads(payload) for kind, _, payload in said if kind == "book"]
    assert len(books) >= 3
    assert {book["recv_ns"] for book in books} == {received_ns}
    assert {json.loads(payload)["timestamp"] for kind, _, payload in said if kind == "orderbook"} == {
        received_ns // 1000
    }
    prices = {json.loads(payload)["updated_at"] for kind, _, payload in said if kind == "market_data"}
    assert prices == {datetime.fromtimestamp(received_ns // 1000 / 1e6, UTC).isoformat(timespec="microseconds")}


def test_keys_of_a_quiet_symbol_live_on_and_its_lease_counts_by_the_clock(desk):
    resp, collector = RespOutbox(None, epoch=1, outputs=["state", "book"]), Collector(epoch=1)
    valve = Valve(collector)
    for outbox in (resp, valve):
        desk.feed.attach(outbox)
    valve.open(desk.feed.instruments.index(desk.symbol), desk.now_ns + 30 * S)
    for _ in range(165):
        desk.wait(1)
        if desk.wanted() == [("silent", 5)]:
            assert desk.snapshot(100, limit=5) == "quiet"
    resp.take()
    desk.wait(130)
    assert desk.track.reason == "quiet"
    assert resp.take().count(b"SET\r\n$20\r\nmdfeed:state:BTCUSDT") >= 1
    collector.take()
    desk.feed.refresh(valve, desk.now_ns)
    assert collector.take() == [], "the lease is over"


@pytest.mark.parametrize("ask", ["100", "99"])
def test_a_crossed_ticker_is_not_published_and_proves_nothing(desk, ask):
    desk.ticker(99, ("100", "1"), ("101", "1"))
    desk.collector.take()
    desk.diff(100, 110, [("100", "7")])
    desk.ticker(110, ("100", "7"), (ask, "1"))
    desk.ticker(115, ("100", "8"), ("101", "1"))
    assert [one["update_id"] for one in desk.said("bbo")] == [110, 115]
    assert (desk.track.crossed, desk.track.state) == (1, "LIVE")
    assert desk.track.proof == {"match": 0, "mismatch": 0, "unjudged": 1}
    desk.diff(110, 115, [("100", "8")])
    desk.ticker(120, ("100", "8"), ("101", "1"))
    assert desk.track.state == "PROVED"


def test_a_ticker_with_an_empty_side_is_not_crossed(desk):
    desk.collector.take()
    desk.ticker(110, ("100", "7"), ("0", "0"))
    assert [(one["bid"], one["ask"]) for one in desk.said("bbo")] == [(["100", "7"], None)]
    assert desk.track.crossed == 0
