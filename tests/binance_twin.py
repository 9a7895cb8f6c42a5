"""The obviously right twin of Binance's decoder: json and Decimal, in the words of `Decoder.decode_frame`."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

KINDS = {
    "bookTicker": "bookTicker",
    "aggTrade": "aggTrade",
    "trade": "trade",
    "24hrTicker": "24hrTicker",
    "markPriceUpdate": "markPriceUpdate",
    "forceOrder": "forceOrder",
}


def plain(value: Any) -> str:
    """Decimal text without trailing zeros and exponent, of a string or a bare number (parsed as Decimal)."""
    text = format(Decimal(value), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_int64(text: str) -> bool:
    """Whether a decimal fits int64 at its own, at most 18, fraction digits."""
    digits = len(text.partition(".")[2])
    return digits <= 18 and int(text.replace(".", "")) < 2**63


def loads(frame: bytes | str) -> Any:
    return json.loads(frame, parse_float=Decimal, parse_int=Decimal)


def rows(side: list[list[Any]]) -> list[tuple[str, str]]:
    return [(plain(row[0]), plain(row[1])) for row in side]


def nanoseconds(stamp: int | str) -> int:
    """Of a venue time in ms; in us where as ms it would pass 2262-04-11, the last that int64 nanoseconds hold."""
    return int(stamp) * (1_000_000 if int(stamp) < 2**63 // 1_000_000 else 1_000)


def describe(frame: bytes | str, product: str) -> dict[str, Any]:
    """What `decode_frame` must say of a well-formed frame of a known symbol."""
    whole = loads(frame)
    data = whole.get("data", whole)
    stream = whole.get("stream", "")
    event = data.get("e", "")
    stamp = data.get("E", data.get("T", 0))
    order = data.get("o") if isinstance(data.get("o"), dict) else {}
    symbol = data.get("s") or order.get("s") or data.get("symbol") or stream.partition("@")[0].upper()
    found: dict[str, Any] = {"symbol": str(symbol).upper(), "ts_event": nanoseconds(stamp)}
    if event == "depthUpdate" or "lastUpdateId" in data:
        partial = re.search(r"@depth\d+(@|$)", stream)
        is_body = "lastUpdateId" in data and not stream and not event
        found["kind"] = "snapshot" if is_body else "partialDepth" if partial or not event else "depthUpdate"
        last = int(data["lastUpdateId"] if "lastUpdateId" in data else data["u"])
        first = int(data.get("U", last))
        found["first_id"], found["last_id"] = first, last
        found["prev_id"] = last if "U" not in data else first - 1 if product == "spot" else int(data["pu"])
        found["bids"] = rows(data.get("b", data.get("bids")))
        found["asks"] = rows(data.get("a", data.get("asks")))
    elif event == "bookTicker" or (not event and {"u", "B", "A"} <= data.keys()):
        found["kind"] = "bookTicker"
        found["update_id"] = int(data["u"])
        found["bid"] = (plain(data["b"]), plain(data["B"]))
        found["ask"] = (plain(data["a"]), plain(data["A"]))
    elif event in ("aggTrade", "trade"):
        found["kind"] = event
        found["trade_id"] = int(data["a" if event == "aggTrade" else "t"])
        found["price"], found["qty"] = plain(data["p"]), plain(data["q"])
        found["is_buyer_maker"] = data["m"]
        found["is_market"] = data.get("X", "MARKET") == "MARKET"
    elif event == "24hrTicker":
        found["kind"] = event
        found["open_ts"], found["close_ts"] = nanoseconds(data["O"]), nanoseconds(data["C"])
        found["trade_count"] = int(data["n"])
        for name, key in (("last_price", "c"), ("open_price", "o"), ("high_price", "h"), ("low_price", "l"),
                          ("volume", "v"), ("quote_volume", "q")):  # fmt: skip
            found[name] = plain(data[key])
        if not is_int64(found["quote_volume"]):
            found["quote_volume"] = None
    elif event in KINDS:
        found["kind"] = KINDS[event]
    else:
        return {"kind": "ignored", "why": "unknown_event", "event": "other"}
    return found


def hft_lines(path: Path) -> Iterator[str]:
    """The raw JSON of each line of a `<stamp> <json>` capture."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield line.partition(" ")[2].strip()


def cryptofeed_lines(path: Path) -> Iterator[str]:
    """The received frames of a cryptofeed format 1 capture."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if re.match(r"\d+\.\d+: \{", line):
                yield line.partition(": ")[2].strip()


def cryptofeed_bodies(path: Path) -> Iterator[tuple[str, str]]:
    """(symbol, REST depth body) of a cryptofeed http capture."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            asked = re.match(r"https://\S+/depth\?symbol=(\w+)\S* -> [\d.]+: ", line)
            if asked:
                yield asked[1], line[asked.end() :].strip()
