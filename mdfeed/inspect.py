"""`mdfeed inspect`: what is in Redis, as any other client would see it.

Answers for: reading the keys, streams and channels of CONTRACT 4 and showing them, foreign or broken payloads said to
be such. Refuses to know: the daemon; it may run elsewhere, or not at all.
"""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mdfeed.config import mask
from mdfeed.errors import MdfeedError
from mdfeed.sentinel import blocking_client_of

TIMEOUT_S = 3.0
PRICES = "market_data:"
STATES = "mdfeed:state:"
BOOKS = "mdfeed:book:"
TRADES = "mdfeed:trades:"
EVENTS = "mdfeed:events"
EVENTS_READ = 500  # newest events looked through for each symbol's last one
COLUMNS = (
    "symbol",
    "price",
    "bid",
    "ask",
    "spread",
    "age",
    "ttl",
    "state",
    "levels",
    "last id",
    "trades",
    "last event",
)


def run(symbols: Sequence[str], follow: bool, json: bool, clients: bool, redis_url: str) -> int:
    """Print and return the exit status: 1 when there is nothing of mdfeed. MdfeedError when Redis does not answer."""
    try:
        client = blocking_client_of(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            client_name="mdfeed-inspect",
        )
        with client:
            if clients:
                show_clients(client, json)
                return 0
            if follow:
                for line in changes(client, symbols, json):
                    print(line, flush=True)
            return show_symbols(client, symbols, json)
    except redis.RedisError as error:
        raise MdfeedError(f"redis {mask(redis_url)}: {reason_of(error)}") from None


