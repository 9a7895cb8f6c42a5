"""The sink that writes to a Redis-compatible server, on a transport of its own.

Answers for: connecting (TCP, TLS, unix socket, AUTH, SELECT; the master that Sentinels name), one write a flush,
counting replies, noticing a server that is away, slow, frozen or read-only, and coming back within a second. Refuses
to know: what a command says. It never sends anything twice: what was in flight when a connection ended is counted as
dropped, and on_ready asks for everything afresh. Nothing waits for a slow server: beyond the high-water mark the
outbox closes until it has read.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from typing import Any, cast

import hiredis

from mdfeed._resp import RespOutbox
from mdfeed.errors import SinkError
from mdfeed.redis_url import RedisUrl, parse_redis_url
from mdfeed.sinks import Sink

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.05
# An unreachable server is tried often, for its keys are to be fresh within a second of its return; one that
# answers with a refusal (a wrong password) is not.
UNREACHABLE_RETRY_S = 0.5
REFUSED_RETRY_S = 2.0
STABLE_S = 1.0  # a connection that lived so long starts the backoff anew, and its end is news
WATCH_S = 0.25
IDLE_S = 1.0  # without anything to send, a PING shows that the server is there
SAY_AGAIN_S = 60.0
PING = b"*1\r\n$4\r\nPING\r\n"
# Replies are short texts, numbers and stream ids. What is longer, or is an array or a map, no server says that we talk
# to; and a reader that believed its size would ask for that much memory.
MAX_REPLY_BYTES = 1 << 20
AGGREGATES = (b"*", b"%", b"~", b">", b"|")
MAX_CODES = 50  # error codes that are counted apart
# Replies after which this connection is of no use: a failover made the server a replica, or it forgot us.
FATAL_CODES = frozenset({"READONLY", "NOAUTH"})


class _Link(asyncio.Protocol):
    """One connection: bytes out, replies counted. `closed` gets the reason when it is over."""

    transport: asyncio.Transport

    def __init__(self, sink: RedisSink, high_water_bytes: int) -> None:
        self._sink = sink
        self._high_water_bytes = high_water_bytes
        self._reader = hiredis.Reader()
        self._unread_bytes = 0  # since the last whole reply
        self._is_line_start = True
        self._loop = asyncio.get_running_loop()
        self._asked: deque[asyncio.Future[object]] = deque()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.outstanding = 0
        self.progress_at = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._high_water_bytes)

    def connection_lost(self, error: Exception | None) -> None:
        self.end(f"connection lost: {error}" if error else "the server closed the connection")

    def end(self, reason: str) -> None:
        """Over, now: unsent bytes are discarded."""
        if not self.closed.done():
            self.closed.set_result(reason)
            for asked in self._asked:
                if not asked.done():
                    asked.set_result(ConnectionError(reason))
            self._sink._on_end(self)
            self.transport.abort()

    def send(self, data: bytes, commands: int) -> None:
        if not self.outstanding:
            self.progress_at = self._loop.time()
        self.outstanding += commands
        self.transport.write(data)

    def ask(self, name: str, *args: str) -> asyncio.Future[object]:
        """A command of the handshake and its reply to come; errors are values of it."""
        reply: asyncio.Future[object] = self._loop.create_future()
        self._asked.append(reply)
        self.transport.write(hiredis.pack_command((name, *args)))  # type: ignore[arg-type]
        return reply

    def data_received(self, data: bytes) -> None:
        self.progress_at = self._loop.time()
        gets = self._reader.gets
        self._unread_bytes += len(data)
        if self._has_aggregate(data):
            return self.end("not a Redis server: a reply that answers no command of ours")
        try:
            self._reader.feed(data)
            while (reply := gets()) is not False:
                self._unread_bytes = 0
                if self._asked:
                    asked = self._asked.popleft()
                    if not asked.done():
                        asked.set_result(reply)
                    continue
                self.outstanding -= 1
                if isinstance(reply, hiredis.ReplyError):
                    self._sink._on_error_reply(self, str(reply))
        except hiredis.ProtocolError as error:
            self.end(f"not a Redis server: {error}")
        if self.outstanding < 0:
            self.end("more replies than commands")
        elif self._unread_bytes > MAX_REPLY_BYTES:
            self.end(f"not a Redis server: a reply longer than {MAX_REPLY_BYTES} bytes")

    def _has_aggregate(self, data: bytes) -> bool:
        """Whether a line of `data` begins as an array, map, set, push or attribute does."""
        is_at_start, self._is_line_start = self._is_line_start, data.endswith(b"\n")
        if is_at_start and data.startswith(AGGREGATES):
            return True
        return any(b"\n" + mark in data for mark in AGGREGATES)

    def pause_writing(self) -> None:
        self._sink._on_slow(self)

    def resume_writing(self) -> None:
        self._sink._on_fast(self)


class RedisSink(Sink):
    """Publishes to the server of a redis://, rediss:// or unix:// URL, or to the master of a redis+sentinel:// one.

    `high_water_bytes` is what may wait in the transport before the outbox closes as "slow"; `reply_timeout_s` without
    any reply while commands are outstanding means that the server is gone. Other options are RespOutbox's.
    """

    name = "redis"
    outbox: RespOutbox

    def __init__(
        self,
        url: str,
        instruments: object,
        *,
        epoch: int,
        high_water_bytes: int = 4 << 20,
        reply_timeout_s: float = 2.0,
        connect_timeout_s: float = 2.0,
        **encoding: Any,
    ) -> None:
        self._url: RedisUrl = parse_redis_url(url)
        self._label = self._url.label
        self._master = self._url  # with Sentinels: whom they named
        self._tls = self._url.tls_context()
        self.outbox = RespOutbox(instruments, epoch=epoch, **encoding)
        self.outbox.close("disconnected")
        self.is_connected = False
        self._high_water_bytes = high_water_bytes
        self._reply_timeout_s = reply_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._link: _Link | None = None
        self._can_ping = True
        self._in_flight_lost = 0
        self._connects = 0
        self._errors: Counter[str] = Counter()
        self._last_error: str | None = None
        self._said: dict[str, float] = {}
        self._away_since: float | None = None
        self._is_said_away = False

    # ---- the connection's life

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = FIRST_RETRY_S
        while True:
            longest_s = UNREACHABLE_RETRY_S
            try:
                link = await self._connect()
            except SinkError as error:
                longest_s = REFUSED_RETRY_S
                self._say_away(f"refused: {error}", str(error))
            except OSError as error:
                self._say_away(_text_of(error))
            else:
                since = loop.time()
                self._on_connected(link)
                following = asyncio.create_task(self._follow(link))
                try:
                    reason = await self._watch(link)
                except Exception:
                    link.end("a fault of ours")
                    raise
                finally:
                    following.cancel()
                if loop.time() - since > STABLE_S:
                    delay_s = FIRST_RETRY_S
                    self._said.clear()
                self._say_away(reason)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, longest_s)

    async def _connect(self) -> _Link:
        loop = asyncio.get_running_loop()
        link = _Link(self, self._high_water_bytes)
        url = self._url
        self._label = url.label
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if url.sentinels:
                    from mdfeed.sentinel import find_master  # redis-py, which no other URL needs

                    url = self._master = await find_master(url)
                    self._label = f"{url.label} ({url.master})"
                if url.path:
                    await loop.create_unix_connection(lambda: link, url.path)
                else:
                    await loop.create_connection(lambda: link, url.host, url.port, ssl=self._tls)
                await self._shake_hands(link)
        except BaseException:
            if hasattr(link, "transport"):
                link.end("given up")
            raise
        return link

    async def _shake_hands(self, link: _Link) -> None:
        url = self._url
        asked: list[tuple[str, asyncio.Future[object]]] = []
        if url.password is not None:
            user = (url.username,) if url.username else ()
            asked.append(("AUTH", link.ask("AUTH", *user, url.password)))
        if url.db:
            asked.append(("SELECT", link.ask("SELECT", str(url.db))))
        if url.sentinels:
            asked.append(("INFO", link.ask("INFO", "replication")))
        asked += [("CLIENT", link.ask("CLIENT", "SETNAME", "mdfeed")), ("PING", link.ask("PING"))]
        for name, future in asked:
            reply = await future
            if isinstance(reply, ConnectionError):
                raise reply
            # Sentinels may be behind. A replica would refuse to set keys, but take what is published to nobody.
            if name == "INFO" and isinstance(reply, bytes) and b"role:master" not in reply:
                raise ConnectionError("the Sentinels name a server that is no master")
            if not isinstance(reply, hiredis.ReplyError):
                continue
            code = self._count_error(str(reply))
            # An ACL user need not have CLIENT, INFO or PING.
            if name == "PING" and code == "NOPERM":
                self._can_ping = False
            elif name not in ("CLIENT", "INFO"):
                if code == "LOADING":
                    raise ConnectionError(str(reply))
                raise SinkError(f"{name}: {reply}")

    def _on_connected(self, link: _Link) -> None:
        self._link = link
        self._connects += 1
        self.is_connected = True
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            log.info("redis at %s: connected", self._label)
        elif self._is_said_away:
            log.info("redis at %s is back after %.1f s", self._label, now - self._away_since)
        self._away_since = None
        self._is_said_away = False
        self.outbox.open()
        self.say_ready()
        self.flush()

    async def _watch(self, link: _Link) -> str:
        """Wait for the end of a connection, or make it when the server answers no more."""
        loop = asyncio.get_running_loop()
        overdue = 0
        while True:
            done, _ = await asyncio.wait((link.closed,), timeout=WATCH_S)
            if done:
                return link.closed.result()
            idle_s = loop.time() - link.progress_at
            # Twice in a row, for our own loop may have been stuck with the replies waiting in the socket.
            overdue = overdue + 1 if link.outstanding and idle_s > self._reply_timeout_s else 0
            if overdue > 1:
                link.end(f"no reply for {idle_s:.1f} s")
            elif not link.outstanding and idle_s > IDLE_S and self._can_ping:
                link.send(PING, 1)

    async def _follow(self, link: _Link) -> None:
        """End a connection whose server is the master no longer, though it may not know that yet."""
        if self._url.sentinels:
            from mdfeed.sentinel import until_moved

            link.end(await until_moved(self._url, self._master))

    def _on_end(self, link: _Link) -> None:
        if link is not self._link:
            return
        self._link = None
        self.is_connected = False
        self.outbox.close("disconnected")
        self._in_flight_lost += link.outstanding + self.outbox.pending_commands
        self.outbox.take()

    def _on_slow(self, link: _Link) -> None:
        if link is self._link:
            self.outbox.close("slow")
            self._say("slow", "redis at %s reads too slowly; publications are dropped until it has caught up")

    def _on_fast(self, link: _Link) -> None:
        if link is self._link:
            self.outbox.open()
            self.say_ready()
            self.flush()

    # ---- what the base asks for

    def flush(self) -> None:
        link = self._link
        if link is not None and (commands := self.outbox.pending_commands):
            link.send(self.outbox.take(), commands)

    async def close(self, timeout_s: float) -> None:
        link = self._link
        if link is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self.flush()
        self.outbox.close("disconnected")
        while link.outstanding and not link.closed.done() and loop.time() < deadline:
            await asyncio.wait((link.closed,), timeout=0.005)
        link.end("closed by us")

    def counters(self) -> dict[str, Any]:
        counters = super().counters()
        counters["dropped"]["in_flight"] = self._in_flight_lost
        buffered = self._link.transport.get_write_buffer_size() if self._link else 0
        return counters | {
            "buffer_bytes": buffered + self.outbox.pending_bytes,
            "errors": dict(self._errors),
            "reconnects": max(0, self._connects - 1),
            "last_error": self._last_error,
        }

    # ---- what goes wrong

    def _on_error_reply(self, link: _Link, text: str) -> None:
        code = self._count_error(text)
        if code in FATAL_CODES:
            link.end(text)
        else:
            self._say(code, "redis at %s refuses commands: %s", text)

    def _count_error(self, text: str) -> str:
        code = text.partition(" ")[0]
        # Only codes get a counter of their own: a text could be anything.
        code = code if code.isupper() and code.isalpha() and len(code) <= 20 else "OTHER"
        code = code if code in self._errors or len(self._errors) < MAX_CODES else "OTHER"
        self._errors[code] += 1
        self._last_error = text[:500]
        return code

    def _say_away(self, reason: str, what: str = "away") -> None:
        self._last_error = reason
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
        self._is_said_away |= self._say(what, "redis at %s: %s; the feed goes on, retrying", reason)

    def _say(self, what: str, text: str, *more: str) -> bool:
        """One line now, the same not again for a minute; whether it was said."""
        now = asyncio.get_running_loop().time()
        if now - self._said.get(what, -SAY_AGAIN_S) < SAY_AGAIN_S:
            return False
        if len(self._said) > 50:
            self._said.clear()
        self._said[what] = now
        log.warning(text, self._label, *more)
        return True


def _text_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, OSError) and error.strerror:
        return f"refused: {error.strerror}"
    if str(error).startswith("the Sentinels"):
        return str(error)
    return f"refused: {error}"


SINK = RedisSink
