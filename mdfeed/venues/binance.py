"""Binance USD-M, COIN-M and Spot: endpoints, routes, weights, REST bodies.

Answers for everything of the family that is not the wire schema of frames (that is _binance_wire). Refuses to know:
who asks, when, and whether the weight allows it.

Read from the venue's documentation as of September 2026. USD-M traffic is split by channel since 2026-04-23: a
connection to the wrong route opens, and says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from mdfeed._parse import Decoder, Instruments
from mdfeed.errors import DecodeError
from mdfeed.venues import Filters, KlineRow, Request, TickerRow, TradeRow, Venue
from mdfeed.venues._binance_rehearsal import BinanceRehearsal
from mdfeed.venues._binance_wire import BinanceDecoder

# By channel; everything else is market data in the venue's words: aggTrade, markPrice, kline, ticker, forceOrder, the
# all-market arrays. `trade` is undocumented and its route disputed: Venue.other_route names the one to probe.
USDM_ROUTES = (
    ("depth", "public"),
    ("rpiDepth", "public"),
    ("bookTicker", "public"),
    ("!bookTicker", "public"),
    ("", "market"),
)

# (highest limit, weight) rows.
FUTURES_DEPTH = ((50, 2), (100, 5), (500, 10), (1000, 20))
SPOT_DEPTH = ((100, 5), (500, 25), (1000, 50), (5000, 250))
FUTURES_KLINES = ((99, 1), (499, 2), (1000, 5), (1500, 10))
SPOT_KLINES = ((1000, 2),)

MS = 1_000_000
MOST_MS = (1 << 62) // MS
PLACES_MOST = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Binance(Venue):
    """A product of the family."""

    product: str
    # Prefix of every REST path.
    api: str
    depth_weights: tuple[tuple[int, int], ...]
    klines_weights: tuple[tuple[int, int], ...]
    exchange_info_weight: int = 1
    ticker_weight: int = 1
    tickers_weight: int = 40
    agg_trades_weight: int = 20
    default_channels: tuple[str, ...] = ("depth@100ms", "bookTicker", "aggTrade", "ticker")
    partial_channel: str = "depth20@100ms"

    def decoder(self, instruments: Instruments) -> Decoder:
        return BinanceDecoder(instruments, self.product)

    def rehearsal(self) -> BinanceRehearsal:
        return BinanceRehearsal(self.product)

    def depth_request(self, symbol: str, limit: int) -> Request:
        """REST depth; `limit` is one of `snapshot_limits` (the venue refuses others)."""
        if limit not in self.snapshot_limits:
            raise ValueError(f"depth limits are {', '.join(map(str, self.snapshot_limits))}: {limit}")
        weight = _weight(self.depth_weights, limit)
        return Request.of(f"{self.api}/depth", weight, symbol=symbol.upper(), limit=limit)

    def exchange_info_request(self) -> Request:
        return Request.of(f"{self.api}/exchangeInfo", self.exchange_info_weight)

    def ticker_request(self, symbol: str) -> Request:
        return Request.of(f"{self.api}/ticker/24hr", self.ticker_weight, symbol=symbol.upper())

    def tickers_request(self) -> Request:
        """Of all symbols at once."""
        return Request.of(f"{self.api}/ticker/24hr", self.tickers_weight)

    def klines_request(self, symbol: str, interval: str, limit: int, start_ms: int | None = None) -> Request:
        """Candles from start_ms on, or the newest; futures give 1500 at most, Spot 1000."""
        weight = _weight(self.klines_weights, limit)
        path = f"{self.api}/klines"
        return Request.of(path, weight, symbol=symbol.upper(), interval=interval, limit=limit, startTime=start_ms)

    @property
    def klines_most(self) -> int:
        return self.klines_weights[-1][0]

    def agg_trades_request(self, symbol: str, from_id: int, limit: int) -> Request:
        """Aggregate trades from an id on, at most 1000."""
        path = f"{self.api}/aggTrades"
        return Request.of(path, self.agg_trades_weight, symbol=symbol.upper(), fromId=from_id, limit=limit)

    def time_request(self) -> Request:
        return Request.of(f"{self.api}/time", 1)

    def parse_time(self, body: bytes) -> int:
        """The venue's UTC ns, cut to milliseconds."""
        try:
            return int(_parse(body)["serverTime"]) * MS
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"time: {error!r}", body) from error

    def parse_exchange_info(self, body: bytes) -> dict[str, Filters]:
        """Filters by symbol. Digits come from tickSize and stepSize: pricePrecision is something else."""
        markets = _parse(body).get("symbols")
        try:
            return {found.symbol: found for found in (_filters(market) for market in markets)}  # type: ignore[union-attr]
        except (KeyError, TypeError, AttributeError, InvalidOperation) as error:
            raise DecodeError(f"exchangeInfo: {error!r}", body) from error

    def parse_ticker(self, body: bytes) -> TickerRow:
        """`ticker/24hr` of one symbol; COIN-M answers with a list of one."""
        row = _parse(body)
        try:
            return _ticker(row)
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise DecodeError(f"ticker/24hr: {error!r}", body) from error

    def parse_tickers(self, body: bytes, symbols: Collection[str]) -> dict[str, TickerRow]:
        """`ticker/24hr` of all symbols: the rows of those asked for, as far as it has them."""
        try:
            return {row["symbol"]: _ticker(row) for row in _parse_list(body) if row["symbol"] in symbols}
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise DecodeError(f"ticker/24hr: {error!r}", body) from error

    def parse_klines(self, body: bytes) -> Iterator[KlineRow]:
        """`klines`, ascending; the last is of the minute under way."""
        # COIN-M counts contracts in column 5 and the base asset in 7, as its ticker does.
        try:
            for row in _parse_list(body):
                yield KlineRow(
                    open_ts=_whole(row[0], MOST_MS) * MS,
                    open=_plain(row[1]),
                    high=_plain(row[2]),
                    low=_plain(row[3]),
                    close=_plain(row[4]),
                    volume=_plain(row[5]),
                    quote_volume=_plain(row[7]),
                    count=_whole(row[8]),
                )
        except (KeyError, IndexError, TypeError, ValueError, InvalidOperation) as error:
            raise DecodeError(f"klines: {error!r}", body) from error

    def parse_agg_trades(self, body: bytes) -> list[TradeRow]:
        """`aggTrades`, ascending."""
        try:
            return [
                TradeRow(
                    trade_id=_whole(row["a"]),
                    price=_plain(row["p"]),
                    qty=_plain(row["q"]),
                    ts_trade=_whole(row["T"], MOST_MS) * MS,
                    is_buyer_maker=bool(row["m"]),
                    fills=_whole(row["l"]) - _whole(row["f"]) + 1,
                )
                for row in _parse_list(body)
            ]
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise DecodeError(f"aggTrades: {error!r}", body) from error


