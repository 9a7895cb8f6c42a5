"""One line of a venue kept alive for months: connect, back off, again; and replaced by a successor before it ends.

Answers for reconnecting after any end (a clean close too) within the venue's limit of connects, for replacing a
connection make-before-break (the successor delivers before the old one is closed, and the heart merges both by the
venue's ids), and for one clear log line a trouble. What happens on one connection is the Session's.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from mdfeed._clock import now_ns
from mdfeed.connects import ConnectBudget
from mdfeed.errors import SubscribeError
from mdfeed.refusals import Backoff, Fold, Refusal
from mdfeed.session import Dialect, Heart, Means, Patience, Plan, Session

log = logging.getLogger(__name__)

__all__ = ["Patience", "Plan", "Stream"]

POLL_S = 0.02  # between looks at a successor, which are hours apart and last a second


class Leg:
    """A session and its task."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.task = asyncio.create_task(session.run(), name=f"connection {session.plan.name}")

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))


class Stream:
    """One line of a venue. `run` serves it until cancelled; the rest is for those who watch.

    `feed` takes the frames (mdfeed's Feed, or any Heart); `flush` is called once a socket read and after a loss.
    `transport` is "picows" or "websockets". Delays are in milliseconds, as in the configuration. A connection is
    replaced when it is `max_age_s` old, when `roll_over` says so, and when `replan` has changed what it carries.
    `budget` is shared by all lines of the venue.
    """

    def __init__(
        self,
        plan: Plan,
        venue: Dialect,
        feed: Heart,
        *,
        flush: Callable[[], object],
        transport: str = "picows",
        now_ns: Callable[[], int] = now_ns,
        reconnect_delay_ms: int = 1000,
        max_reconnect_delay_ms: int = 60000,
        ssl_context: ssl.SSLContext | None = None,
        patience: Patience | None = None,
        max_age_s: float = float("inf"),
        budget: ConnectBudget | None = None,
    ) -> None:
        self.plan = plan
        self.reconnects: Counter[str] = Counter()  # by reason, failed attempts included
        self.rollovers: Counter[str] = Counter()  # by reason: successors that took over
        self.last_error: str | None = None
        self.reason: str | None = None  # token of the newest end or refusal
        self.refused_streams: Counter[str] = Counter()  # SUBSCRIBE answers with an error, by their text
        self._patience = patience or Patience()
        self._means = Means(venue, feed, flush, now_ns, transport, self._patience, ssl_context)
        self._max_age_s = max_age_s
        self._budget = budget or ConnectBudget()
        self._backoff = Backoff(reconnect_delay_ms / 1000, max_reconnect_delay_ms / 1000)
        self._roll_backoff = Backoff(reconnect_delay_ms / 1000, max_reconnect_delay_ms / 1000)
        self._roll_not_before_s = 0.0  # loop time
        self._asked: str | None = None  # why a successor is asked for
        self._poked = asyncio.Event()
        self._legs: list[Leg] = []
        self._frames = self._bytes = self._last_frame_ns = 0  # of ended connections
        self._fold = Fold()

    # ---- for those who watch

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def is_connected(self) -> bool:
        return any(leg.session.is_open for leg in self._legs)

    @property
    def connected_since(self) -> int | None:
        """UTC ns of the newest connection's upgrade; None while there is none."""
        return max((leg.session.connected_since or 0 for leg in self._legs), default=0) or None

    @property
    def trouble(self) -> str:
        """Why nothing comes, for people; "" while something does."""
        if not self.is_connected:
            return f"not connected ({self.last_error or self._budget.waits_for})"
        return "connected, and shows nothing" if all(leg.session.is_deaf for leg in self._legs) else ""

    @property
    def silent_streams(self) -> tuple[str, ...]:
        """Streams without a first frame at the deadline, on the connection that serves."""
        return self._legs[0].session.silent_streams if self._legs else ()

    @property
    def frames(self) -> int:
        """Messages received, over all connections."""
        return self._frames + sum(leg.session.line.frames for leg in self._legs if leg.session.line)

    @property
    def bytes(self) -> int:
        """Payload bytes received, over all connections."""
        return self._bytes + sum(leg.session.line.payload_bytes for leg in self._legs if leg.session.line)

    @property
    def last_frame_ns(self) -> int:
        """UTC ns of the newest message, 0 before the first."""
        return max([self._last_frame_ns, *(leg.session.line.last_frame_ns for leg in self._legs if leg.session.line)])

    # ---- what is asked from outside

    def roll_over(self, reason: str) -> None:
        """Replace the connection now, make-before-break. Nothing to do while there is none: a new one is coming."""
        if self._legs and self._asked is None:
            self._asked = reason
            self._poked.set()

    def replan(self, plan: Plan) -> None:
        """Carry this from now on: by a successor if there is a connection, else by the next one."""
        self.plan = plan
        self._poked.set()

    # ---- the run

    async def run(self) -> None:
        """Keeps the line up until cancelled. No far side's behaviour ends it."""
        if self._means.ssl_context is None and self.plan.url.startswith("wss:"):
            # Once: it reads the system's certificates.
            self._means = replace(self._means, ssl_context=ssl.create_default_context())
        try:
            leg: Leg | None = None
            while True:
                leg = leg or await self._start()
                why = await self._until_due(leg)
                if why is None:
                    wait_s = self._note_end(leg)
                    leg = None
                    await asyncio.sleep(wait_s)
                else:
                    leg = await self._roll(leg, why)
        finally:
            for leg in list(self._legs):
                await leg.end()
                self._drop(leg)

    async def _start(self) -> Leg:
        await self._budget.turn()
        if not self._legs:
            self._asked = None
        leg = Leg(Session(self.plan, self._means, self._note_refused))
        self._legs.append(leg)
        return leg

    def _drop(self, leg: Leg) -> None:
        self._legs.remove(leg)
        line = leg.session.line
        if line is not None:
            self._frames += line.frames
            self._bytes += line.payload_bytes
            self._last_frame_ns = max(self._last_frame_ns, line.last_frame_ns)

    def _note_end(self, leg: Leg) -> float:
        # Counts and reports; seconds to wait before the next attempt.
        refusal = leg.task.result()
        lived_s = asyncio.get_running_loop().time() - leg.session.opened_at_s if leg.session.line else 0.0
        self._drop(leg)
        self._budget.refused(refusal)
        if lived_s >= self._patience.stable_s:
            self._backoff.reset()
        self.reconnects[refusal.reason] += 1
        self.reason, self.last_error = refusal.reason, refusal.text
        wait_s = self._backoff.wait_s(refusal)
        held = self._fold.let_through(refusal.reason)
        if held is not None:
            log.warning("line %s: %s; again in %.1f s%s", self.name, refusal.text, wait_s, held)
        return wait_s

    def _note_refused(self, error: SubscribeError) -> None:
        self.last_error = str(error)
        self.refused_streams[str(error)] += 1
        if self.refused_streams[str(error)] == 1:
            log.error("line %s: %s", self.name, error)

    # ---- make before break

    async def _until_due(self, leg: Leg) -> str | None:
        """Why the connection has to be replaced; None when it has ended by itself."""
        loop, session = asyncio.get_running_loop(), leg.session
        while not leg.task.done():
            self._poked.clear()
            pause_s = self._roll_not_before_s - loop.time()
            if pause_s <= 0 and session.is_open:
                if self._asked is not None:
                    return self._asked
                if session.plan is not self.plan:
                    return "plan"
                if session.age_s >= self._max_age_s:
                    return "age"
                if session.is_deaf:
                    return "deaf"
                pause_s = self._max_age_s - session.age_s
                if session.line is not None and not session.line.frames:
                    pause_s = min(pause_s, max(self._patience.deaf_s - session.age_s, 0.01))
            elif not session.is_open:
                pause_s = 0.1  # the upgrade tells nobody
            poked = loop.create_task(self._poked.wait())
            try:
                await asyncio.wait((leg.task, poked), timeout=min(pause_s, 3600.0), return_when=asyncio.FIRST_COMPLETED)
            finally:
                poked.cancel()
        return None

    async def _roll(self, old: Leg, why: str) -> Leg:
        """A successor beside `old`; returns the one that serves from now on, which may have ended already."""
        loop = asyncio.get_running_loop()
        successor = await self._start()
        log.info("line %s: a successor is opened (%s)", self.name, why)
        while not (old.task.done() or successor.task.done() or self._carries(successor.session, old.session)):
            await asyncio.sleep(POLL_S)
        if not (old.task.done() or successor.task.done()):
            # What was sent before the successor subscribed may still be on its way to the old connection.
            await asyncio.wait(
                (old.task, successor.task), timeout=self._patience.settle_s, return_when=asyncio.FIRST_COMPLETED
            )
        if successor.task.done() or self._is_deaf(successor.session, old.session):
            await successor.end()
            refusal = successor.task.result() if not successor.task.cancelled() else Refusal("deaf", "it shows nothing")
            self._drop(successor)
            self._budget.refused(refusal)
            self.reconnects[refusal.reason] += 1
            wait_s = self._roll_backoff.wait_s(refusal)
            self._roll_not_before_s = loop.time() + wait_s
            log.warning("line %s: no successor: %s; again in %.1f s", self.name, refusal.text, wait_s)
            return old
        if old.task.done():
            self._note_end(old)
        else:
            self._retire(old, why)
            await asyncio.wait((old.task,))
            if old.session.opened_at_s + self._patience.stable_s < loop.time():
                self._roll_backoff.reset()
            self._drop(old)
            self.rollovers[why] += 1
        self._asked = None
        self._roll_not_before_s = loop.time() + self._roll_backoff.wait_s()
        return successor

    def _retire(self, old: Leg, why: str) -> None:
        log.info("line %s: the successor has taken over (%s)", self.name, why)
        old.session.retire(why)

    def _carries(self, session: Session, old: Session) -> bool:
        """The successor has shown every stream that the old connection has, or waited long enough for quiet ones."""
        if not session.is_open or session.line is None:
            return False
        if session.age_s >= self._patience.overlap_s:
            return True
        wanted = [stream for stream in session.streams if old.has_seen(stream)]
        if not wanted:
            return session.age_s >= min(self._patience.settle_s, self._patience.overlap_s)
        return all(session.has_seen(stream) for stream in wanted)

    def _is_deaf(self, session: Session, old: Session) -> bool:
        """The old connection has delivered since the successor was opened, and the successor nothing."""
        if session.line is None or old.line is None:
            return False
        return session.line.frames == 0 and old.line.last_frame_ns > (session.connected_since or 0)
