import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed._encode import CHANNELS, KINDS, OUTPUTS, Collector, Encoder, Market, Outbox
from mdfeed._text import decimal_text

BTC = Market("BTCUSDT", 3, 2, 3)
BIDS = [(6180020, 2507), (6180000, 1000), (6179990, 30)]
ASKS = [(6180030, 5), (6200000, 1200)]
NOW = 1767319384678901234
DAY = (6000000, 6300000, 5900000, 123456789, 10**25, 77)


def collected(**said: Any) -> dict[str, bytes]:
    outbox = Collector(epoch=7)
    outbox.put_book(BTC, BIDS, ASKS, **{"recv_ns": NOW, "ts_event": NOW - 5, "last_id": 99, "seq": 4, **said})
    return {kind: payload for kind, _, payload in outbox.take()}


def test_market_data_is_byte_exact() -> None:
    assert collected(day=DAY, last_price=6180025)["market_data"] == (
        b'{"symbol":"BTCUSDT","last_price":61800.25,"bid_price":61800.2,"ask_price":61800.3,"volume_24h":123456.789,'
        b'"high_24h":63000.0,"low_24h":59000.0,"updated_at":"2026-01-02T02:03:04.678901+00:00","state":"LIVE",'
        b'"last_update_id":99,"seq":4,"quote_volume_24h":100000000000000000000.0,"open_24h":60000.0,'
        b'"change_24h":1800.25,"vwap_24h":810000007371000.067,"trades_24h":77}'
    )


def test_unknown_day_is_null_and_never_zero() -> None:
    payload = json.loads(collected()["market_data"])
    names = ("volume_24h", "high_24h", "low_24h", "quote_volume_24h", "open_24h", "change_24h", "vwap_24h")
    assert {payload[name] for name in (*names, "trades_24h")} == {None}


def test_volumes_beyond_64_bits_are_exact() -> None:
    volume = 123456789012345678901234567
    payload = json.loads(collected(day=(1, 2, 1, volume, 0, 1))["market_data"], parse_float=Decimal)
    assert payload["volume_24h"] == Decimal(volume) / 1000


def test_last_price_is_the_exact_mid_before_the_first_trade() -> None:
    assert b'"last_price":61800.25,' in collected()["market_data"]
    outbox = Collector(outputs=["market_data"])
    largest = (1 << 63) - 1
    outbox.put_book(Market("X", 0, 0, 0), [(largest - 1, 1)], [(largest, 1)])
    assert b'"last_price":9223372036854775806.5,' in outbox.take()[0][2]


def test_an_empty_side_has_no_price() -> None:
    outbox = Collector(outputs=["market_data", "orderbook", "book"])
    outbox.put_book(BTC, BIDS, [])
    market_data, orderbook, book = (json.loads(payload) for _, _, payload in outbox.take())
    assert market_data["ask_price"] is None
    assert market_data["last_price"] is None
    assert orderbook["asks"] == {}
    assert book["asks"] == []


def test_orderbook_is_byte_exact_and_ascends_on_both_sides() -> None:
    assert collected()["orderbook"] == (
        b'{"symbol":"BTCUSDT","bids":{"61799.9":0.03,"61800.0":1.0,"61800.2":2.507},'
        b'"asks":{"61800.3":0.005,"62000.0":1.2},"last_update_id":99,"timestamp":1767319384678901,"initialized":true}'
    )


def test_book_is_byte_exact_and_best_first() -> None:
    assert collected(state="PROVED", first_id=90)["book"] == (
        b'{"symbol":"BTCUSDT","epoch":7,"seq":4,"state":"PROVED","first_update_id":90,"last_update_id":99,'
        b'"ts_event":1767319384678901229,"recv_ns":1767319384678901234,"verified_levels":{"bids":3,"asks":2},'
        b'"bids":[["61800.2","2.507"],["61800","1"],["61799.9","0.03"]],"asks":[["61800.3","0.005"],["62000","1.2"]]}'
    )


def test_trades_go_to_channel_and_stream() -> None:
    outbox = Collector(epoch=7)
    outbox.put_trade(BTC, 5933014, 6180000, 12, is_buyer_maker=True, ts_event=NOW, recv_ns=NOW + 1)
    assert outbox.take() == [
        (
            "trades",
            "BTCUSDT",
            b'{"symbol":"BTCUSDT","trade_id":5933014,"price":61800.0,"quantity":0.012,"timestamp":1767319384678,'
            b'"is_buyer_maker":true}',
        ),
        (
            "trades_stream",
            "BTCUSDT",
            b'{"symbol":"BTCUSDT","epoch":7,"trade_id":5933014,"price":"61800","qty":"0.012","is_buyer_maker":true,'
            b'"ts_event":1767319384678901234,"recv_ns":1767319384678901235}',
        ),
    ]