def _weight(rows: tuple[tuple[int, int], ...], limit: int) -> int:
    for highest, weight in rows:
        if limit <= highest:
            return weight
    raise ValueError(f"the venue gives {rows[-1][0]} rows at most: {limit}")


def _ticker(row: Mapping[str, Any]) -> TickerRow:
    return TickerRow(
        last=_plain(row["lastPrice"]),
        open=_plain(row["openPrice"]),
        high=_plain(row["highPrice"]),
        low=_plain(row["lowPrice"]),
        volume=_plain(row["volume"]),
        # COIN-M counts contracts in `volume`; its other figure is in the base asset.
        quote_volume=_plain(row["quoteVolume"] if "quoteVolume" in row else row["baseVolume"]),
        open_ts=_whole(row["openTime"], MOST_MS) * MS,
        close_ts=_whole(row["closeTime"], MOST_MS) * MS,
        count=_whole(row["count"]),
    )


def _plain(text: Any) -> Decimal:
    """A number that some digits can write: no NaN, no infinity, no power that would fill the memory."""
    value = Decimal(text)
    if not value.is_finite() or not -PLACES_MOST <= value.adjusted() <= PLACES_MOST:
        raise ValueError(f"{str(text)[:40]!r} is no price or quantity")
    return value


def _whole(value: Any, most: int = 1 << 62) -> int:
    number = int(value)
    if not -1 <= number <= most:
        raise ValueError(f"{str(value)[:40]!r} is no time, id or count")
    return number


def _parse(body: bytes) -> Mapping[str, Any]:
    """A REST body as a lazy object; the only row of a list of one."""
    import simdjson

    try:
        parsed = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError) as error:
        raise DecodeError(f"REST body: {error}", body) from error
    if isinstance(parsed, simdjson.Array) and len(parsed) == 1:
        parsed = parsed[0]
    if not isinstance(parsed, simdjson.Object):
        raise DecodeError("REST body: not an object", body)
    return parsed


def _parse_list(body: bytes) -> list[Any]:
    import simdjson

    try:
        parsed = simdjson.Parser().parse(body, True)
    except (ValueError, RuntimeError) as error:
        raise DecodeError(f"REST body: {error}", body) from error
    if not isinstance(parsed, list):
        raise DecodeError("REST body: not a list", body)
    return parsed


def _filters(market: Mapping[str, Any]) -> Filters:
    filters = {row["filterType"]: row for row in market["filters"]}
    tick, step = Decimal(filters["PRICE_FILTER"]["tickSize"]), Decimal(filters["LOT_SIZE"]["stepSize"])
    # COIN-M says contractStatus.
    status = market["status"] if "status" in market else market["contractStatus"]
    return Filters(str(market["symbol"]), _fraction_digits(tick), _fraction_digits(step), str(status), tick, step)


def _fraction_digits(size: Decimal) -> int:
    exponent = size.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


FUTURES_LIMITS = (5, 10, 20, 50, 100, 500, 1000)

VENUES: tuple[Venue, ...] = (
    Binance(
        name="binance-usdm",
        product="usdm",
        ws_url="wss://fstream.binance.com",
        rest_url="https://fapi.binance.com",
        ws_api_url="wss://ws-fapi.binance.com/ws-fapi/v1",
        api="/fapi/v1",
        mismatch_patience=1,
        snapshot_limits=FUTURES_LIMITS,
        depth_weights=FUTURES_DEPTH,
        klines_weights=FUTURES_KLINES,
        routes=USDM_ROUTES,
    ),
    Binance(
        name="binance-coinm",
        product="coinm",
        ws_url="wss://dstream.binance.com",
        rest_url="https://dapi.binance.com",
        api="/dapi/v1",
        mismatch_patience=2,
        snapshot_limits=FUTURES_LIMITS,
        depth_weights=FUTURES_DEPTH,
        klines_weights=FUTURES_KLINES,
    ),
    Binance(
        name="binance-spot",
        product="spot",
        ws_url="wss://stream.binance.com:9443",
        rest_url="https://api.binance.com",
        ws_api_url="wss://ws-api.binance.com:443/ws-api/v3",
        api="/api/v3",
        mismatch_patience=2,
        snapshot_limits=(*FUTURES_LIMITS, 5000),
        depth_weights=SPOT_DEPTH,
        klines_weights=SPOT_KLINES,
        ping_interval_s=20.0,
        exchange_info_weight=20,
        ticker_weight=2,
        tickers_weight=80,
        agg_trades_weight=4,
    ),
)
