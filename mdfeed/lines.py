"""All lines of one venue: which there are, on which route, and whether what they carry is alive.

Answers for choosing the routes of a host that is not the venue's own, for starting, changing and ending lines as
symbols come and go, for replacing a line on which a stream has fallen silent while others go on, and for looking on
the venue's other route for a stream that never shows a frame. One line's connections are the Stream's business, what
a frame means the heart's.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from mdfeed._clock import now_ns
from mdfeed._line import Line
from mdfeed.connects import ConnectBudget
from mdfeed.dial import dial
from mdfeed.lasting import lasting
from mdfeed.layout import Layout
from mdfeed.refusals import Backoff, of_exception
from mdfeed.session import Heart as SessionHeart
from mdfeed.session import Patience
from mdfeed.stream import Stream
from mdfeed.venues import LinePlan, Venue

log = logging.getLogger(__name__)

WATCH_S = 1.0
SPREAD = 0.2  # lines end their connections at 80 to 100 % of the age limit, spread evenly
GOLDEN = 0.618034
FIRST_CALM_S, LAST_CALM_S = 60.0, 3600.0  # between two replacements of one line by the watchdog
PROBE_STREAMS = 50  # streams that are looked for at once
PROBE_AGAIN_S = 600.0
# The heart's words for what a stream carries, and the channel's name before "@".
CHANNELS = {"depthUpdate": "depth", "24hrTicker": "ticker"}


class Alarm(Protocol):
    """A stream that should have spoken: `kind` is the heart's word, `line` a line's name, "" for all that carry it."""

    @property
    def symbol(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def line(self) -> str: ...


class Publisher(Protocol):
    def event(self, at_ns: int, symbol: str, kind: str, **detail: Any) -> None: ...


class Heart(SessionHeart, Protocol):
    """What of the Feed the lines need."""

    @property
    def publisher(self) -> Publisher: ...
    def alarms(self, now_ns: int, /) -> Iterable[Alarm]: ...


class Nobody:
    """Takes what a probing connection may bring."""

    def receive(self, line: int, frame: bytes, recv_ns: int, /) -> None:
        """Nothing is wanted of it."""


class Lines:
    """`run` serves the lines of `symbols` until cancelled; `follow` changes the symbols meanwhile.

    `streams` are the lines there are. `routes` as in the configuration; "auto" asks a host that is not the venue's own
    which it serves. `max_age_s` is how old a connection may become. `budget` says when a connection may be dialled.
    """

    def __init__(
        self,
        venue: Venue,
        feed: Heart,
        channels: Sequence[str],
        *,
        flush: Callable[[], object],
        ws_url: str | None = None,
        routes: str = "auto",
        transport: str = "picows",
        max_streams: int = 200,
        redundancy: int = 1,
        max_age_s: float = 23 * 3600.0,
        budget: ConnectBudget | None = None,
        reconnect_delay_ms: int = 1000,
        max_reconnect_delay_ms: int = 60_000,
        now_ns: Callable[[], int] = now_ns,
        patience: Patience | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.streams: list[Stream] = []
        self.replaced: dict[str, str] = {}  # line -> why the watchdog replaced it last
        self._venue = venue
        self._feed = feed
        self._channels = channels
        self._flush = flush
        self._ws_url = ws_url
        self._routes = routes
        self._transport = transport
        self._max_streams = max_streams
        self._redundancy = redundancy
        self._max_age_s = max_age_s
        self._delays_ms = (reconnect_delay_ms, max_reconnect_delay_ms)
        self._now_ns = now_ns
        self._patience = patience or Patience()
        self._ssl_context = ssl_context
        self._budget = budget or ConnectBudget()
        self._no_route = ""  # why the routes of a host cannot be told
        self._symbols: tuple[str, ...] = ()
        self._partials: tuple[str, ...] = ()
        self._layout: Layout | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._started = 0  # lines ever started
        self._calm: dict[str, tuple[float, float]] = {}  # line -> (loop time before which it is left alone, seconds)
        self._probed: dict[str, float] = {}  # line -> loop time of the newest probe
        self._prober: asyncio.Task[None] | None = None

    @property
    def findings(self) -> dict[str, str]:
        """Channels that were found on another route than the venue's table says, and where."""
        return dict(self._layout.found) if self._layout else {}

    def troubles(self) -> list[str]:
        """A sentence for each line that brings nothing, with its newest reason."""
        if self._layout is None:
            return [f"lines: no route to the venue ({self._no_route or self._budget.waits_for})"]
        return [f"line {stream.name}: {stream.trouble}" for stream in self.streams if stream.trouble]

    def follow(self, symbols: Sequence[str]) -> None:
        """Carry these symbols from now on. Those that stay keep their line; it is changed make-before-break."""
        self._symbols = tuple(symbols)
        if self._layout is not None:
            self._arrange()

    def follow_partials(self, symbols: Sequence[str]) -> None:
        """Carry the partial depth of these symbols as well, on lines of their own; none: end them."""
        self._partials = tuple(symbols)
        if self._layout is not None:
            self._arrange()

    def roll_over(self, name: str, reason: str) -> None:
        """Replace one line's connection now; an unknown name does nothing."""
        for stream in self.streams:
            if stream.name == name:
                stream.roll_over(reason)

    async def run(self) -> None:
        """Serve until cancelled. No far side's behaviour ends it."""
        routes = await self._choose_routes()
        layout = Layout(
            self._venue,
            self._channels,
            ws_url=self._ws_url,
            routes=routes,
            max_streams=self._max_streams,
            redundancy=self._redundancy,
        )
        async with asyncio.TaskGroup() as self._group:
            self._layout = layout
            self._arrange()
            await lasting("watch over lines", self._watch)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self._heed_alarms()
            self._look_for_silent()

    # ---- which lines there are

    def _arrange(self) -> None:
        assert self._layout is not None
        assert self._group is not None
        placed = self._layout.place(self._symbols) if self._symbols else []
        plans = {plan.name: plan for plan in (*placed, *self._layout.partials(self._partials))}
        for stream in list(self.streams):
            plan = plans.pop(stream.name, None)
            if plan is None:
                self.streams.remove(stream)
                self._tasks.pop(stream.name).cancel()
                log.info("line %s: nothing is left to carry", stream.name)
            elif plan != stream.plan:
                stream.replan(plan)
        for plan in plans.values():
            stream = self._stream(plan)
            self.streams.append(stream)
            self._tasks[plan.name] = self._group.create_task(
                lasting(f"line {plan.name}", stream.run), name=f"line {plan.name}"
            )

    def _stream(self, plan: LinePlan) -> Stream:
        early = SPREAD * (self._started * GOLDEN % 1.0)
        self._started += 1
        return Stream(
            plan,
            self._venue,
            self._feed,
            flush=self._flush,
            transport=self._transport,
            now_ns=self._now_ns,
            reconnect_delay_ms=self._delays_ms[0],
            max_reconnect_delay_ms=self._delays_ms[1],
            ssl_context=self._ssl_context,
            patience=self._patience,
            max_age_s=self._max_age_s * (1.0 - early),
            budget=self._budget,
        )

    async def _choose_routes(self) -> str:
        """ "split" or "single": as configured; "auto" asks a host that is not the venue's own which it serves."""
        routes, url = self._routes, self._ws_url
        if routes != "auto" or self._venue.base_url(url) == self._venue.base_url():
            return routes
        symbol = self._symbols[0] if self._symbols else "BTCUSDT"
        probe = self._venue.plan([symbol], ["bookTicker"], ws_url=url, routes="split")[0]
        if not probe.route:
            return "single"
        backoff = Backoff(self._delays_ms[0] / 1000, self._delays_ms[1] / 1000)
        while True:
            await self._budget.turn()
            try:
                connection = await dial(
                    self._transport,
                    probe.url,
                    lambda: Line(Nobody(), 0, lambda: None),
                    ssl_context=self._ssl_context,
                    timeout_s=self._patience.connect_s,
                )
            except Exception as error:  # a transport may say its trouble by whatever error
                refusal = of_exception(error)
                if refusal.reason == "not_found":
                    log.info("%s has no separate routes: one connection for all channels", url)
                    return "single"
                log.warning("no route to the venue at %s: %s; retrying", url, refusal.text)
                self._no_route = refusal.text
                self._budget.refused(refusal)
                await asyncio.sleep(backoff.wait_s(refusal))
            else:
                with suppress(Exception):
                    await connection.close()
                return "split"

    # ---- streams that fell silent

    def _heed_alarms(self) -> None:
        for alarm in self._feed.alarms(self._now_ns()):
            channel = CHANNELS.get(alarm.kind, alarm.kind)
            head = f"{alarm.symbol.lower()}@{channel}"
            for stream in self.streams:
                carries = any(name.partition("@")[2].partition("@")[0] == channel and name.startswith(head)
                              for name in (*stream.plan.streams, *stream.plan.late_streams))  # fmt: skip
                if carries and alarm.line in ("", stream.name):
                    self._replace(stream, head)

    def _replace(self, stream: Stream, silent: str) -> None:
        # A replacement that does not help is not repeated at once: the venue may have nothing to say.
        now_s = asyncio.get_running_loop().time()
        not_before_s, calm_s = self._calm.get(stream.name, (0.0, FIRST_CALM_S))
        if now_s < not_before_s:
            return
        if now_s > not_before_s + LAST_CALM_S:
            calm_s = FIRST_CALM_S
        self._calm[stream.name] = (now_s + calm_s, min(2 * calm_s, LAST_CALM_S))
        self.replaced[stream.name] = silent
        log.warning("line %s: %s is silent while others go on; the line is replaced", stream.name, silent)
        self._feed.publisher.event(self._now_ns(), "", "line_replaced", line=stream.name, silent=silent)
        stream.roll_over("silent_stream")

    # ---- streams that never spoke

    def _look_for_silent(self) -> None:
        if self._prober is not None and not self._prober.done():
            return
        now_s = asyncio.get_running_loop().time()
        for stream in self.streams:
            if stream.silent_streams and now_s >= self._probed.get(stream.name, 0.0):
                self._probed[stream.name] = now_s + PROBE_AGAIN_S
                assert self._group is not None
                self._prober = self._group.create_task(self._probe(stream), name=f"probe for {stream.name}")
                return

    async def _probe(self, stream: Stream) -> None:
        """Looks for a line's silent streams on the other route. That is a diagnosis: no fault in it ends the lines."""
        try:
            await self._look_on_the_other_route(stream)
        except Exception:
            log.exception("line %s: looking for its silent streams, a fault of ours", stream.name)

    async def _look_on_the_other_route(self, stream: Stream) -> None:
        """Looks for a line's silent streams on the venue's other route, and moves a channel that is found there."""
        layout = self._layout
        assert layout is not None
        silent = stream.silent_streams[:PROBE_STREAMS]
        channels = list(dict.fromkeys(name.partition("@")[2] for name in silent))
        route = layout.route(channels[0])
        other = layout.venue.other_route(route)
        if not route or other is None:
            return
        symbols = list(dict.fromkeys(name.partition("@")[0].upper() for name in silent))
        shown: set[str] = set()
        for plan in layout.on_route(other, symbols, channels):
            shown |= await self._shown_by(plan)
        found = [name for name in silent if name in shown]
        if not found:
            log.warning("line %s: silent on the route %s too: %s", stream.name, other, " ".join(silent[:5]))
            return
        for channel in dict.fromkeys(name.partition("@")[2] for name in found):
            carried = [name for name in stream.plan.streams if name.partition("@")[2] == channel]
            if any(name not in stream.silent_streams for name in carried):
                log.warning("some streams of %s are on route %s, others on %s", channel, route, other)
                continue
            log.warning("%s is silent on the route %s and speaks on %s: it is asked for there", channel, route, other)
            self._feed.publisher.event(self._now_ns(), "", "rerouted", channel=channel, route=other)
            layout.reroute(channel, other)
        self._arrange()

    async def _shown_by(self, plan: LinePlan) -> set[str]:
        """Streams of a plan that show a frame before the deadline; nothing when it cannot be opened."""
        await self._budget.turn()
        try:
            connection = await dial(
                self._transport,
                plan.url,
                lambda: Line(Nobody(), 0, lambda: None, streams=plan.streams),
                ssl_context=self._ssl_context,
                timeout_s=self._patience.connect_s,
            )
        except Exception as error:  # a transport may say its trouble by whatever error
            refusal = of_exception(error)
            self._budget.refused(refusal)
            log.warning("the route %s cannot be probed: %s", plan.route, refusal.text)
            return set()
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._patience.first_message_s
        try:
            while connection.line.unseen and not connection.line.over.done() and loop.time() < deadline_s:
                await asyncio.wait([connection.line.over], timeout=0.1)
            return set(plan.streams) - connection.line.unseen
        finally:
            with suppress(Exception):
                await connection.close()
