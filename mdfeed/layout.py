"""Which symbol's streams are on which line of a venue, so that symbols come and go without moving the others.

Answers for sharding at the venue's streams per line, for redundant copies, and for channels that were found on another
route than the venue's table says. Pure planning: opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mdfeed.venues import LinePlan, Venue

COPIES = "abcdefgh"


class Layout:
    """Places symbols on lines. `routes` is "split" or "single", as Venue.plan has it.

    All streams of a symbol on one route share a line, so that its depth and bookTicker can be compared. Copies of a
    line (`redundancy` above 1) are named "public-0a", "public-0b".
    """

    def __init__(
        self,
        venue: Venue,
        channels: Sequence[str],
        *,
        ws_url: str | None = None,
        routes: str = "auto",
        max_streams: int = 200,
        redundancy: int = 1,
    ) -> None:
        self.venue = venue
        self.found: dict[str, str] = {}  # channel -> route on which it was found, against the venue's table
        self._channels = tuple(dict.fromkeys(channels))
        self._ws_url = ws_url
        self._routes = routes
        self._max_streams = max_streams
        self._redundancy = redundancy
        self._shards: dict[str, list[dict[str, None]]] = {}  # route -> lines -> symbols

    def route(self, channel: str) -> str:
        """Where a channel is asked for: "" where one line carries all."""
        return "" if self._routes == "single" else self.venue.route(channel)

    def reroute(self, channel: str, route: str) -> None:
        """From now on `channel` is asked for on `route`."""
        self.found[channel] = route
        self.venue = replace(self.venue, routes=((channel, route), *self.venue.routes))

    def place(self, symbols: Sequence[str]) -> list[LinePlan]:
        """The lines that carry these symbols. A symbol that was there stays on its line; a new one goes where room is.

        Raises ValueError when a line cannot hold one symbol's streams.
        """
        by_route: dict[str, list[str]] = {}
        for channel in self._channels:
            by_route.setdefault(self.route(channel), []).append(channel)
        plans: list[LinePlan] = []
        self._shards = {route: self._shards.get(route, []) for route in by_route}
        for route, channels in by_route.items():
            most = self._max_streams // len(channels)
            if most == 0:
                streams = ", ".join(self.venue.stream(symbols[0], channel) for channel in channels)
                raise ValueError(f"a line of {self._max_streams} streams cannot hold those of one symbol: {streams}")
            shards = self._shards[route]
            self._settle(shards, symbols, most)
            for number, shard in enumerate(shards):
                if shard:
                    plans += self._copies(f"{route or 'all'}-{number}", list(shard), channels)
        return plans

    def _settle(self, shards: list[dict[str, None]], symbols: Sequence[str], most: int) -> None:
        wanted = dict.fromkeys(symbols)
        for shard in shards:
            for symbol in [symbol for at, symbol in enumerate(shard) if symbol not in wanted or at >= most]:
                del shard[symbol]
        placed = {symbol for shard in shards for symbol in shard}
        for symbol in wanted:
            if symbol in placed:
                continue
            if all(len(shard) >= most for shard in shards):
                shards.append({})
            next(shard for shard in shards if len(shard) < most)[symbol] = None

    def _copies(self, name: str, symbols: list[str], channels: list[str]) -> list[LinePlan]:
        most = len(symbols) * len(channels)
        (plan,) = self.venue.plan(symbols, channels, ws_url=self._ws_url, routes=self._routes, max_streams=most)
        if self._redundancy == 1:
            return [replace(plan, name=name)]
        return [replace(plan, name=name + COPIES[copy]) for copy in range(self._redundancy)]

    def partials(self, symbols: Sequence[str]) -> list[LinePlan]:
        """The lines "partial-0"... that carry the partial depth of these symbols; none where the venue has no such."""
        channel = self.venue.partial_channel
        if not symbols or not channel:
            return []
        plans = self.venue.plan(
            symbols, [channel], ws_url=self._ws_url, routes=self._routes, max_streams=self._max_streams
        )
        return [replace(plan, name=f"partial-{number}") for number, plan in enumerate(plans)]

    def on_route(self, route: str, symbols: Sequence[str], channels: Sequence[str]) -> list[LinePlan]:
        """Lines that ask for these channels on a route against the table: to find out whether they are there."""
        venue = replace(self.venue, routes=(("", route),))
        return venue.plan(symbols, channels, ws_url=self._ws_url, routes=self._routes)
