"""The daemon's parts, wired: lines, snapshots and figures from the venue, the heart, sinks, HTTP.

Answers for what starts in which order, for readiness, and for an end in order: no frame taken any more, sinks
flushed, everything closed. Knows no signal and no command line, so that a test or the demo can run it as well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from mdfeed import sinks, venues
from mdfeed._clock import now_ns
from mdfeed._feed import Feed
from mdfeed._resp import RespOutbox
from mdfeed._valve import Valve
from mdfeed.api import Api
from mdfeed.clock import ClockWatch
from mdfeed.config import Config, mask
from mdfeed.connects import ConnectBudget
from mdfeed.departed import Departed
from mdfeed.exposition import Exposition
from mdfeed.gate import Gate, tls_context
from mdfeed.http import HttpServer
from mdfeed.journal import Journal
from mdfeed.kept import ListedFile, file_of, open_folder
from mdfeed.lasting import lasting
from mdfeed.lease import TTL_MS, Leases
from mdfeed.legacy_metrics import LegacyMetrics
from mdfeed.lines import Lines
from mdfeed.logs import say_folded
from mdfeed.metrics import FeedCollector, LoopLag, Part, package_version
from mdfeed.notify import notify, watchdog_interval_s
from mdfeed.page import Page
from mdfeed.readiness import books_not_good, named, sources_in_use, venue_troubles
from mdfeed.rehearsal import Rehearsal
from mdfeed.resume import Resume
from mdfeed.roster import Roster
from mdfeed.upkeep import Upkeep
from mdfeed.upkeep_metrics import UpkeepMetrics
from mdfeed.view import View
from mdfeed.viewers import Viewers

log = logging.getLogger(__name__)

TICK_S = 0.25
FIRST_LEVELS = 50  # as many as the venue gives for the least weight
SINK_CLOSE_S = 2.0
PAST_S = 1.0  # so long lines wait for what Redis knows of the last daemon's trades


class Service:
    """One venue's symbols, from the sockets to the sinks, as `config` says.

    `run` serves until its task is cancelled or `stop` is called, then ends in order. Raises ConfigError for what the
    configuration cannot mean and MdfeedError when the HTTP port is taken, both before anything has connected; and
    MdfeedError when another daemon holds a symbol's lease, before anything is published (`takeover`: take it).
    """

    def __init__(self, config: Config, *, takeover: bool = False) -> None:
        self.config = config
        self.venue = venues.of(config)
        state = open_folder(config)
        self.feed = Feed(
            self.venue,
            depth=config.order_book_depth,
            max_levels=config.book.max_levels,
            buffer_bytes=config.book.buffer_mib << 20,
            snapshot_limit=config.book.snapshot_limit,
            first_limit=self._first_limit(),
            audit_s=config.book.audit_s,
            recall_bytes=config.forensics.recall_mib << 20 if state is not None else 0,
        )
        for symbol in config.symbols:
            self.feed.add(symbol)
        epoch = time.time_ns() // 1_000_000
        self.sink = sinks.open(
            config.redis_url,
            self.feed.instruments,
            epoch=epoch,
            outputs=frozenset(config.redis.outputs),
            trades_maxlen=config.redis.trades_maxlen,
            events_maxlen=config.redis.events_maxlen,
        )
        self.outbox, self.leases = self.sink.outbox, None
        self.departed = Departed(self.sink)
        if config.redis.leases and self.sink.name == "redis":
            self.outbox = valve = Valve(self.sink.outbox, owes_trades="trades_stream" in config.redis.outputs)
            tracks, index_of = self.feed.tracks, partial(self.departed.index_of, self.feed.tracks)
            self.leases = Leases(
                config.redis_url, valve, tracks.keys, index_of, self._say_again, self.departed, takeover=takeover
            )
        self.feed.attach(self.outbox)
        self.sink.on_ready = self._refresh
        self.sink.on_again = self._say_all
        self._takeover = takeover
        self._connects = 0
        self.journal = Journal(self.feed, self.sink, now_ns)
        self.resume = self._resume(epoch)
        self.upkeep = Upkeep(
            self.feed,
            self.venue,
            flush=self.sink.flush,
            rest_url=config.exchange_rest_url,
            ws_url=config.exchange_ws_url,
            state=state,
            weight_share=config.rest.weight_share,
            forensics_kept=config.forensics.keep,
            follow_partials=lambda symbols: self.lines.follow_partials(symbols),
        )
        self.lines = self._lines()
        rest = self.upkeep.rest
        listed = ListedFile(file_of(state, config.exchange_rest_url, "listed") if state is not None else None)
        self.roster = Roster(config, self.feed, self.venue, rest, self.lines, self.sink.flush, listed)
        self.clock = ClockWatch(self.feed, self.venue, rest)
        self.rehearsal = self._rehearsal()
        self.lag = LoopLag()
        self.api = Api(self.feed, config.order_book_depth, now_ns)
        more: list[Part] = [UpkeepMetrics(self.feed, self.upkeep, now_ns)]
        if config.metrics.legacy_names:
            more.append(LegacyMetrics(self.feed, self.sink, self._published_of))
        collector = FeedCollector(self.feed, self.lines.streams, [self.sink], self.lag, now_ns, more)
        view = View(
            self.feed,
            self.api,
            ready=self.ready,
            streams=self.lines.streams,
            sinks=[self.sink],
            lag=self.lag,
            now_ns=now_ns,
        )
        self.http = HttpServer(
            config.http.host,
            config.health_port,
            health=self.health,
            ready=self.ready,
            metrics=Exposition(collector).render,
            api=self.api,
            page=Page(Viewers(view, config.http.origins)),
            gate=Gate(config.http.auth),
            tls=tls_context(config),
        )
        self._stopping = asyncio.Event()

    def _first_limit(self) -> int:
        """Levels a side of the cheap snapshot that seats a book: the venue gives some numbers of them only."""
        book, limits = self.config.book, self.venue.snapshot_limits
        if book.snapshot_limit not in limits:
            choices = ", ".join(map(str, limits))
            raise self.config.error("book.snapshot_limit", f"{self.venue.name} gives {choices}: {book.snapshot_limit}")
        least = min(max(FIRST_LEVELS, self.config.order_book_depth), book.snapshot_limit)
        return min(limit for limit in limits if limit >= least)

    def _rehearsal(self) -> Rehearsal | None:
        period_us, play = self.config.latency.keep_warm_us, self.venue.rehearsal()
        if not period_us:
            return None
        if play is None:
            raise self.config.error("latency.keep_warm_us", f"there are no made-up frames of {self.venue.name}")
        return Rehearsal(
            self.venue,
            play,
            self.config.order_book_depth,
            self.feed.processing,
            period_us,
            outputs=self.config.redis.outputs,
        )

    def _resume(self, epoch: int) -> Resume | None:
        config = self.config
        if self.sink.name != "redis" or "trades_stream" not in config.redis.outputs:
            return None
        return Resume(
            config.redis_url,
            self.feed,
            config.symbols,
            epoch=epoch,
            maxlen=config.redis.trades_maxlen,
            now_ns=now_ns,
            valve=self.outbox if isinstance(self.outbox, Valve) else None,
        )

    def _lines(self) -> Lines:
        config, governor = self.config, self.upkeep.governor
        depth = "depth" if config.depth_stream == "250ms" else f"depth@{config.depth_stream}"
        return Lines(
            self.venue,
            self.feed,
            [depth if channel.startswith("depth") else channel for channel in self.venue.default_channels],
            flush=self.sink.flush,
            ws_url=config.exchange_ws_url,
            routes=config.exchange_routes,
            transport=config.transport,
            max_streams=config.lines.max_streams,
            redundancy=config.lines.redundancy,
            max_age_s=config.lines.max_age_h * 3600.0,
            budget=ConnectBudget(
                config.lines.max_connects,
                forbidden_s=lambda: governor.no_dial_s,
                on_refused=partial(governor.stop, is_of_upgrade=True),
            ),
            reconnect_delay_ms=config.reconnect_delay_ms,
            max_reconnect_delay_ms=config.max_reconnect_delay_ms,
        )

    def _published_of(self, symbol: str) -> dict[str, int]:
        """Publications of a symbol by type, where the sink counts them."""
        outbox = self.sink.outbox
        return outbox.published_of(self.feed.instruments.index(symbol)) if isinstance(outbox, RespOutbox) else {}

    # ---- what is asked from outside

    def stop(self) -> None:
        """End `run` in order."""
        self._stopping.set()

    async def reload(self, read: Callable[[], Config]) -> None:
        """Take over the symbols of the configuration that `read` loads; a mistake in it is logged, nothing else."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        before = dict(self.feed.tracks)
        try:
            await self.roster.reload(read)
        finally:
            notify("READY=1")
        tracks = self.feed.tracks
        added = [symbol for symbol, track in tracks.items() if before.get(symbol) is not track]
        self.departed.note(before, tracks)
        if self.leases is not None:
            self.leases.begin(added)
        else:
            self._say_again(added)

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
        if self.sink.is_connected and self.sink.trouble:
            reasons.append(f"{self.sink.name}: {self.sink.trouble}")
        if self.leases is not None and self.sink.is_connected:
            reasons += self.leases.reasons()
        if bad := list(books_not_good(self.feed.tracks)):
            reasons += [*bad, *self.lines.troubles(), *venue_troubles(self.upkeep)]
        reasons += self.roster.reasons()
        if self._stopping.is_set():
            reasons.append("stopping")
        if reasons:
            return 503, {"status": "not_ready", "reasons": reasons}
        notes = sources_in_use(self.feed.tracks, self.upkeep)
        return 200, {"status": "ready", "notes": notes} if notes else {"status": "ready"}

    # ---- the run

    async def run(self) -> None:
        """Serve until stopped or cancelled."""
        await self.http.start()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.http.stop)
            log.info(
                "mdfeed %s: %s on %s, to %s, page at %s",
                package_version(),
                named(self.config.symbols),
                self.venue.name,
                mask(self.config.redis_url),
                self.http.url,
            )
            if self.config.origin.get("shm_name", "default") != "default":
                log.info("shm_name is accepted, but there is no shared-memory ring yet")
            self.lag.start()
            stack.push_async_callback(self.lag.stop)
            notify("READY=1")
            inward = asyncio.create_task(self._inward(), name="venue")
            outward = asyncio.create_task(self._outward(), name="sink and clock")
            stopping = asyncio.create_task(self._stopping.wait(), name="stop")
            tasks = [inward, outward, stopping]
            if self.leases is not None:
                tasks.append(asyncio.create_task(self.leases.run(), name="leases"))
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
                if self.leases is not None:
                    await self.leases.close()
            for task in tasks:
                if not task.cancelled() and task.exception() is not None:
                    raise task.exception()  # type: ignore[misc]
            log.info("stopped")

    async def _inward(self) -> None:
        """Everything that comes from the venue."""
        await self.roster.open()
        if self.resume is not None:
            await self.resume.known(PAST_S)  # nobody may be told anything before; and a hole is known at once
        async with asyncio.TaskGroup() as group:
            group.create_task(self.upkeep.run(), name="upkeep")
            group.create_task(lasting("symbols", self.roster.run), name="symbols")
            group.create_task(self.lines.run(), name="lines")
            group.create_task(lasting("clocks", self.clock.run), name="clocks")
            if self.rehearsal is not None:
                group.create_task(lasting("rehearsal", self.rehearsal.run), name="rehearsal")

    async def _outward(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lasting("sink", self.sink.run), name="sink")
            group.create_task(lasting("tick", self._tick), name="tick")
            group.create_task(lasting("watchdog", self._beat), name="watchdog")
            if self.resume is not None:
                group.create_task(lasting("past trades", self.resume.run), name="past trades")

    async def _tick(self) -> None:
        while True:
            self.feed.tick(now_ns())
            self.departed.look()
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
            say_folded()
            await asyncio.sleep(interval_s or 5.0)

    def _log_events(self) -> None:
        if self.leases is None or self.leases.held:  # else nobody would be told
            self.journal.tell()
        for event in self.journal.log(self._stopping.is_set()):
            if event.kind == "shutdown":
                self.lines.roll_over(event.detail["line"], "shutdown")

    def _refresh(self) -> None:
        """The sink's far side is there (again): everything is said anew."""
        if self.leases is not None:
            if self.resume is not None and self._connects != (connects := self.sink.counters()["reconnects"]):
                self._connects = connects
                self.resume.doubt()
            self.leases.doubt()  # it may have forgotten whose they are: _say_again follows once they are confirmed
        elif self.resume is not None:
            self.resume.ask(self.feed.tracks)
        self._say_all()

    def _say_all(self) -> None:
        """Everything anew; without leases held nobody would hear it, and _say_again follows."""
        if self.leases is not None and not self.leases.held:
            return
        self.feed.refresh(self.outbox, now_ns())
        self.departed.say(self.departed, now_ns())
        self.sink.flush()

    def _say_again(self, symbols: list[str]) -> None:
        """These symbols may be published (again)."""
        if self.resume is not None:
            # One that was pushed aside publishes until it knows.
            wait_s, self._takeover = (TTL_MS / 1000 if self._takeover else 0.0), False
            asyncio.get_running_loop().call_later(wait_s, self.resume.ask, symbols)
        for symbol in symbols:
            if symbol in self.feed.tracks:
                self.feed.tracks[symbol].refresh(now_ns())
        self.departed.say(symbols, now_ns())
        self.sink.flush()
