"""One WebSocket line kept alive: connect, subscribe, deliver, watch, back off, again.

Answers for reconnecting after any end (a clean close too), for the pace of requests to the venue, for noticing a dead
socket, and for one clear log line a trouble. Knows no frame's meaning: frames go from the Line to the heart.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from mdfeed._line import Line
from mdfeed.dial import Connection, dial
from mdfeed.errors import SubscribeError
from mdfeed.refusals import Backoff, Fold, Refusal, of_exception

log = logging.getLogger(__name__)

Frame = bytes  # Stream has a property of the type's name


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
    """What of a venue a line needs."""

    def subscribe_frames(self, streams: Sequence[str], first_id: int, /) -> Iterable[str | Frame]: ...


class Heart(Protocol):
    """What of the Feed a line needs."""

    def receive(self, line: int, frame: bytes, recv_ns: int, /) -> object: ...
    def open_line(self, name: str, streams: Sequence[str], now_ns: int, /) -> int: ...
    def lost(self, line: int, now_ns: int, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a line waits for things. `messages_per_s` stays below the venue's 10, control frames included."""

    connect_s: float = 10.0
    silence_s: float = 10.0  # no frame of any kind: half-open. A PING of ours goes out after half of it
    stable_s: float = 60.0  # a connection that lasted so long resets the backoff
    messages_per_s: float = 5.0


