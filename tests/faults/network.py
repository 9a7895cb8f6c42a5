"""What networks do to the daemon's connections, to either side, by the proxies of the rig."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tests.proxy import Proxy


class Trouble(NamedTuple):
    """`field` of the proxy on `side` ("venue" or "redis") is set to `value` for `lasts_s`.

    With `is_cut` open connections are reset at the start; with `is_away` new ones are refused meanwhile.
    """

    name: str
    side: str
    field: str = ""
    value: float = 0
    lasts_s: float = 1.0
    is_cut: bool = False
    is_away: bool = False
    is_tls: bool = False  # means something where the venue speaks TLS

    async def happen(self, proxy: Proxy) -> None:
        before = getattr(proxy, self.field) if self.field else None
        if self.field:
            setattr(proxy, self.field, self.value)
        if self.is_away:
            proxy.refuse()
        if self.is_cut:
            proxy.cut()
        if self.field or self.is_away:
            await asyncio.sleep(self.lasts_s)
        if self.field:
            setattr(proxy, self.field, before)
        if self.is_away:
            await proxy.listen()


def both(name: str, **about: object) -> tuple[Trouble, Trouble]:
    return tuple(Trouble(f"{side}: {name}", side, **about) for side in ("venue", "redis"))  # type: ignore[arg-type,return-value]


NETWORK = (
    *both("reset", is_cut=True),
    *both("stalled", field="is_stalled", value=True),
    *both("away, the port refuses", is_cut=True, is_away=True),
    *both("seven bytes at a time", field="piece", value=7),
    Trouble("venue: throttled", "venue", "bytes_per_s", 60_000.0),
    Trouble("redis: throttled", "redis", "bytes_per_s", 100_000.0),
    Trouble("venue: TLS breaks", "venue", "breaks_tls", True, lasts_s=2.0, is_cut=True, is_tls=True),
)
