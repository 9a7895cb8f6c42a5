"""HTTP and WS-API answers of the venue, and the request weight they cost.

Answers from a source (the market or a playback) that knows the books and the tapes. Refuses to know sockets: a
request is a method, a path and a peer. Paths are USD-M's /fapi/v1; /dapi/v1 and /api/v3 are taken for the same, so that
captures of those products can be played to their clients. The documentation was read in 2026-09.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from mdfeed.exchange.faults import Answer
from mdfeed.exchange.profiles import Profile
from mdfeed.exchange.streams import day_fields
from mdfeed.exchange.tape import AggTrade, Tape
from mdfeed.exchange.weight import WEIGHT_MAX, Refused, Scales

_PREFIXES = ("/fapi/v1/", "/dapi/v1/", "/api/v3/")
_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "12h": 720}
_MINUTES["1d"] = 1440
_MS = 1_000_000


class Source(Protocol):
    """Who knows the books: the market, or a capture played back."""

    @property
    def symbols(self) -> list[str]: ...

    def profile(self, symbol: str) -> Profile | None: ...

    def tape(self, symbol: str) -> Tape: ...

    def depth(self, symbol: str, limit: int) -> str | None:
        """The body of `depth` now; None while the book is not known."""

    def time_ms(self, now_ms: int) -> int:
        """The time that the source's events are stamped with, when the venue's clock says `now_ms`."""


class _Wrong(Exception):
    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


class Desk:
    """Answers requests. `now_ns` is the venue's clock."""

    def __init__(self, source: Source, now_ns: Callable[[], int], scales: Scales) -> None:
        self._source = source
        self._now_ns = now_ns
        self._scales = scales
        self._paths: dict[str, Callable[[dict[str, str]], tuple[int, str]]] = {
            "ping": lambda query: (1, "{}"),
            "time": lambda query: (1, f'{{"serverTime":{self._event_ms()}}}'),
            "exchangeInfo": self._exchange_info,
            "depth": self._depth,
            "ticker/24hr": self._day,
            "klines": self._klines,
            "aggTrades": self._aggs,
        }

    def answer(self, method: str, target: str, peer: str) -> Answer:
        """The answer to `method target`, its weight counted against `peer`."""
        parts = urlsplit(target)
        prefix = next((prefix for prefix in _PREFIXES if parts.path.startswith(prefix)), None)
        ask = self._paths.get(parts.path[len(prefix) :]) if prefix else None
        if ask is None or method not in ("GET", "HEAD"):
            return _error(404, -5000, f"Path {parts.path}, Method {method} is invalid")
        answer = self._ask(ask, dict(parse_qsl(parts.query)), peer)
        if method == "HEAD":
            answer.body = b""
        return answer

    def call(self, text: str, peer: str) -> str:
        """The answer to one WS-API request."""
        try:
            asked = json.loads(text)
        except (ValueError, RecursionError):
            return '{"id":null,"status":400,"error":{"code":-1135,"msg":"Invalid JSON Request"}}'
        if not isinstance(asked, dict) or not isinstance(asked.get("method"), str):
            return (
                '{"id":null,"status":400,"error":{"code":-1099,"msg":"Not found, unauthenticated, or unauthorized."}}'
            )
        number = json.dumps(asked.get("id"))
        ask = self._paths.get(asked["method"]) if asked["method"] in ("ping", "time", "depth") else None
        if ask is None:
            return f'{{"id":{number},"status":400,"error":{{"code":-1020,"msg":"This operation is not supported."}}}}'
        params = asked.get("params")
        if not isinstance(params, dict):
            params = {}
        answer = self._ask(ask, {str(name): str(value) for name, value in params.items()}, peer)
        what = "result" if answer.status == 200 else "error"
        limits = (
            '[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,'
            f'"limit":{WEIGHT_MAX},"count":{answer.headers.get("X-MBX-USED-WEIGHT-1M", WEIGHT_MAX)}}}]'
        )
        return f'{{"id":{number},"status":{answer.status},"{what}":{answer.body.decode()},"rateLimits":{limits}}}'

    def _ask(self, ask: Callable[[dict[str, str]], tuple[int, str]], query: dict[str, str], peer: str) -> Answer:
        now_ms = self._now_ms()
        try:
            self._scales.admit(peer, now_ms)
        except Refused as refused:
            return _error(refused.status, -1003, str(refused), {"Retry-After": str(refused.retry_after_s)})
        try:
            weight, body = ask(query)
            answer = Answer(200, body.encode())
        except _Wrong as wrong:
            weight = 1
            answer = _error(wrong.status, wrong.code, str(wrong))
        answer.headers["X-MBX-USED-WEIGHT-1M"] = str(self._scales.charge(peer, weight, now_ms))
        return answer

    def _now_ms(self) -> int:
        return self._now_ns() // _MS

    def _event_ms(self) -> int:
        return self._source.time_ms(self._now_ms())

    def _profile(self, query: dict[str, str]) -> Profile:
        symbol = query.get("symbol", "")
        if not symbol:
            raise _Wrong(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        profile = self._source.profile(symbol)
        if profile is None:
            raise _Wrong(-1121, "Invalid symbol.")
        return profile

    def _depth(self, query: dict[str, str]) -> tuple[int, str]:
        profile = self._profile(query)
        limit = _whole(query, "limit", 500)
        if limit not in _DEPTH_WEIGHTS:
            raise _Wrong(-4021, f"{limit} is not valid depth limit.")
        body = self._source.depth(profile.symbol, limit)
        if body is None:
            raise _Wrong(-1001, "Internal error; unable to process your request. Please try again.", 503)
        return _DEPTH_WEIGHTS[limit], body

    def _exchange_info(self, query: dict[str, str]) -> tuple[int, str]:
        profiles = [self._source.profile(symbol) for symbol in self._source.symbols]
        info = {
            "timezone": "UTC",
            "serverTime": self._event_ms(),
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": WEIGHT_MAX}
            ],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [_instrument(profile) for profile in profiles if profile is not None],
        }
        return 1, json.dumps(info, separators=(",", ":"))

    def _day(self, query: dict[str, str]) -> tuple[int, str]:
        if "symbol" not in query:
            return 40, "[" + ",".join(self._day_of(symbol) for symbol in self._source.symbols) + "]"
        return 1, self._day_of(self._profile(query).symbol)

    def _day_of(self, symbol: str) -> str:
        profile = self._source.profile(symbol)
        if profile is None:
            raise _Wrong(-1121, "Invalid symbol.")
        day = self._source.tape(symbol).day(self._event_ms())
        fields: dict[str, Any] = {"symbol": symbol, **day_fields(profile, day)}
        fields |= {"openTime": day.open_ms, "closeTime": day.close_ms}
        fields |= {"firstId": day.first_id, "lastId": day.last_id, "count": day.trades}
        return json.dumps(fields, separators=(",", ":"))

    def _klines(self, query: dict[str, str]) -> tuple[int, str]:
        profile = self._profile(query)
        minutes = _MINUTES.get(query.get("interval", ""))
        if minutes is None:
            raise _Wrong(-1120, "Invalid interval.")
        limit = _limit(query, 500, 1500)
        start_ms, end_ms = _optional(query, "startTime"), _optional(query, "endTime")
        rows = self._source.tape(profile.symbol).candles(minutes, start_ms, end_ms, limit)
        weight = 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10
        return weight, "[" + ",".join(_kline(profile, row, minutes) for row in rows) + "]"

    def _aggs(self, query: dict[str, str]) -> tuple[int, str]:
        profile = self._profile(query)
        from_id = _optional(query, "fromId")
        start_ms, end_ms = _optional(query, "startTime"), _optional(query, "endTime")
        found = self._source.tape(profile.symbol).aggs_from(from_id, start_ms, end_ms, _limit(query, 500, 1000))
        return 20, "[" + ",".join(_agg(profile, agg) for agg in found) + "]"


