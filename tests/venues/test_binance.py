"""The venue's side that is not the wire: registry, plans of lines, requests, REST bodies."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import chain

import pytest

from mdfeed import venues
from mdfeed._parse import Instruments
from mdfeed.errors import ConfigError, DecodeError
from mdfeed.venues import Filters, LinePlan, TickerRow

USDM = venues.get("binance-usdm")
COINM = venues.get("binance-coinm")
SPOT = venues.get("binance-spot")
ALL = (USDM, COINM, SPOT)
SYMBOLS = [f"COIN{number}USDT" for number in range(130)]


def streams_of(plans: list[LinePlan]) -> list[str]:
    return list(chain.from_iterable((*plan.streams, *plan.late_streams) for plan in plans))


def test_venues_are_found_by_name() -> None:
    assert {"binance-coinm", "binance-spot", "binance-usdm"} <= set(venues.names())
    for name in venues.names():
        assert venues.get(name).name == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("binance-usd", "did you mean 'binance-usdm'?"),
        ("Binance-Spot", "binance-spot'?"),
        ("kraken", "known: binance-coinm"),
        ("", "known:"),
        ("os", "known:"),
    ],
)
def test_an_unknown_venue_is_a_config_error_that_helps(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="unknown venue") as caught:
        venues.get(name)
    assert hint in str(caught.value)


@pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)
def test_each_product_has_its_own_decoder(venue: venues.Venue) -> None:
    instruments = Instruments()
    instruments.add("BTCUSDT")
    frame = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 9, "u": 10, "pu": 3, "b": [], "a": []}
    found = venue.decoder(instruments).decode_frame(json.dumps(frame).encode())
    assert found["prev_id"] == (8 if venue is SPOT else 3)
    assert venue.mismatch_patience == (1 if venue is USDM else 2)


# Lines


@pytest.mark.parametrize(
    ("channel", "route"),
    [
        ("depth", "public"),
        ("depth@100ms", "public"),
        ("depth20@100ms", "public"),
        ("rpiDepth@500ms", "public"),
        ("bookTicker", "public"),
        ("!bookTicker", "public"),
        ("aggTrade", "market"),
        ("trade", "market"),
        ("ticker", "market"),
        ("markPrice@1s", "market"),
        ("kline_1m", "market"),
        ("forceOrder", "market"),
        ("!ticker@arr", "market"),
        ("!contractInfo", "market"),
        ("tradingSession", "market"),
    ],
)
def test_a_channel_has_a_route_on_usdm_only(channel: str, route: str) -> None:
    assert USDM.route(channel) == route
    assert USDM.other_route(route) == ({"public", "market"} - {route}).pop()
    assert (SPOT.route(channel), SPOT.other_route("")) == ("", None)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "wss://fstream.binance.com",
        "wss://fstream.binance.com/",
        "wss://fstream.binance.com/stream",
        "wss://fstream.binance.com/ws",
        "wss://fstream.binance.com/stream?streams=x",
        "wss://fstream.binance.com/public/stream",
    ],
)
def test_the_real_host_is_split_by_route_however_it_is_written(url: str | None) -> None:
    public, market = USDM.plan(["BTCUSDT"], USDM.default_channels, ws_url=url)
    assert public.url == "wss://fstream.binance.com/public/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker"
    assert market.url == "wss://fstream.binance.com/market/stream?streams=btcusdt@aggTrade/btcusdt@ticker"
    assert (public.name, public.route, market.name, market.route) == ("public-0", "public", "market-0", "market")
    assert public.streams == ("btcusdt@depth@100ms", "btcusdt@bookTicker")
    assert public.late_streams == ()


def test_another_host_is_used_as_it_is() -> None:
    base = "ws://127.0.0.1:9001/proxy"
    for routes in ("auto", "split"):
        plans = USDM.plan(["BTCUSDT"], ["depth", "aggTrade"], ws_url=f"{base}/stream", routes=routes)
        assert [plan.url for plan in plans] == [
            f"{base}/public/stream?streams=btcusdt@depth",
            f"{base}/market/stream?streams=btcusdt@aggTrade",
        ]
    (single,) = USDM.plan(["BTCUSDT"], ["depth", "aggTrade"], ws_url=base, routes="single")
    assert (single.url, single.route) == (f"{base}/stream?streams=btcusdt@depth/btcusdt@aggTrade", "")
    with pytest.raises(ValueError, match="auto, split or single"):
        USDM.plan(["BTCUSDT"], ["depth"], routes="both")


@pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)
@pytest.mark.parametrize("most", [2, 4, 7, 200, 1024])
def test_every_stream_is_planned_once_and_books_stay_whole(venue: venues.Venue, most: int) -> None:
    channels = (*venue.default_channels, "!bookTicker")
    routes = "auto" if most > 2 else "split"
    if most == 2 and venue is not USDM:
        with pytest.raises(ValueError, match="cannot hold"):
            venue.plan(SYMBOLS, channels, max_streams=most)
        return
    plans = venue.plan([*SYMBOLS, SYMBOLS[0]], channels, routes=routes, max_streams=most)
    planned = streams_of(plans)
    wanted = {venue.stream(symbol, channel) for symbol in SYMBOLS for channel in venue.default_channels}
    assert sorted(planned) == sorted({*wanted, "!bookTicker"})
    assert len({plan.name for plan in plans}) == len(plans)
    for plan in plans:
        streams = {*plan.streams, *plan.late_streams}
        assert len(streams) <= most
        assert len(f"GET {plan.url} HTTP/1.1\r\n".encode()) < 4096
        assert plan.url.endswith("streams=" + "/".join(plan.streams))
        for stream in streams:
            if stream.endswith("@depth@100ms"):
                assert stream.replace("@depth@100ms", "@bookTicker") in streams


def test_a_symbol_that_is_not_ascii_is_percent_encoded_in_urls() -> None:
    public, _ = USDM.plan(["币安人生USDT"], ["depth@100ms", "aggTrade"])
    coded = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9F"
    assert public.url == f"wss://fstream.binance.com/public/stream?streams={coded}usdt@depth@100ms"
    assert public.streams == ("币安人生usdt@depth@100ms",)
    assert USDM.depth_request("币安人生USDT", 5).path == f"/fapi/v1/depth?symbol={coded}USDT&limit=5"
    (plan,) = SPOT.plan(["币安人生USDT" + "A" * n for n in range(20)] * 4, ["depth@100ms", "bookTicker"])
    assert len(plan.url) < 4000


def test_what_does_not_fit_the_url_is_subscribed_by_modest_frames() -> None:
    (plan,) = SPOT.plan(SYMBOLS, ["depth@100ms", "bookTicker"], max_streams=1024)
    assert len(plan.streams) > 100
    assert len(plan.late_streams) > 50
    frames = [json.loads(frame) for frame in SPOT.subscribe_frames(plan.late_streams, first_id=7)]
    assert [frame["id"] for frame in frames] == list(range(7, 7 + len(frames)))
    assert {frame["method"] for frame in frames} == {"SUBSCRIBE"}
    assert tuple(chain.from_iterable(frame["params"] for frame in frames)) == plan.late_streams
    assert max(len(frame["params"]) for frame in frames) <= 50
    assert SPOT.subscribe_frames([]) == []


# REST


@pytest.mark.parametrize(
    ("venue", "limit", "path", "weight"),
    [
        (USDM, 5, "/fapi/v1/depth", 2),
        (USDM, 50, "/fapi/v1/depth", 2),
        (USDM, 100, "/fapi/v1/depth", 5),
        (USDM, 500, "/fapi/v1/depth", 10),
        (COINM, 1000, "/dapi/v1/depth", 20),
        (SPOT, 5000, "/api/v3/depth", 250),
    ],
)
def test_depth_requests_weigh_what_the_venue_says(venue: venues.Venue, limit: int, path: str, weight: int) -> None:
    request = venue.depth_request("btcusdt", limit)
    assert (request.path, request.weight) == (f"{path}?symbol=BTCUSDT&limit={limit}", weight)
    assert limit in venue.snapshot_limits


def test_the_other_requests() -> None:
    assert USDM.klines_request("BTCUSDT", "1m", 1440).weight == 10
    assert USDM.klines_request("BTCUSDT", "1m", 99, 5).path.endswith("interval=1m&limit=99&startTime=5")
    assert USDM.agg_trades_request("BTCUSDT", 17, 1000).path == "/fapi/v1/aggTrades?symbol=BTCUSDT&fromId=17&limit=1000"
    assert (USDM.time_request().path, SPOT.time_request().path) == ("/fapi/v1/time", "/api/v3/time")
    assert (COINM.exchange_info_request().path, COINM.exchange_info_request().weight) == ("/dapi/v1/exchangeInfo", 1)
    assert USDM.ticker_request("btcusdt").path == "/fapi/v1/ticker/24hr?symbol=BTCUSDT"
    for refused in (lambda: USDM.depth_request("BTCUSDT", 5000), lambda: USDM.klines_request("BTCUSDT", "1m", 1501)):
        with pytest.raises(ValueError, match=r"depth limits|at most"):
            refused()


def market(symbol: str, tick: str, step: str, status_key: str = "status") -> dict[str, object]:
    filters = [
        {"filterType": "LOT_SIZE", "stepSize": step},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "PRICE_FILTER", "tickSize": tick},
    ]
    return {"symbol": symbol, status_key: "TRADING", "pricePrecision": 8, "quantityPrecision": 8, "filters": filters}


def test_digits_come_from_tick_and_step_size_never_from_precision() -> None:
    body = {
        "timezone": "UTC",
        "symbols": [
            market("BTCUSDT", "0.10", "0.001"),
            market("SHIBUSDT", "0.00000100", "1.00"),
            market("ETHUSD_PERP", "100", "5", "contractStatus"),
        ],
    }
    found = USDM.parse_exchange_info(json.dumps(body).encode())
    assert found["BTCUSDT"] == Filters("BTCUSDT", 1, 3, "TRADING", Decimal("0.10"), Decimal("0.001"))
    assert {name: (row.price_digits, row.qty_digits) for name, row in found.items()} == {
        "BTCUSDT": (1, 3),
        "SHIBUSDT": (6, 0),
        "ETHUSD_PERP": (0, 0),
    }


@pytest.mark.parametrize("wrap", [lambda row: row, lambda row: [row]])
def test_a_ticker_row_is_exact(wrap: object) -> None:
    row = {
        "symbol": "BTCUSDT",
        "lastPrice": "61800.20",
        "openPrice": "61000",
        "highPrice": "62000.10",
        "lowPrice": "60000",
        "volume": "123456.789",
        "baseVolume": "7.1",
        "openTime": 1,
        "closeTime": 86_400_001,
        "count": 5,
    }
    text = json.dumps(wrap(row)).encode()  # type: ignore[operator]
    found = COINM.parse_ticker(text)
    assert found == TickerRow(
        Decimal("61800.20"),
        Decimal(61000),
        Decimal("62000.10"),
        Decimal(60000),
        Decimal("123456.789"),
        Decimal("7.1"),
        1_000_000,
        86_400_001_000_000,
        5,
    )
    assert USDM.parse_ticker(json.dumps(row | {"quoteVolume": "9.5"}).encode()).quote_volume == Decimal("9.5")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"5",
        b"{}",
        b'{"symbols":5}',
        b'{"symbols":[{}]}',
        b'{"symbols":[5]}',
        b'{"symbols":[{"symbol":"X","status":"T","filters":[{"filterType":"PRICE_FILTER"}]}]}',
        b'{"lastPrice":"x"}',
        b'{"code":-1,"msg":"x"}',
        b"\xff",
    ],
)
def test_a_body_that_is_something_else_is_a_decode_error(body: bytes) -> None:
    for parse in (USDM.parse_exchange_info, USDM.parse_ticker):
        with pytest.raises(DecodeError):
            parse(body)
