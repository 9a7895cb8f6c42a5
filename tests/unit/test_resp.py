import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed._encode import CHANNELS, Collector, Encoder, Market
from mdfeed._resp import RespOutbox

BTC_INDEX, ETH_INDEX = 70, 0
BTC = Market("BTCUSDT", BTC_INDEX, 2, 3)
ETH = Market("ETHUSDT", ETH_INDEX, 2, 3)
NOTHING = {"orderbook": 0, "trade": 0}
NOW = 1767319384678901234
SECOND = 1_000_000_000


def commands(outbox: RespOutbox) -> list[list[bytes]]:
    expected = outbox.pending_commands
    reader = hiredis.Reader()
    reader.feed(outbox.take())
    read = []
    while (command := reader.gets()) is not False:
        read.append(command)
    assert len(read) == expected
    assert outbox.pending_commands == outbox.pending_bytes == 0
    return read


def say_all(outbox: Encoder) -> None:
    for market in (BTC, ETH):
        outbox.put_state(market, "LIVE", "joined", since_ns=NOW, now_ns=NOW)
        outbox.put_book(market, [(6180020, 2507)], [(6180030, 5)], seq=1, last_id=9, recv_ns=NOW)
        outbox.put_trade(market, 5, 6180020, 12, ts_event=NOW, recv_ns=NOW)
        outbox.put_bbo(market, 9, (6180020, 2507), (6180030, 5), recv_ns=NOW)
        outbox.withdraw(market)
    outbox.put_event(b'{"event":"start"}')


def test_each_payload_becomes_its_commands_set_before_publish() -> None:
    outbox, collector = RespOutbox(None, epoch=7), Collector(epoch=7)
    say_all(outbox)
    say_all(collector)
    expected: list[list[bytes]] = []
    for kind, symbol, payload in collector.take():
        channel = (CHANNELS[kind] + symbol).encode()
        if kind in ("market_data", "state", "book"):
            expected.append([b"SET", channel, payload, b"EX", b"300"])
        if kind in ("trades_stream", "events"):
            expected.append([b"XADD", channel, b"MAXLEN", b"~", b"10000", b"*", b"data", payload])
        elif kind == "withdraw":
            expected.append([b"DEL", channel, b"mdfeed:book:" + symbol.encode()])
        else:
            expected.append([b"PUBLISH", channel, payload])
    assert commands(outbox) == expected
    assert outbox.published == collector.published


def test_options_reach_the_commands() -> None:
    outbox = RespOutbox(None, epoch=1, trades_maxlen=5, events_maxlen=6, expire_s=7)
    outbox.put_trade(BTC, 1, 1, 1)
    outbox.put_event(b"{}")
    outbox.put_state(BTC, "COLD")
    read = commands(outbox)
    assert read[1][2:5] == [b"MAXLEN", b"~", b"5"]
    assert read[2][2:5] == [b"MAXLEN", b"~", b"6"]
    assert read[3][3:] == [b"EX", b"7"]


@pytest.mark.parametrize("option", ["trades_maxlen", "events_maxlen", "expire_s", "max_pending_bytes"])
def test_nothing_is_unbounded(option: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RespOutbox(None, epoch=1, **{option: 0})


@given(
    limit=st.integers(600, 20_000),
    said=st.lists(st.sampled_from(["book", "trade", "state", "event", "withdraw"]), max_size=40),
)
def test_a_full_buffer_drops_whole_payloads_only(limit: int, said: list[str]) -> None:
    outbox = RespOutbox(None, epoch=1, max_pending_bytes=limit)
    refused = 0
    for what in said:
        try:
            if what == "book":
                outbox.put_book(BTC, [(i + 1, 5) for i in range(20)], [(i + 99, 5) for i in range(20)])
            elif what == "trade":
                outbox.put_trade(BTC, 1, 1, 1)
            elif what == "state":
                outbox.put_state(BTC, "LIVE")
            elif what == "event":
                outbox.put_event(b'{"event":"' + b"x" * 500 + b'"}')
            else:
                outbox.withdraw(BTC)
        except MemoryError:
            refused += 1
    assert outbox.pending_bytes <= limit
    assert (outbox.dropped["full"] > 0) == (refused > 0)
    read = commands(outbox)
    sets = [(command[1], command[2]) for command in read if command[0] == b"SET"]
    publishes = [(command[1], command[2]) for command in read if command[0] == b"PUBLISH"]
    assert all(pair in publishes for pair in sets)
    per_kind = {"market_data": 2, "state": 2, "book": 2}
    assert sum(per_kind.get(kind, 1) * n for kind, n in outbox.published.items()) == len(read)


def test_an_unchanged_state_is_kept_alive_by_its_books() -> None:
    outbox = RespOutbox(None, epoch=1, outputs=["state", "orderbook"])
    outbox.put_state(BTC, "LIVE", "joined")
    (_, _, state, *_), _ = commands(outbox)
    seen = []
    for second in (0, 59, 61, 62, 125, 30):
        outbox.put_book(BTC, [(1, 1)], [(2, 1)], recv_ns=NOW + second * SECOND)
        seen.append([command[:3] for command in commands(outbox) if command[0] == b"SET"])
    again = [[b"SET", b"mdfeed:state:BTCUSDT", state]]
    assert seen == [[], [], again, [], again, again]


def test_a_state_that_may_have_changed_unseen_is_not_set_again() -> None:
    outbox = RespOutbox(None, epoch=1, outputs=["state"])
    outbox.put_state(BTC, "LIVE", "joined")
    outbox.put_book(BTC, [(1, 1)], [(2, 1)], recv_ns=NOW)
    outbox.take()
    outbox.close("disconnected")
    outbox.put_state(BTC, "SUSPECT", "gap")
    outbox.open()
    outbox.put_book(BTC, [(1, 1)], [(2, 1)], recv_ns=NOW + 100 * SECOND)
    assert commands(outbox) == []


def test_a_large_burst_leaves_as_one_piece_and_the_buffer_works_on() -> None:
    outbox = RespOutbox(None, epoch=1, outputs=["trades"])
    for trade_id in range(60_000):
        outbox.put_trade(BTC, trade_id, 1, 1)
    assert outbox.pending_bytes > 8 << 20
    assert len(commands(outbox)) == 60_000
    outbox.put_trade(BTC, 1, 1, 1)
    assert len(commands(outbox)) == 1


def test_what_was_published_of_an_instrument_is_counted_unless_it_was_dropped() -> None:
    outbox = RespOutbox(None, epoch=1)
    assert outbox.published_of(BTC_INDEX) == outbox.published_of(77) == outbox.published_of(-1) == NOTHING
    for _ in range(3):
        outbox.put_book(BTC, [(6180020, 2507)], [(6180030, 5)])
    outbox.put_trade(BTC, 5, 6180020, 12)
    outbox.close("slow")
    outbox.put_trade(BTC, 6, 6180020, 12)
    assert outbox.published_of(BTC_INDEX) == {"orderbook": 3, "trade": 1}
    assert outbox.published_of(ETH_INDEX) == NOTHING