def reason_of(error: redis.RedisError) -> str:
    if isinstance(error, redis.AuthenticationError):
        return f"the login was refused ({clean(str(error))}); put user and password into redis_url"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"this user may not do that ({clean(str(error))})"
    if isinstance(error, redis.TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(error, redis.ConnectionError):
        return f"cannot be reached ({clean(str(error))}); is it running, and is redis_url right?"
    return clean(str(error))


# ---- the symbols


def show_symbols(client: redis.Redis, symbols: Sequence[str], json: bool) -> int:
    names = list(symbols) or found_symbols(client)
    views = read_views(client, names, time.time_ns())
    if json:
        print(jsonlib.dumps({"symbols": views}, default=float))
    elif views:
        show_rows(COLUMNS, [row_of(view) for view in views])
        for view in views:
            for problem in view["problems"]:
                print(f"{view['symbol']}: {problem}", file=sys.stderr)
    if any(view["is_present"] for view in views):
        return 0
    print("mdfeed: nothing of mdfeed is in this Redis; is `mdfeed serve` running against it?", file=sys.stderr)
    return 1


def found_symbols(client: redis.Redis) -> list[str]:
    names = set()
    for prefix in (PRICES, STATES):
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            names.add(as_text(key).removeprefix(prefix))
    return sorted(names)


def read_views(client: redis.Redis, symbols: Sequence[str], now_ns: int) -> list[dict[str, Any]]:
    """One JSON-able object a symbol; what is absent is null, what is not as published is named in `problems`."""
    pipe = client.pipeline(transaction=False)
    for symbol in symbols:
        pipe.get(PRICES + symbol)
        pipe.pttl(PRICES + symbol)
        pipe.get(STATES + symbol)
        pipe.get(BOOKS + symbol)
        pipe.xlen(TRADES + symbol)
    pipe.xrevrange(EVENTS, count=EVENTS_READ)
    *replies, entries = pipe.execute(raise_on_error=False)
    events = last_events(entries)
    return [
        view_of(symbol, replies[5 * index : 5 * index + 5], events.get(symbol), now_ns)
        for index, symbol in enumerate(symbols)
    ]


def view_of(symbol: str, replies: Sequence[Any], event: dict[str, Any] | None, now_ns: int) -> dict[str, Any]:
    problems: list[str] = []
    prices = payload(PRICES + symbol, replies[0], problems)
    state = payload(STATES + symbol, replies[2], problems)
    book = payload(BOOKS + symbol, replies[3], problems)
    ttl_ms, trades = (reply if isinstance(reply, int) else None for reply in (replies[1], replies[4]))
    if isinstance(replies[4], redis.RedisError):
        problems.append(f"{TRADES}{symbol}: {clean(str(replies[4]))}")
    bid, ask = number(prices, "bid_price"), number(prices, "ask_price")
    updated = instant(prices.get("updated_at"))
    if prices and updated is None:
        problems.append(f"{PRICES}{symbol}: updated_at is no RFC 3339 time")
    return {
        "symbol": clean(symbol),
        "is_present": any(reply is not None for reply in (replies[0], replies[2], replies[3])) or bool(trades),
        "price": number(prices, "last_price"),
        "bid": bid,
        "ask": ask,
        "spread": None if bid is None or ask is None else ask - bid,
        "updated_at": None if updated is None else prices["updated_at"],
        "age_s": None if updated is None else round((now_ns - updated) / 1e9, 3),
        "ttl_s": ttl_ms / 1000 if ttl_ms is not None and ttl_ms >= 0 else None,
        "state": text(state, "state"),
        "reason": text(state, "reason"),
        "since": text(state, "since"),
        "last_update_id": next((own["last_update_id"] for own in (book, state) if "last_update_id" in own), None),
        "levels": {side: len(book[side]) if isinstance(book.get(side), list) else None for side in ("bids", "asks")},
        "verified_levels": book.get("verified_levels"),
        "trades": trades,
        "last_event": event,
        "problems": problems,
    }


def payload(key: str, reply: Any, problems: list[str]) -> dict[str, Any]:
    """The JSON object that a key holds; empty when it is absent, or foreign (then `problems` says so)."""
    if reply is None:
        return {}
    if isinstance(reply, redis.RedisError):
        problems.append(f"{key}: {clean(str(reply))}")
        return {}
    try:
        value = jsonlib.loads(reply, parse_float=Decimal)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    problems.append(f"{key}: not a JSON object but {len(reply)} bytes that begin with {bytes(reply[:24])!r}")
    return {}


def last_events(entries: Any) -> dict[str, dict[str, Any]]:
    """The newest event of each symbol; an entry holds a JSON object in one of its fields."""
    newest: dict[str, dict[str, Any]] = {}
    for entry_id, fields in entries if isinstance(entries, list) else ():
        for value in (fields or {}).values():
            event = payload(EVENTS, value, [])
            if isinstance(event.get("symbol"), str):
                newest.setdefault(event["symbol"], {"id": entry_id.decode(), **event})
    return newest


def number(values: dict[str, Any], name: str) -> Decimal | None:
    value = values.get(name)
    is_number = isinstance(value, (int, Decimal)) and not isinstance(value, bool)
    return Decimal(value) if is_number and Decimal(value).is_finite() else None  # type: ignore[arg-type]


def text(values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    return clean(value) if isinstance(value, str) else None


def instant(value: Any) -> int | None:
    """UTC ns of an RFC 3339 text with an offset, else None."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return int(moment.timestamp() * 1e6) * 1000 if moment.tzinfo else None


def clean(value: str) -> str:
    """Text from the far side, fit for a terminal: no control characters, no line ends, not endless."""
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in value[:200])
    return shown + ("..." if len(value) > 200 else "")


def row_of(view: dict[str, Any]) -> list[str]:
    levels, verified = view["levels"], view["verified_levels"]
    counts = verified if isinstance(verified, dict) else levels
    event = view["last_event"] or {}
    state = f"{view['state'] or ''} {view['reason'] or ''}".strip()
    kind = " ".join(str(event[name]) for name in ("kind", "reason") if name in event)
    return [
        view["symbol"],
        *(plain(view[name]) for name in ("price", "bid", "ask", "spread")),
        "-" if view["age_s"] is None else f"{view['age_s']:.1f} s",
        "-" if view["ttl_s"] is None else f"{view['ttl_s']:.0f} s",
        state or "-",
        "-" if levels["bids"] is None else f"{counts.get('bids')}/{counts.get('asks')}",
        plain(view["last_update_id"]),
        plain(view["trades"]),
        clean(kind) or "-",
    ]


def plain(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:f}" if isinstance(value, Decimal) else clean(str(value))


# ---- following


def changes(client: redis.Redis, symbols: Sequence[str], json: bool) -> Iterator[str]:
    """A line for each publication that says something new, without end."""
    pubsub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    if symbols:
        pubsub.subscribe(*(prefix + symbol for symbol in symbols for prefix in (PRICES, STATES)))
    else:
        pubsub.psubscribe(PRICES + "*", STATES + "*")
    last: dict[str, Any] = {}
    while True:
        message = pubsub.get_message(timeout=1.0)
        if message is None:
            continue
        channel = clean(as_text(message["channel"]))
        problems: list[str] = []
        values = payload(channel, message["data"], problems)
        told = {name: value for name, value in values.items() if name not in ("updated_at", "seq", "last_update_id")}
        if last.get(channel) == told and not problems:
            continue
        last[channel] = told
        yield json_line(channel, values, problems) if json else text_line(channel, values, problems)


def json_line(channel: str, values: dict[str, Any], problems: list[str]) -> str:
    line = {"at": datetime.now(UTC).isoformat(), "channel": channel, "payload": values or None, "problems": problems}
    return jsonlib.dumps(line, default=float)


def text_line(channel: str, values: dict[str, Any], problems: list[str]) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")[11:23]
    if problems:
        return f"{at} {problems[0]}"
    if channel.startswith(STATES):
        return f"{at} {channel.removeprefix(STATES)} {text(values, 'state')} {text(values, 'reason') or ''}".rstrip()
    last, bid, ask = (plain(number(values, name)) for name in ("last_price", "bid_price", "ask_price"))
    return f"{at} {channel.removeprefix(PRICES)} last {last} bid {bid} ask {ask}"


# ---- clients


def show_clients(client: redis.Redis, json: bool) -> None:
    names = ("id", "addr", "name", "age", "idle", "sub", "psub", "cmd")
    found = [{name: clean(str(entry.get(name, ""))) for name in names} for entry in client.client_list()]
    channels = client.pubsub_channels()
    counts = client.pubsub_numsub(*channels) if channels else []
    subscribers = {clean(as_text(name)): count for name, count in counts}
    patterns = client.pubsub_numpat()
    if json:
        print(jsonlib.dumps({"clients": found, "channels": subscribers, "patterns": patterns}))
        return
    show_rows(names, [[entry[name] or "-" for name in names] for entry in found])
    print()
    show_rows(("channel", "subscribers"), [[name, str(count)] for name, count in subscribers.items()])
    print(f"{patterns} pattern subscriptions")


def as_text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


# ---- tables


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A rich table on a terminal, aligned plain text elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns)
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
