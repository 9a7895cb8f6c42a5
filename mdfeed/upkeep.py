"""Everything that mends the feed from the venue's REST side, wired: snapshots, 24 h figures, missed trades, forensics.

Answers for one governor shared by all of them, and for what is kept in the state directory. Knows no line and no sink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mdfeed._clock import now_ns as own_clock
from mdfeed._feed import Feed
from mdfeed.backfill import Backfill
from mdfeed.figures import Figures
from mdfeed.forensics import Forensics
from mdfeed.governor import Governor
from mdfeed.kept import file_of
from mdfeed.lasting import lasting
from mdfeed.rest import Rest
from mdfeed.snapshots import Snapshots
from mdfeed.venues import Venue
from mdfeed.ws_api import WsApi


def ws_api_url_of(venue: Venue, ws_url: str) -> str | None:
    """The WS-API beside a configured stream URL: the venue's own, or its path on another host."""
    if venue.ws_api_url is None or venue.base_url(ws_url) == venue.base_url():
        return venue.ws_api_url
    return venue.base_url(ws_url) + urlsplit(venue.ws_api_url).path


class Upkeep:
    """`run` serves until cancelled. `rest` and its governor are for others to share.

    `flush` is called after what may have published. `state` is a folder that is there, to keep things in, or None;
    without it, or with a feed that recalls no frames, there are no forensic files.
    `follow_partials` is called with all symbols whose partial depth should be subscribed (Snapshots has the rest).
    """

    def __init__(
        self,
        feed: Feed,
        venue: Venue,
        *,
        flush: Callable[[], object],
        rest_url: str,
        ws_url: str,
        state: Path | None = None,
        follow_partials: Callable[[Sequence[str]], object] | None = None,
        weight_share: float = 0.9,
        forensics_kept: int = 20,
        now_ns: Callable[[], int] = own_clock,
    ) -> None:
        kept = file_of(state, rest_url) if state is not None else None
        self.governor = Governor(share=weight_share, now_ns=now_ns, state_file=kept)
        self.rest = Rest(rest_url, governor=self.governor, now_ns=now_ns)
        api_url = ws_api_url_of(venue, ws_url)
        self.ws_api = WsApi(api_url, self.governor) if api_url is not None else None
        self.snapshots = Snapshots(
            feed,
            venue,
            self.rest,
            flush=flush,
            ws_api=self.ws_api,
            follow_partials=follow_partials,
            now_ns=now_ns,
        )
        self.figures = Figures(feed, venue, self.rest)
        self.backfill = Backfill(feed, venue, self.rest, flush=flush, on_lost=self.figures.refine, now_ns=now_ns)
        self.forensics = None
        if state is not None and feed.recall is not None:
            self.forensics = Forensics(feed, state / "forensics", most=forensics_kept)

    async def run(self) -> None:
        """Serves until cancelled. No far side's behaviour ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(lasting("snapshots", self.snapshots.run), name="snapshots")
                group.create_task(lasting("24 h figures", self.figures.run), name="24 h figures")
                group.create_task(lasting("missed trades", self.backfill.run), name="missed trades")
                if self.forensics is not None:
                    group.create_task(lasting("forensics", self.forensics.run), name="forensics")
        finally:
            self.rest.close()
            if self.ws_api is not None:
                await self.ws_api.close()
