"""The comparer of the fault matrix can fail: each kind of lie is found, in each output, and the truth passes."""

from __future__ import annotations

import json
import re

import pytest

from tests.virtual import World


def said_by(world: World, seconds: float = 3.0) -> list[tuple[str, str, bytes]]:
    """What was published in `seconds`, not judged yet."""
    said: list[tuple[str, str, bytes]] = []
    world.check = lambda: said.extend(world.collector.take())
    world.run(seconds)
    return said


@pytest.fixture(scope="module")
def published():
    world = World(("BTCUSDT", "SYM001USDT"))
    world.run(4)
    world.check()
    return world, said_by(world)


def fresh(world: World) -> World:
    """Judges by the same market, and has seen nothing yet."""
    world.comparer = type(world.comparer)(world.market, is_whole=False)
    return world


def worse_level(side: str, place: int):
    """One level of one side has a quantity of its own."""

    def lie(text: str) -> str:
        book = json.loads(text, parse_float=str)
        rows = book[side]
        if isinstance(rows, dict):
            price = list(rows)[place]
            return text.replace(f'"{price}":{rows[price]}', f'"{price}":{rows[price]}1', 1)
        price, qty = rows[place]
        return text.replace(f'["{price}","{qty}"]', f'["{price}","{qty}1"]', 1)

    return lie


def missing_level(side: str, place: int):
    """One level of one side is left out: what follows moves up."""

    def lie(text: str) -> str:
        book = json.loads(text, parse_float=str)
        rows = book[side]
        if isinstance(rows, dict):
            price = list(rows)[place]
            return text.replace(f'"{price}":{rows[price]},', "", 1)
        return text.replace(f'["{rows[place][0]}","{rows[place][1]}"],', "", 1)

    return lie


def of_another_id(text: str) -> str:
    """Levels of one update under the id of another, long before."""
    return re.sub(r'"(last_update_id|update_id)":(\d+)', lambda found: f'"{found[1]}":{int(found[2]) - 3000}', text)


def never_said(text: str) -> str:
    return re.sub(r'"(last_update_id|update_id)":\d+', r'"\1":123', text)


LIES = [
    *(("orderbook", worse_level(side, place)) for side in ("bids", "asks") for place in (0, 7, 19)),
    *(("orderbook", missing_level(side, place)) for side in ("bids", "asks") for place in (5, 12)),
    ("orderbook", of_another_id),
    ("orderbook", never_said),
    ("orderbook", lambda text: re.sub(r'"bids":\{[^}]*\}', '"bids":{}', text)),
    *(("book", worse_level(side, place)) for side in ("bids", "asks") for place in (0, 7, 19)),
    *(("book", missing_level(side, place)) for side in ("bids", "asks") for place in (5, 12)),
    ("book", of_another_id),
    ("book", never_said),
    ("market_data", lambda text: re.sub(r'"bid_price":(\d+)', r'"bid_price":1\1', text)),
    ("market_data", lambda text: re.sub(r'"ask_price":[0-9.]+', '"ask_price":null', text)),
    ("market_data", of_another_id),
    ("bbo", lambda text: re.sub(r'"bid":\["(\d+)', r'"bid":["1\1', text)),
    ("bbo", lambda text: re.sub(r'"ask":\["([0-9.]+)","', r'"ask":["\1","1', text)),
    ("bbo", lambda text: re.sub(r'"ask":\[[^]]*\]', '"ask":null', text)),
    ("bbo", never_said),
    ("trades", lambda text: re.sub(r'"price":', '"price":1', text)),
    ("trades", lambda text: re.sub(r'"quantity":', '"quantity":1', text)),
    ("trades", lambda text: text.replace("true}", "x}").replace("false}", "true}").replace("x}", "false}")),
    ("trades", lambda text: re.sub(r'"timestamp":(\d)', r'"timestamp":\g<1>1', text)),
    ("trades", lambda text: re.sub(r'"trade_id":\d+', '"trade_id":12', text)),
    ("trades_stream", lambda text: re.sub(r'"qty":"', '"qty":"1', text)),
    ("trades_stream", lambda text: re.sub(r'"trade_id":\d+', '"trade_id":12', text)),
]


@pytest.mark.parametrize(("kind", "lie"), LIES)
def test_a_lie_is_found(published, kind, lie):
    world, said = published
    comparer = fresh(world).comparer
    symbol, payload = next((symbol, payload) for one, symbol, payload in reversed(said) if one == kind)
    false = lie(payload.decode()).encode()
    assert false != payload
    assert not comparer.take(kind, symbol, false)
    assert len(comparer.wrong) == 1
    assert fresh(world).comparer.take(kind, symbol, payload), "what was published is true"


@pytest.mark.parametrize("kind", ["trades", "trades_stream", "book", "bbo"])
def test_what_comes_twice_is_found(published, kind):
    world, said = published
    comparer = fresh(world).comparer
    symbol, payload = next((symbol, payload) for one, symbol, payload in said if one == kind)
    assert comparer.take(kind, symbol, payload)
    assert not comparer.take(kind, symbol, payload)


def test_holes_are_counted_and_what_fills_them_is_no_second_time(published):
    world, said = published
    comparer = fresh(world).comparer
    trades = [payload for kind, symbol, payload in said if (kind, symbol) == ("trades", "BTCUSDT")][:9]
    for place in (0, 1, 5, 8):
        assert comparer.take("trades", "BTCUSDT", trades[place])
    assert comparer.trades_missing() == 5
    assert comparer.take("trades", "BTCUSDT", trades[3])
    assert comparer.trades_missing() == 4
    assert not comparer.take("trades", "BTCUSDT", trades[3])


def test_a_publication_that_went_missing_is_found_where_nothing_may():
    world = World()
    world.run(4)
    said = said_by(world)
    books = [payload for kind, _, payload in said if kind == "book"]
    assert world.comparer.take("book", "BTCUSDT", books[0])
    assert not world.comparer.take("book", "BTCUSDT", books[2])


def test_the_last_price_is_that_of_the_last_trade():
    world = World(rate=200)
    world.run(4)
    said = said_by(world)
    place = next(place for place, one in enumerate(said) if one[0] == "trades" and place > 50)
    assert not [one for one in said[: place + 1] if not world.comparer.take(*one)]
    kind, symbol, payload = next(one for one in said[place:] if one[0] == "market_data")
    assert not world.comparer.take(kind, symbol, re.sub(rb'"last_price":', b'"last_price":1', payload))