def _error(status: int, code: int, text: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps({"code": code, "msg": text}, separators=(",", ":")).encode(), headers or {})


def _optional(query: dict[str, str], name: str) -> int | None:
    if name not in query:
        return None
    if not query[name].isdecimal() or len(query[name]) > 19:
        raise _Wrong(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return int(query[name])


def _whole(query: dict[str, str], name: str, default: int) -> int:
    found = _optional(query, name)
    return default if found is None else found


def _limit(query: dict[str, str], default: int, most: int) -> int:
    limit = _whole(query, "limit", default)
    if not 1 <= limit <= most:
        raise _Wrong(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def _kline(profile: Profile, row: list[int], minutes: int) -> str:
    opened, opening, high, low, close, qty, quote, count, taker, taker_quote = row
    p, q = profile.price_text, profile.qty_text
    return (
        f'[{opened},"{p(opening)}","{p(high)}","{p(low)}","{p(close)}","{q(qty)}",{opened + minutes * 60_000 - 1},'
        f'"{profile.quote_text(quote)}",{count},"{q(taker)}","{profile.quote_text(taker_quote)}","0"]'
    )


def _agg(profile: Profile, agg: AggTrade) -> str:
    qty = profile.qty_text(agg.qty)
    return (
        f'{{"a":{agg.agg_id},"p":"{profile.price_text(agg.price)}","q":"{qty}","nq":"{qty}","f":{agg.first},'
        f'"l":{agg.last},"T":{agg.time_ms},"m":{"true" if agg.is_buyer_maker else "false"}}}'
    )


def _instrument(profile: Profile) -> dict[str, Any]:
    tick, step = profile.tick_size, profile.step_size
    return {
        "symbol": profile.symbol,
        "pair": profile.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_569_398_400_000,
        "status": "TRADING",
        "baseAsset": profile.base_asset,
        "quoteAsset": profile.quote_asset,
        "marginAsset": profile.quote_asset,
        "pricePrecision": profile.price_digits,
        "quantityPrecision": profile.qty_digits,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000", "stepSize": step},
            {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": "100000", "stepSize": step},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }
