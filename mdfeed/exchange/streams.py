"""The venue's streams: their names, their routes, and the text of each frame.

Names and routes are those of USD-M since the split of 2026-04-23. Frames are JSON text without blanks, keys in the
venue's order, `st` 1 (USD-M) where newer frames carry it. Pure functions: no state, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mdfeed.exchange.profiles import Profile
from mdfeed.exchange.tape import AggTrade, Day, Trade

PUBLIC = "public"
MARKET = "market"
PRIVATE = "private"
ROUTES = (PUBLIC, MARKET, PRIVATE)

_NAME = re.compile(
    r"(?P<symbol>[a-z0-9_]+)@(?:"
    r"(?P<diff>depth)(?:@(?P<diff_ms>0|100|250|500)ms)?"
    r"|depth(?P<levels>5|10|20)(?:@(?P<levels_ms>100|250|500)ms)?"
    r"|(?P<mark>markPrice)(?P<mark_1s>@1s)?"
    r"|(?P<plain>bookTicker|aggTrade|trade|ticker|miniTicker|forceOrder))"
)
_PLAIN_MS = {"bookTicker": 0, "aggTrade": 100, "trade": 0, "ticker": 2000, "miniTicker": 2000, "forceOrder": 1000}
_PUBLIC_KINDS = frozenset({"depth", "partial", "bookTicker"})


class Channel(NamedTuple):
    """What a stream name asks for. `kind`: depth, partial, markPrice, or the name after the at sign."""

    symbol: str  # upper case
    kind: str
    levels: int  # of a partial book, else 0
    interval_ms: int  # 0: at once


def parse_stream(name: str) -> Channel | None:
    """The channel of a stream name; None for a name this venue has no data for (which it takes without a word)."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    symbol = found["symbol"].upper()
    if found["diff"]:
        # The undocumented @0ms was conflated to 50 ms in 2024.
        interval_ms = int(found["diff_ms"] or 250) or 50
        return Channel(symbol, "depth", 0, interval_ms)
    if found["levels"]:
        return Channel(symbol, "partial", int(found["levels"]), int(found["levels_ms"] or 250))
    if found["mark"]:
        return Channel(symbol, "markPrice", 0, 1000 if found["mark_1s"] else 3000)
    return Channel(symbol, found["plain"], 0, _PLAIN_MS[found["plain"]])


def route_of(name: str, trade_route: str = MARKET) -> str:
    """The route that carries a stream. Where @trade lives is disputed among users of the venue: it can be set."""
    if name.startswith("!"):
        return PUBLIC if name == "!bookTicker" else MARKET
    if name.endswith("@trade"):
        return trade_route
    channel = parse_stream(name)
    if channel is None:
        return PUBLIC if "@rpiDepth" in name else MARKET
    return PUBLIC if channel.kind in _PUBLIC_KINDS else MARKET


def combined(stream: str, data: str) -> bytes:
    """A frame as combined streams carry it."""
    return f'{{"stream":"{stream}","data":{data}}}'.encode()


def data_of(frame: bytes, stream: str) -> bytes:
    """The bare event of a combined frame, as /ws/<stream> carries it."""
    return frame[len(stream) + 20 : -1]


def levels_text(profile: Profile, levels: Iterable[tuple[int, int]]) -> str:
    price, qty = profile.price_text, profile.qty_text
    return "[" + ",".join([f'["{price(ticks)}","{qty(steps)}"]' for ticks, steps in levels]) + "]"


def depth_text(profile: Profile, event_ms: int, time_ms: int, ids: tuple[int, int, int], bids: str, asks: str) -> str:
    """A diff or a partial book: both say `depthUpdate`, only the stream's name tells them apart. `ids`: U, u, pu."""
    return (
        f'{{"e":"depthUpdate","E":{event_ms},"T":{time_ms},"s":"{profile.symbol}",'
        f'"U":{ids[0]},"u":{ids[1]},"pu":{ids[2]},"b":{bids},"a":{asks},"st":1}}'
    )


def book_ticker_text(
    profile: Profile, update_id: int, top: tuple[int, int, int, int], event_ms: int, time_ms: int
) -> str:
    bid, bid_qty, ask, ask_qty = top
    price, qty = profile.price_text, profile.qty_text
    return (
        f'{{"e":"bookTicker","u":{update_id},"s":"{profile.symbol}","b":"{price(bid)}","B":"{qty(bid_qty)}",'
        f'"a":"{price(ask)}","A":"{qty(ask_qty)}","T":{time_ms},"E":{event_ms},"st":1}}'
    )


