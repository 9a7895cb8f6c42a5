"""Whether both sides published the same: channel by channel, every field that the twin has, numbers as floats."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

OUTPUTS = ("market_data", "orderbook", "trades")


def read(channel: str, payload: bytes) -> tuple[str, dict[str, Any]]:
    fields = json.loads(payload, parse_int=float)
    fields.pop("updated_at", None)  # the receive time in two spellings
    for extra in ("state", "seq"):
        fields.pop(extra, None)
    if channel.startswith("market_data:"):
        for extra in ("last_update_id", "quote_volume_24h", "open_24h", "change_24h", "vwap_24h", "trades_24h"):
            fields.pop(extra, None)
    for side in ("bids", "asks"):
        if side in fields:
            fields[side] = [(float(price), qty) for price, qty in fields[side].items()]
    return channel, fields


def assert_same(ours: Iterable[tuple[str, bytes]], theirs: Iterable[tuple[str, bytes]]) -> int:
    """Number of publications compared; AssertionError at the first that differs."""
    pairs = list(zip(map(read, *zip(*ours, strict=True)), map(read, *zip(*theirs, strict=True)), strict=True))
    for at, (mine, its) in enumerate(pairs):
        assert mine == its, f"publication {at} differs:\n{mine}\n{its}"
    return len(pairs)
