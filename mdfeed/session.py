"""One WebSocket connection from dialling to its end: subscribe, deliver, notice that it has died.

Answers for one connection only: why it ended (a Refusal, always), whether it is half-open, which of its streams have
shown a frame. Knows no second attempt and no successor (that is the Stream), and no frame's meaning.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from mdfeed._line import Line
from mdfeed.dial import Connection, dial
from mdfeed.errors import SubscribeError
from mdfeed.refusals import Refusal, of_exception

log = logging.getLogger(__name__)


class Plan(Protocol):
    """What a line carries: the venue's LinePlan. `late_streams` are subscribed by frames, the others by the URL."""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def streams(self) -> Sequence[str]: ...
    @property
    def late_streams(self) -> Sequence[str]: ...


class Dialect(Protocol):
    """What of a venue a connection needs."""

    def subscribe_frames(self, streams: Sequence[str], first_id: int, /) -> Iterable[str | bytes]: ...


class Heart(Protocol):
    """What of the Feed a connection needs."""

    def receive(self, line: int, frame: bytes, recv_ns: int, /) -> object: ...
    def open_line(self, name: str, streams: Sequence[str], now_ns: int, /) -> int: ...
    def lost(self, line: int, now_ns: int, reason: str, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a line waits for things. `messages_per_s` stays below the venue's 10, control frames included."""

    connect_s: float = 10.0
    silence_s: float = 10.0  # no frame of any kind: half-open. A PING of ours goes out after half of it
    stable_s: float = 60.0  # a connection that lasted so long resets the backoff
    deaf_s: float = 10.0  # a connection that has shown no frame by then is replaced: the wrong route answers nothing
    first_message_s: float = 30.0  # a stream without a frame by then is reported
    overlap_s: float = 10.0  # a successor need not show streams that are quiet for so long
    settle_s: float = 1.0  # the old connection's frames on their way, once the successor carries everything
    messages_per_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Means:
    """What all connections of a line share."""

    venue: Dialect
    feed: Heart
    flush: Callable[[], object]
    now_ns: Callable[[], int]
    transport: str
    patience: Patience
    ssl_context: ssl.SSLContext | None = None


class Session:
    """One attempt, and when it succeeds one connection's life. `run` returns why it ended and never raises for it."""

    def __init__(self, plan: Plan, means: Means, on_refused: Callable[[SubscribeError], object]) -> None:
        self.plan = plan
        self.streams = tuple(dict.fromkeys((*plan.streams, *plan.late_streams)))
        self.line: Line | None = None  # from the upgrade on; its counters stay readable after the end
        self.is_open = False
        self.connected_since: int | None = None  # UTC ns
        self.opened_at_s = 0.0  # loop time
        self.silent_streams: tuple[str, ...] = ()  # without a first frame at the deadline
        self._means = means
        self._on_refused = on_refused
        self._retired: Refusal | None = None
        self._request_ids = itertools.count(1)
        self._pending: set[int] = set()

    @property
    def age_s(self) -> float:
        """Seconds since the upgrade, 0 before it."""
        return asyncio.get_running_loop().time() - self.opened_at_s if self.is_open else 0.0

    @property
    def is_deaf(self) -> bool:
        """Open for long enough, and no frame has come: the far side may have accepted it and know nothing of it."""
        return self.line is not None and not self.line.frames and self.age_s >= self._means.patience.deaf_s

    def has_seen(self, stream: str) -> bool:
        """Whether a stream has shown a frame on this connection."""
        return self.line is not None and stream in self.streams and stream not in self.line.unseen

    def retire(self, reason: str) -> None:
        """Ends the connection in order; `run` returns a Refusal with this reason."""
        self._retired = Refusal(reason, "closed by us")
        if self.line is not None:
            self.line.end(reason, "closed by us")

    async def run(self) -> Refusal:
        """Connects, serves the connection to its end and says why it ended."""
        means = self._means
        connection: Connection | None = None
        why = Refusal("stopped", "closed by us")
        try:
            connection = await dial(
                means.transport,
                self.plan.url,
                self._open_line,
                ssl_context=means.ssl_context,
                timeout_s=means.patience.connect_s,
            )
            where = urlsplit(self.plan.url)
            log.info("line %s: connected to %s%s by %s", self.plan.name, where.netloc, where.path, means.transport)
            why = await self._attend(connection)
        except Exception as exc:
            why = of_exception(exc)
        finally:
            self._close_line(why.reason)
            if connection is not None:
                try:
                    await connection.close()
                except Exception as exc:  # a transport that has ended in this turn may say so by whatever error
                    log.debug("line %s: closed with %r", self.plan.name, exc)
        return why

    def _open_line(self) -> Line:
        # The upgrade has succeeded; frames may follow before dial() returns.
        means = self._means
        self.is_open = True
        self.opened_at_s = asyncio.get_running_loop().time()
        self.connected_since = means.now_ns()
        number = means.feed.open_line(self.plan.name, self.streams, self.connected_since)
        self.line = Line(means.feed, number, means.flush, streams=self.streams, on_reply=self._read_reply)
        return self.line

    def _close_line(self, reason: str) -> None:
        if self.line is None or not self.is_open:
            return
        self.is_open = False
        self.connected_since = None
        self.line.end("stopped", "closed by us")
        self._means.feed.lost(self.line.line, self._means.now_ns(), reason)
        try:
            self._means.flush()
        except Exception:
            log.exception("line %s: the sinks could not be flushed", self.plan.name)

    async def _attend(self, connection: Connection) -> Refusal:
        # Waits until the line is over, watching for silence.
        line, loop, patience = connection.line, asyncio.get_running_loop(), self._means.patience
        limit_s = patience.silence_s
        asked_at_read = -1  # how many reads there had been when our newest PING went out
        subscriber = loop.create_task(self._subscribe(connection))
        try:
            while not line.over.done():
                silence_s = line.silence_s
                if silence_s >= limit_s:
                    return Refusal("silent", f"nothing arrived for {silence_s:.1f} s, not even a PONG")
                if silence_s >= limit_s / 2 and asked_at_read != line.reads:
                    connection.ping()
                    asked_at_read = line.reads
                if self.age_s >= patience.first_message_s:
                    self._report_silent(line)
                rest_s = (limit_s if asked_at_read == line.reads else limit_s / 2) - silence_s
                await asyncio.wait([line.over], timeout=min(max(rest_s, 0.001), patience.first_message_s))
        finally:
            subscriber.cancel()
            with suppress(asyncio.CancelledError):
                await subscriber
        return self._retired or Refusal(line.reason or "error", line.detail or "")

    async def _subscribe(self, connection: Connection) -> None:
        # The venue counts messages a second, PONGs included, and disconnects who sends more.
        if not self.plan.late_streams:
            return
        first_id = next(self._request_ids)
        try:
            for offset, frame in enumerate(self._means.venue.subscribe_frames(self.plan.late_streams, first_id)):
                if offset:
                    next(self._request_ids)
                self._pending.add(first_id + offset)
                connection.line.expects_replies = True
                connection.send(frame.encode() if isinstance(frame, str) else frame)
                await asyncio.sleep(1 / self._means.patience.messages_per_s)
        except Exception as exc:
            self._on_refused(SubscribeError(f"subscribing failed: {exc!r}"))

    def _read_reply(self, frame: bytes) -> None:
        # `{"result":null,"id":1}`, `{"error":{"code":2,"msg":"..."},"id":1}`, or `{"code":2,"msg":"..."}` without id.
        try:
            reply = json.loads(frame)
        except ValueError:
            return  # the heart counts what is no JSON
        if not isinstance(reply, dict):
            return
        error = reply.get("error", reply if "code" in reply and "msg" in reply else None)
        if "id" in reply:
            self._pending.discard(reply["id"])
            if self.line is not None:
                self.line.expects_replies = bool(self._pending)
        if error is not None:
            code, text = (error.get("code"), error.get("msg")) if isinstance(error, dict) else (None, error)
            self._on_refused(SubscribeError(f"subscription refused: {code} {text}"))

    def _report_silent(self, line: Line) -> None:
        silent = tuple(sorted(line.unseen))
        if silent != self.silent_streams:
            self.silent_streams = silent
            if silent:
                listed = " ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
                log.warning("line %s: connected, but without a first message: %s", self.plan.name, listed)
            else:
                log.info("line %s: every stream has shown a message", self.plan.name)
