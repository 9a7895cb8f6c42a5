"""The daemon's parts, wired: lines, snapshots and figures from the venue, the heart, sinks, HTTP.

Answers for what starts in which order, for readiness, and for an end in order: no frame taken any more, sinks
flushed, everything closed. Knows no signal and no command line, so that a test or the demo can run it as well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import Any

from mdfeed import sinks, venues
from mdfeed._feed import Feed
from mdfeed._line import Line
from mdfeed.config import Config, mask
from mdfeed.dial import dial
from mdfeed.errors import VenueError
from mdfeed.http import HttpServer
from mdfeed.metrics import Exposition, FeedCollector, LoopLag, package_version
from mdfeed.notify import notify, watchdog_interval_s
from mdfeed.refusals import Backoff, of_exception
from mdfeed.stream import Stream
from mdfeed.upkeep import Upkeep, state_folder

log = logging.getLogger(__name__)

TICK_S = 0.25
RECALL_BYTES = 4 << 20  # of newest frames, for forensics
SINK_CLOSE_S = 2.0
GOOD = ("LIVE", "PROVED")
BAD = ("STALE", "SUSPECT")
# Event kinds that are routine; everything else deserves a warning.
ROUTINE = frozenset({"reseated", "removed", "fuse_rearmed", "shutdown", "trades_filled"})


class Service:
    """One venue's symbols, from the sockets to the sinks, as `config` says.

    `run` serves until its task is cancelled or `stop` is called, then ends in order. Raises ConfigError for what the
    configuration cannot mean and MdfeedError when the HTTP port is taken, both before anything has connected.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.venue = venues.get(config.venue)
        self.feed = Feed(
            self.venue,
            depth=config.order_book_depth,
            max_levels=config.book.max_levels,
            buffer_bytes=config.book.buffer_mib << 20,
            snapshot_limit=config.book.snapshot_limit,
            recall_bytes=RECALL_BYTES if state_folder() is not None else 0,
        )
        for symbol in config.symbols:
            self.feed.add(symbol)
        self.sink = sinks.open(
            config.redis_url,
            self.feed.instruments,
            epoch=time.time_ns() // 1_000_000,
            outputs=frozenset(config.redis.outputs),
        )
        self.feed.attach(self.sink.outbox)
        self.sink.on_ready = self._refresh
        self.upkeep = Upkeep(
            self.feed,
            self.venue,
            flush=self.sink.flush,
            rest_url=config.exchange_rest_url,
            ws_url=config.exchange_ws_url,
            state=state_folder(),
        )
        self.streams: list[Stream] = []
        self.lag = LoopLag()
        collector = FeedCollector(self.feed, self.streams, [self.sink], self.upkeep.rest, self.lag)
        self.http = HttpServer(
            config.http.host,
            config.health_port,
            health=self.health,
            ready=self.ready,
            metrics=Exposition(collector).render,
        )
        self._stopping = asyncio.Event()

    # ---- what is asked from outside

    def stop(self) -> None:
        """End `run` in order."""
        self._stopping.set()

    def health(self) -> tuple[int, dict[str, Any]]:
        """The event loop turns, or this would not answer; that is all it says."""
        is_stopping = self._stopping.is_set()
        status = "stopping" if is_stopping else "healthy"
        return 503 if is_stopping else 200, {
            "service": "market-data",
            "status": status,
            "version": package_version(),
        }

    def ready(self) -> tuple[int, dict[str, Any]]:
        """Ready: the sink answers and every configured book is LIVE or PROVED (a silent one is STALE)."""
        reasons = [] if self.sink.is_connected else [f"{self.sink.name}: not connected"]
        for symbol, track in self.feed.tracks.items():
            if track.state not in GOOD:
                reasons.append(f"{symbol}: {track.state} ({track.reason})")
        if reasons and self.upkeep.snapshots.trouble:
            reasons.append(self.upkeep.snapshots.trouble)
        if self._stopping.is_set():
            reasons.append("stopping")
        return (503, {"status": "not_ready", "reasons": reasons}) if reasons else (200, {"status": "ready"})

    # ---- the run

    async def run(self) -> None:
        """Serve until stopped or cancelled."""
        await self.http.start()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.http.stop)
            log.info(
                "mdfeed %s: %s on %s, to %s, http on port %d",
                package_version(),
                ", ".join(self.config.symbols),
                self.venue.name,
                mask(self.config.redis_url),
                self.http.port,
            )
            if self.config.origin.get("shm_name", "default") != "default":
                log.info("shm_name is accepted, but there is no shared-memory ring yet")
            self.lag.start()
            stack.push_async_callback(self.lag.stop)
            notify("READY=1")
            inward = asyncio.create_task(self._inward(), name="venue")
            outward = asyncio.create_task(self._outward(), name="sink and clock")
            stopping = asyncio.create_task(self._stopping.wait(), name="stop")
            tasks = (inward, outward, stopping)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                # In order: no frame is taken any more, then what is encoded goes out, then the sink closes.
                notify("STOPPING=1")
                self._stopping.set()
                for task in tasks:
                    task.cancel()
                    await asyncio.wait([task])
                self._log_events()
                self.sink.flush()
                await self.sink.close(SINK_CLOSE_S)
            for task in (inward, outward):
                if not task.cancelled() and task.exception() is not None:
                    raise task.exception()  # type: ignore[misc]
            log.info("stopped")

    async def _inward(self) -> None:
        """Everything that comes from the venue."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.upkeep.run(), name="upkeep")
            group.create_task(self._serve_lines(group), name="lines")

    async def _outward(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sink.run(), name="sink")
            group.create_task(self._tick(), name="clock")
            group.create_task(self._beat(), name="watchdog")

    async def _tick(self) -> None:
        while True:
            self.feed.tick(time.time_ns())
            self._log_events()
            self.sink.flush()
            await asyncio.sleep(TICK_S)

    async def _beat(self) -> None:
        """Tells the service manager that the loop turns: only that, or an outage of the venue would end the service."""
        interval_s = watchdog_interval_s()
        told = ""
        while True:
            status, body = self.ready()
            text = "ready" if status == 200 else "; ".join(body["reasons"])[:200]
            if text != told:
                notify(f"STATUS={text}")
                told = text
            if interval_s is not None:
                notify("WATCHDOG=1")
            await asyncio.sleep(interval_s or 5.0)

    def _log_events(self) -> None:
        events = self.feed.publisher.events
        while events:
            event = events.popleft()
            level = logging.INFO if event.kind in ROUTINE else logging.WARNING
            if event.kind == "state":
                state, reason, last_id = event.detail.values()
                level = logging.WARNING if state in BAD else logging.INFO
                log.log(level, "%s %s (%s) at id %d", event.symbol, state, reason, last_id)
            else:
                detail = " ".join(f"{key}={value}" for key, value in event.detail.items())
                log.log(level, "%s %s", " ".join(filter(None, (event.symbol, event.kind))), detail)

    def _refresh(self) -> None:
        """The sink's far side is there (again): everything is said anew."""
        self.feed.refresh(self.sink.outbox, time.time_ns())
        self.sink.flush()

    # ---- the venue's side

    async def _serve_lines(self, group: asyncio.TaskGroup) -> None:
        routes = await self._choose_routes()
        depth = "depth" if self.config.depth_stream == "250ms" else f"depth@{self.config.depth_stream}"
        channels = [depth if channel.startswith("depth") else channel for channel in self.venue.default_channels]
        plans = self.venue.plan(
            self.config.symbols,
            channels,
            ws_url=self.config.exchange_ws_url,
            routes=routes,
            max_streams=self.config.lines.max_streams,
        )
        for plan in plans:
            stream = Stream(
                plan,
                self.venue,
                self.feed,
                flush=self.sink.flush,
                transport=self.config.transport,
                reconnect_delay_ms=self.config.reconnect_delay_ms,
                max_reconnect_delay_ms=self.config.max_reconnect_delay_ms,
            )
            self.streams.append(stream)
            group.create_task(stream.run(), name=f"line {plan.name}")

    async def _choose_routes(self) -> str:
        """ "split" or "single": as configured; "auto" asks a host that is not the venue's own which it serves."""
        routes, url = self.config.exchange_routes, self.config.exchange_ws_url
        if routes != "auto" or self.venue.base_url(url) == self.venue.base_url():
            return routes
        probe = self.venue.plan(self.config.symbols[:1], ["bookTicker"], ws_url=url, routes="split")[0]
        if not probe.route:
            return "single"
        backoff = Backoff(self.config.reconnect_delay_ms / 1000, self.config.max_reconnect_delay_ms / 1000)
        while True:
            try:
                connection = await dial(self.config.transport, probe.url, lambda: Line(_Nobody(), 0, lambda: None))
            except (OSError, VenueError) as error:
                refusal = of_exception(error)
                if refusal.reason == "not_found":
                    log.info("%s has no separate routes: one connection for all channels", url)
                    return "single"
                log.warning("no route to the venue at %s: %s; retrying", url, refusal.text)
                await asyncio.sleep(backoff.wait_s(refusal))
            else:
                await connection.close()
                return "split"


class _Nobody:
    """Takes what a probing connection may bring."""

    def receive(self, line: int, frame: bytes, recv_ns: int, /) -> None:
        """Nothing is wanted of it."""
