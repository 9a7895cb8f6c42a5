"""mdfeed._valve and mdfeed._recent: what an outbox in between lets through, and what one keeps."""

from __future__ import annotations

import json

import pytest

from mdfeed._encode import Collector, Market
from mdfeed._recent import Recent
from mdfeed._valve import Valve

BTC, ETH = Market("BTCUSDT", 0, 2, 3), Market("ETHUSDT", 70, 1, 1)


def say_everything(valve: Valve, market: Market, at_ns: int) -> None:
    valve.put_book(market, [(100, 1)], [(200, 2)], recv_ns=at_ns)
    valve.put_trade(market, 1, 150, 3, recv_ns=at_ns)
    valve.put_bbo(market, 1, (100, 1), (200, 2), recv_ns=at_ns)
    valve.put_state(market, "LIVE", "synced", now_ns=at_ns)
    valve.withdraw(market)
    valve.put_event(b'{"kind":"x"}')


def test_shut_until_opened_and_only_for_the_symbol_and_the_time() -> None:
    out = Collector()
    valve = Valve(out)
    say_everything(valve, BTC, 10)
    assert len(out) == 0
    assert valve.held_back == 6
    assert out.dropped["no_lease"] == 9  # payloads: three of a book, two of a trade
    valve.open(70, 1_000)
    say_everything(valve, ETH, 999)
    kinds = [(kind, symbol) for kind, symbol, _ in out.take()]
    assert {symbol for _, symbol in kinds} == {"ETHUSDT", ""}
    assert {kind for kind, _ in kinds} == {
        *("market_data", "orderbook", "book", "trades", "trades_stream", "bbo", "state", "withdraw", "events"),
    }
    say_everything(valve, ETH, 1_000)
    assert [kind for kind, _, _ in out.take()] == ["events"]
    say_everything(valve, BTC, 500)
    assert [kind for kind, _, _ in out.take()] == ["events"]
    valve.shut(70)
    say_everything(valve, ETH, 500)
    assert len(out) == 0
    assert not valve.is_open(70)


def seqs(out: Collector) -> list[tuple[str, int]]:
    return [(kind, json.loads(payload)["seq"]) for kind, _, payload in out.take()]


def test_what_was_said_before_the_first_lease_takes_no_number() -> None:
    """A consumer would take the skip for a loss. What a lost lease has cost is one, for it was published before."""
    out = Collector(outputs=("book", "bbo"))
    valve = Valve(out)

    def say(*numbers: int) -> None:
        for seq in numbers:
            valve.put_book(ETH, [(100, 1)], [(200, 2)], seq=seq, recv_ns=1)
            valve.put_bbo(ETH, seq, (100, 1), (200, 2), seq=seq, recv_ns=1)

    say(1, 2, 3)
    valve.open(70, 1_000)
    say(4)
    assert seqs(out) == [("book", 1), ("bbo", 1)]
    valve.shut(70)
    say(5)
    valve.open(70, 1_000)
    say(6)
    assert seqs(out) == [("book", 3), ("bbo", 3)]
    valve.begin(70)  # removed and added again
    assert not valve.is_open(70)
    say(7, 8)
    assert out.take() == []
    valve.open(70, 1_000)
    say(9, 10)
    assert seqs(out) == [("book", 4), ("bbo", 4), ("book", 5), ("bbo", 5)]
    valve.begin(5_000)


def test_shut_all_and_arguments() -> None:
    out = Collector()
    valve = Valve(out)
    for index in (0, 70, 70):
        valve.open(index, 1_000)
    valve.shut_all()
    say_everything(valve, BTC, 1)
    assert len(out) == 0
    valve.shut(5_000)
    assert not valve.is_open(-1)
    for index, until_ns in ((-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="positive"):
            valve.open(index, until_ns)


def test_the_newest_trades_are_kept_exactly_and_no_more() -> None:
    recent = Recent()
    assert recent.trades(0) == []
    assert set(recent.figures(0).values()) == {None}
    for number in range(250):
        recent.put_trade(
            BTC, number, 10_000 + number, 5 * number, is_buyer_maker=number % 2 == 0, ts_event=7, recv_ns=8
        )
    trades = recent.trades(0)
    assert [trade["trade_id"] for trade in trades] == list(range(249, 149, -1))
    assert trades[0] == {
        "trade_id": 249, "price": "102.49", "qty": "1.245", "is_buyer_maker": False, "ts_event": 7, "recv_ns": 8,
    }  # fmt: skip
    assert recent.trades(70) == recent.trades(-1) == recent.trades(10_000) == []


def test_figures_are_those_of_the_newest_book() -> None:
    recent = Recent()
    day = (90_000, 110_000, 80_000, 123_456, 1 << 70, 77)
    recent.put_book(BTC, [(100, 1)], [(200, 2)], last_price=100_050, day=day)
    assert recent.figures(0) == {
        "last_price": "1000.5",
        "open_24h": "900",
        "high_24h": "1100",
        "low_24h": "800",
        "volume_24h": "123.456",
        "quote_volume_24h": "11805916207174113.03424",
        "trade_count_24h": 77,
    }
    recent.put_book(BTC, [(100, 1)], [(200, 2)])
    assert set(recent.figures(0).values()) == {None}