def agg_trade_text(profile: Profile, agg: AggTrade, event_ms: int) -> str:
    qty = profile.qty_text(agg.qty)
    return (
        f'{{"e":"aggTrade","E":{event_ms},"s":"{profile.symbol}","a":{agg.agg_id},"p":"{profile.price_text(agg.price)}",'
        f'"q":"{qty}","nq":"{qty}","f":{agg.first},"l":{agg.last},"T":{agg.time_ms},'
        f'"m":{"true" if agg.is_buyer_maker else "false"},"st":1}}'
    )


def trade_text(profile: Profile, trade: Trade, event_ms: int) -> str:
    return (
        f'{{"e":"trade","E":{event_ms},"T":{trade.time_ms},"s":"{profile.symbol}","t":{trade.trade_id},'
        f'"p":"{profile.price_text(trade.price)}","q":"{profile.qty_text(trade.qty)}","X":"MARKET",'
        f'"m":{"true" if trade.is_buyer_maker else "false"},"st":1}}'
    )


def day_fields(profile: Profile, day: Day) -> dict[str, str]:
    """Texts of a day's figures, named as REST names them."""
    price = profile.price_text
    mean = day.quote // day.qty if day.qty else day.last
    percent = (day.last - day.open) / day.open * 100.0 if day.open else 0.0
    return {
        "priceChange": price(day.last - day.open),
        "priceChangePercent": f"{percent:.3f}",
        "weightedAvgPrice": price(mean),
        "lastPrice": price(day.last),
        "lastQty": profile.qty_text(day.last_qty),
        "openPrice": price(day.open),
        "highPrice": price(day.high),
        "lowPrice": price(day.low),
        "volume": profile.qty_text(day.qty),
        "quoteVolume": profile.quote_text(day.quote),
    }


def ticker_text(profile: Profile, day: Day, event_ms: int) -> str:
    f = day_fields(profile, day)
    return (
        f'{{"e":"24hrTicker","E":{event_ms},"s":"{profile.symbol}","p":"{f["priceChange"]}",'
        f'"P":"{f["priceChangePercent"]}","w":"{f["weightedAvgPrice"]}","c":"{f["lastPrice"]}","Q":"{f["lastQty"]}",'
        f'"o":"{f["openPrice"]}","h":"{f["highPrice"]}","l":"{f["lowPrice"]}","v":"{f["volume"]}",'
        f'"q":"{f["quoteVolume"]}","O":{day.open_ms},"C":{day.close_ms},"F":{day.first_id},"L":{day.last_id},'
        f'"n":{day.trades},"st":1}}'
    )


def mini_ticker_text(profile: Profile, day: Day, event_ms: int) -> str:
    f = day_fields(profile, day)
    return (
        f'{{"e":"24hrMiniTicker","E":{event_ms},"s":"{profile.symbol}","c":"{f["lastPrice"]}","o":"{f["openPrice"]}",'
        f'"h":"{f["highPrice"]}","l":"{f["lowPrice"]}","v":"{f["volume"]}","q":"{f["quoteVolume"]}","st":1}}'
    )


def mark_price_text(profile: Profile, reference: float, event_ms: int) -> str:
    """Mark and index follow the reference price; funding is the venue's default rate, next at the 8 h boundary."""
    scale = profile.tick_units / 10**profile.price_digits
    mark = reference * scale
    eight_hours_ms = 28_800_000
    return (
        f'{{"e":"markPriceUpdate","E":{event_ms},"s":"{profile.symbol}","p":"{mark:.8f}","ap":"{mark:.8f}",'
        f'"i":"{mark * 1.0002:.8f}","P":"{mark * 1.0001:.8f}","r":"0.00010000",'
        f'"T":{event_ms - event_ms % eight_hours_ms + eight_hours_ms},"st":1}}'
    )


def force_order_text(profile: Profile, is_sell: bool, price: int, qty: int, time_ms: int, event_ms: int) -> str:
    """A liquidation: an immediate-or-cancel order that was filled at `price` on average."""
    p, q = profile.price_text(price), profile.qty_text(qty)
    return (
        f'{{"e":"forceOrder","E":{event_ms},"o":{{"s":"{profile.symbol}","S":"{"SELL" if is_sell else "BUY"}",'
        f'"o":"LIMIT","f":"IOC","q":"{q}","p":"{p}","ap":"{p}","X":"FILLED","l":"{q}","z":"{q}","T":{time_ms}}},"st":1}}'
    )