class Stream:
    """One line of a venue. `run` serves it until cancelled; the rest is for those who watch.

    `feed` takes the frames (mdfeed's Feed, or any Heart); `flush` is called once a socket read and after a loss.
    `transport` is "picows" or "websockets". Delays are in milliseconds, as in the configuration.
    """

    def __init__(
        self,
        plan: Plan,
        venue: Dialect,
        feed: Heart,
        *,
        flush: Callable[[], object],
        transport: str = "picows",
        now_ns: Callable[[], int] = time.time_ns,
        reconnect_delay_ms: int = 1000,
        max_reconnect_delay_ms: int = 60000,
        ssl_context: ssl.SSLContext | None = None,
        first_message_deadline_s: float = 30.0,
        patience: Patience | None = None,
    ) -> None:
        self.plan = plan
        self.reconnects: Counter[str] = Counter()  # by reason, failed attempts included
        self.is_connected = False
        self.connected_since: int | None = None  # UTC ns
        self.last_error: str | None = None
        self.reason: str | None = None  # token of the newest end or refusal
        self.silent_streams: tuple[str, ...] = ()  # without a first frame at the deadline
        self.refused_streams: Counter[str] = Counter()  # SUBSCRIBE answers with an error, by their text
        self._venue = venue
        self._feed = feed
        self._flush = flush
        self._transport = transport
        self._now_ns = now_ns
        self._ssl_context = ssl_context
        self._first_message_deadline_s = first_message_deadline_s
        self._patience = patience or Patience()
        self._backoff = Backoff(reconnect_delay_ms / 1000, max_reconnect_delay_ms / 1000)
        self._streams = tuple(dict.fromkeys((*plan.streams, *plan.late_streams)))
        self._line: Line | None = None
        self._frames = self._bytes = self._last_frame_ns = 0  # of earlier connections
        self._request_ids = itertools.count(1)
        self._pending: set[int] = set()
        self._fold = Fold()

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def frames(self) -> int:
        """Messages received, over all connections."""
        return self._frames + (self._line.frames if self._line else 0)

    @property
    def bytes(self) -> int:
        """Payload bytes received, over all connections."""
        return self._bytes + (self._line.payload_bytes if self._line else 0)

    @property
    def last_frame_ns(self) -> int:
        """UTC ns of the newest message, 0 before the first."""
        return (self._line.last_frame_ns if self._line else 0) or self._last_frame_ns

    async def run(self) -> None:
        """Keeps the line up until cancelled. No far side's behaviour ends it."""
        if self._ssl_context is None and self.plan.url.startswith("wss:"):
            self._ssl_context = ssl.create_default_context()  # once: it reads the system's certificates
        while True:
            refusal = await self._serve_connection()
            self.reconnects[refusal.reason] += 1
            self.reason, self.last_error = refusal.reason, refusal.text
            wait_s = self._backoff.wait_s(refusal)
            self._report(refusal, wait_s)
            await asyncio.sleep(wait_s)

    async def _serve_connection(self) -> Refusal:
        # One attempt and, when it succeeds, one connection's life; returns why it ended.
        connection: Connection | None = None
        try:
            connection = await dial(
                self._transport,
                self.plan.url,
                self._open_line,
                ssl_context=self._ssl_context,
                timeout_s=self._patience.connect_s,
            )
            where = urlsplit(self.plan.url)
            log.info("line %s: connected to %s%s by %s", self.name, where.netloc, where.path, self._transport)
            return await self._attend(connection)
        except Exception as exc:
            return of_exception(exc)
        finally:
            self.is_connected = False
            self.connected_since = None
            self._close_line()
            if connection is not None:
                await connection.close()

    def _open_line(self) -> Line:
        # The upgrade has succeeded; frames may follow before dial() returns.
        self._pending.clear()
        self.is_connected = True
        self.connected_since = self._now_ns()
        number = self._feed.open_line(self.name, self._streams, self.connected_since)
        self._line = Line(self._feed, number, self._flush, streams=self._streams, on_reply=self._read_reply)
        return self._line

    def _close_line(self) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        line.end("stopped", "closed by us")
        self._frames += line.frames
        self._bytes += line.payload_bytes
        self._last_frame_ns = line.last_frame_ns or self._last_frame_ns
        self._feed.lost(line.line, self._now_ns())
        try:
            self._flush()
        except Exception:
            log.exception("line %s: the sinks could not be flushed", self.name)

    async def _attend(self, connection: Connection) -> Refusal:
        # Waits until the line is over, watching for silence.
        line, loop = connection.line, asyncio.get_running_loop()
        opened_at = loop.time()
        limit_s = self._patience.silence_s
        asked_at_read = -1  # how many reads there had been when our newest PING went out
        subscriber = loop.create_task(self._subscribe(connection))
        try:
            while not line.over.done():
                now, silence_s = loop.time(), line.silence_s
                if silence_s >= limit_s:
                    return Refusal("silent", f"nothing arrived for {silence_s:.1f} s, not even a PONG")
                if silence_s >= limit_s / 2 and asked_at_read != line.reads:
                    connection.ping()
                    asked_at_read = line.reads
                if now - opened_at >= self._first_message_deadline_s:
                    self._report_silent(line)
                rest_s = (limit_s if asked_at_read == line.reads else limit_s / 2) - silence_s
                await asyncio.wait([line.over], timeout=min(max(rest_s, 0.001), self._first_message_deadline_s))
        finally:
            if loop.time() - opened_at >= self._patience.stable_s:
                self._backoff.reset()
            subscriber.cancel()
            with suppress(asyncio.CancelledError):
                await subscriber
        return Refusal(line.reason or "error", line.detail or "")

    async def _subscribe(self, connection: Connection) -> None:
        # The venue counts messages a second, PONGs included, and disconnects who sends more.
        if not self.plan.late_streams:
            return
        first_id = next(self._request_ids)
        try:
            for offset, frame in enumerate(self._venue.subscribe_frames(self.plan.late_streams, first_id)):
                if offset:
                    next(self._request_ids)
                self._pending.add(first_id + offset)
                connection.line.expects_replies = True
                connection.send(frame.encode() if isinstance(frame, str) else frame)
                await asyncio.sleep(1 / self._patience.messages_per_s)
        except Exception as exc:
            self._note_refused(SubscribeError(f"subscribing failed: {exc!r}"))

    def _read_reply(self, frame: Frame) -> None:
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
            if self._line is not None:
                self._line.expects_replies = bool(self._pending)
        if error is not None:
            code, text = (error.get("code"), error.get("msg")) if isinstance(error, dict) else (None, error)
            self._note_refused(SubscribeError(f"subscription refused: {code} {text}"))

    def _note_refused(self, error: SubscribeError) -> None:
        self.last_error = str(error)
        self.refused_streams[str(error)] += 1
        if self.refused_streams[str(error)] == 1:
            log.error("line %s: %s", self.name, error)

    def _report_silent(self, line: Line) -> None:
        silent = tuple(sorted(line.unseen))
        if silent != self.silent_streams:
            self.silent_streams = silent
            if silent:
                listed = " ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
                log.warning("line %s: connected, but without a first message: %s", self.name, listed)
            else:
                log.info("line %s: every stream has shown a message", self.name)

    def _report(self, refusal: Refusal, wait_s: float) -> None:
        held = self._fold.let_through(refusal.reason)
        if held is not None:
            log.warning("line %s: %s; again in %.1f s%s", self.name, refusal.text, wait_s, held)