def test_bbo_state_event_and_withdrawal() -> None:
    outbox = Collector(epoch=7)
    outbox.put_bbo(BTC, 12, (6180020, 12), (0, 0), seq=9, ts_event=1, recv_ns=2)
    outbox.put_state(BTC, "SUSPECT", "gap", since_ns=NOW, last_id=3, now_ns=NOW + 1)
    outbox.put_event(b'{"event":"gap"}')
    outbox.withdraw(BTC)
    assert outbox.take() == [
        (
            "bbo",
            "BTCUSDT",
            b'{"symbol":"BTCUSDT","epoch":7,"seq":9,"update_id":12,"bid":["61800.2","0.012"],"ask":null,'
            b'"ts_event":1,"recv_ns":2}',
        ),
        (
            "state",
            "BTCUSDT",
            b'{"symbol":"BTCUSDT","epoch":7,"state":"SUSPECT","reason":"gap",'
            b'"since":"2026-01-02T02:03:04.678901+00:00","since_ns":1767319384678901234,"last_update_id":3,'
            b'"recv_ns":1767319384678901235}',
        ),
        ("events", "", b'{"event":"gap"}'),
        ("withdraw", "BTCUSDT", b""),
    ]


LEVELS = st.lists(st.tuples(st.integers(1, (1 << 63) - 1), st.integers(1, (1 << 63) - 1)), max_size=60)


@given(bids=LEVELS, asks=LEVELS, digits=st.tuples(st.integers(0, 18), st.integers(0, 18)))
def test_every_level_is_read_back_exactly(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], digits: tuple[int, int]
) -> None:
    outbox = Collector(outputs=["orderbook", "book"])
    outbox.put_book(Market("币安人生USDT", 0, *digits), bids, asks)
    orderbook, book = (payload for _, _, payload in outbox.take())
    read = json.loads(book)
    assert read["symbol"] == "币安人生USDT"
    for side, levels in (("bids", bids), ("asks", asks)):
        assert read[side] == [[decimal_text(p, digits[0]), decimal_text(q, digits[1])] for p, q in levels]
    pairs = json.loads(orderbook, parse_float=str, object_pairs_hook=list)
    expected = [(decimal_text(p, digits[0], True), decimal_text(q, digits[1], True)) for p, q in reversed(bids)]
    assert [tuple(pair) for pair in dict(pairs)["bids"]] == expected
    expected = [(decimal_text(p, digits[0], True), decimal_text(q, digits[1], True)) for p, q in asks]
    assert [tuple(pair) for pair in dict(pairs)["asks"]] == expected


def test_only_wanted_outputs_are_encoded() -> None:
    outbox = Collector(outputs={"orderbook", "trades"})
    outbox.put_book(BTC, BIDS, ASKS)
    outbox.put_trade(BTC, 1, 1, 1)
    outbox.put_state(BTC, "LIVE")
    outbox.withdraw(BTC)
    assert [kind for kind, _, _ in outbox.take()] == ["orderbook", "trades"]
    assert outbox.outputs == {"orderbook", "trades"}
    assert {kind: n for kind, n in outbox.published.items() if n} == {"orderbook": 1, "trades": 1}


def test_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match="no such output: ticker"):
        Encoder(epoch=0, outputs=["ticker"])


def test_a_closed_outbox_drops_and_counts_by_reason() -> None:
    outbox = Collector()
    outbox.close("slow")
    assert not outbox.is_open
    outbox.put_book(BTC, BIDS, ASKS)
    outbox.close("disconnected")
    outbox.put_trade(BTC, 1, 1, 1)
    outbox.open()
    outbox.put_event(b"{}")
    assert [kind for kind, _, _ in outbox.take()] == ["events"]
    assert outbox.dropped == {"slow": 3, "disconnected": 2, "full": 0, "no_lease": 0}


def test_a_collector_keeps_the_newest() -> None:
    outbox = Collector(outputs=["trades"], maxlen=2)
    for trade_id in range(5):
        outbox.put_trade(BTC, trade_id, 1, 1)
    assert len(outbox) == 2
    assert [json.loads(payload)["trade_id"] for _, _, payload in outbox.take()] == [3, 4]
    assert outbox.dropped["full"] == 3
    assert outbox.take() == []


def test_the_base_outbox_takes_everything_and_keeps_nothing() -> None:
    outbox = Outbox()
    outbox.put_book(BTC, BIDS, ASKS)
    outbox.put_trade(BTC, 1, 1, 1)
    outbox.withdraw(BTC)


def test_every_kind_has_a_channel() -> None:
    assert set(CHANNELS) == set(KINDS) == {*OUTPUTS, "withdraw"}


@pytest.mark.parametrize("bad", [{"symbol": ""}, {"symbol": "X" * 40}, {"index": -1}, {"qty_digits": 19}])
def test_a_market_refuses_what_does_not_fit(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"symbol|digits"):
        Market(**{"symbol": "X", **bad})
