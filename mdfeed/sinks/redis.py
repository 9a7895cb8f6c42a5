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
from collections import Counter
from typing import Any

import hiredis

from mdfeed._resp import NOTHING, RespOutbox
from mdfeed.errors import SinkError
from mdfeed.redis_link import Ledger, Link
from mdfeed.redis_url import RedisUrl, parse_redis_url
from mdfeed.sinks import Outage, Sink

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
PING_KIND = bytes((NOTHING,))
# Of refused publications, by the reply's code; any other code is "refused".
REASONS = {"OOM": "oom", "NOPERM": "noperm", "READONLY": "readonly"}
# Once nothing was refused for so long everything is said again; what is refused is tried again as often.
HEAL_S = 0.4
# A server that always refuses some of it is not to be told everything every second.
FLAP_S, FLAPS_MOST, LONGEST_HEAL_S = 5.0, 5, 30.0
MAX_CODES = 50  # error codes that are counted apart
# Replies after which this connection is of no use: a failover made the server a replica, or it forgot us.
FATAL_CODES = frozenset({"READONLY", "NOAUTH"})


class Refusing:
    """A server that answers and does not take: since when, and when everything is to be said again."""

    def __init__(self) -> None:
        self.text = ""  # empty: it takes everything
        self.code = ""
        self.since = 0.0  # loop time
        self.dropped_before = 0
        self.is_trying = False  # everything was said again; its answers are awaited
        self._refused_at = 0.0
        self._over_at = float("-inf")
        self._flaps = 0

    def refused(self, code: str, text: str, now: float) -> None:
        if not self.text:
            self.since = now
            self._flaps = self._flaps + 1 if now - self._over_at < FLAP_S else 0
        self.text, self.code = f"refuses commands: {text[:200]}", code
        self._refused_at = now
        self.is_trying = False

    def over(self, now: float) -> None:
        self.text = ""
        self._over_at = now

    def is_forgotten(self, now: float) -> bool:
        """Nothing was refused for long, and there is nothing to try it with."""
        return bool(self.text) and now - self._refused_at >= FLAP_S

    def is_due(self, now: float) -> bool:
        wait_s = min(HEAL_S * 2 ** max(0, min(self._flaps, 50) - FLAPS_MOST), LONGEST_HEAL_S)
        return bool(self.text) and not self.is_trying and now - self._refused_at >= wait_s


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
        self._link: Link | None = None
        self._can_ping = True
        self._ledger = Ledger()
        self._connects = 0
        self._errors: Counter[str] = Counter()
        self._last_error: str | None = None
        self._last_end = ""  # why it went away last
        self._said: dict[str, float] = {}
        self._away_since: float | None = None
        self._is_said_away = False
        self._dropped_before = 0  # when it went away
        self._refusing = Refusing()

    @property
    def trouble(self) -> str:
        """What the server refuses, though it answers; empty when it takes everything."""
        return self._refusing.text

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

    async def _connect(self) -> Link:
        loop = asyncio.get_running_loop()
        link = Link(self, self._high_water_bytes, self._ledger)
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

    async def _shake_hands(self, link: Link) -> None:
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

    def _on_connected(self, link: Link) -> None:
        self._link = link
        self._connects += 1
        self.is_connected = True
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            log.info("redis at %s: connected", self._label)
        elif self._is_said_away:
            log.info("redis at %s is back after %.1f s", self._label, now - self._away_since)
        away_s = now - self._away_since if self._away_since is not None else 0.0
        self.outages.append(Outage("connected", away_s, self._last_end, self._drops() - self._dropped_before))
        self._away_since = None
        self._is_said_away = False
        self.outbox.open()
        self.say_ready()
        self._try_again(link)

    def _try_again(self, link: Link) -> None:
        """Everything was said again: when nothing of it is refused, that is over."""
        self.flush()
        self._refusing.is_trying = bool(link.outstanding)
        if not link.outstanding and self._refusing.is_forgotten(asyncio.get_running_loop().time()):
            self._note_taken()

    async def _watch(self, link: Link) -> str:
        """Wait for the end of a connection, or make it when the server answers no more."""
        loop = asyncio.get_running_loop()
        overdue = 0
        while True:
            done, _ = await asyncio.wait((link.closed,), timeout=WATCH_S)
            if done:
                return link.closed.result()
            if self._refusing.is_due(loop.time()):
                self.say_again()
                self._try_again(link)
            idle_s = loop.time() - link.progress_at
            # Twice in a row, for our own loop may have been stuck with the replies waiting in the socket.
            overdue = overdue + 1 if link.outstanding and idle_s > self._reply_timeout_s else 0
            if overdue > 1:
                link.end(f"no reply for {idle_s:.1f} s")
            elif not link.outstanding and idle_s > IDLE_S and self._can_ping:
                link.send(PING, PING_KIND)

    async def _follow(self, link: Link) -> None:
        """End a connection whose server is the master no longer, though it may not know that yet."""
        if self._url.sentinels:
            from mdfeed.sentinel import until_moved

            link.end(await until_moved(self._url, self._master))

    def on_end(self, link: Link) -> None:
        if link is not self._link:
            return
        self._link = None
        self.is_connected = False
        self.outbox.close("disconnected")
        if kinds := self.outbox.pending_kinds:
            self._ledger.send(kinds)
        self.outbox.take()
        self._ledger.lose()
        self._refusing.is_trying = False

    def on_slow(self, link: Link) -> None:
        if link is self._link:
            self.outbox.close("slow")
            self._say("slow", "redis at %s reads too slowly; publications are dropped until it has caught up")

    def on_fast(self, link: Link) -> None:
        if link is self._link:
            self.outbox.open()
            self.say_ready()
            self.flush()

    # ---- what the base asks for

    def flush(self) -> None:
        link = self._link
        if link is not None and (kinds := self.outbox.pending_kinds):
            link.send(self.outbox.take(), kinds)

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
        counters, ledger = super().counters(), self._ledger
        dropped = counters["dropped"] | {"in_flight": sum(ledger.in_flight.values()), "refused": 0}
        dropped |= dict.fromkeys(REASONS.values(), 0)
        published = counters["published"]
        for kind, count in ledger.unanswered(self.outbox.pending_kinds).items():
            published[kind] -= count + ledger.in_flight[kind]
        for (kind, reason), count in ledger.refused.items():
            published[kind] -= count
            dropped[reason] += count
        buffered = self._link.transport.get_write_buffer_size() if self._link else 0
        return counters | {
            "dropped": dropped,
            "buffer_bytes": buffered + self.outbox.pending_bytes,
            "errors": dict(self._errors),
            "reconnects": max(0, self._connects - 1),
            "last_error": self._last_error,
        }

    # ---- what goes wrong

    def on_error_reply(self, link: Link, text: str) -> None:
        code = self._count_error(text)
        if self._ledger.refuse(REASONS.get(code, "refused")):
            self._note_refused(code, text)
        if code in FATAL_CODES:
            link.end(text)
        else:
            self._say(code, "redis at %s refuses commands: %s", text)

    def on_all_answered(self, link: Link) -> None:
        if link is self._link and self._refusing.is_trying:
            self._note_taken()

    def _note_refused(self, code: str, text: str) -> None:
        if not self.trouble:
            self._refusing.dropped_before = self._drops() - 1
        self._refusing.refused(code, text, asyncio.get_running_loop().time())

    def _note_taken(self) -> None:
        """Everything was said again, and all of it was taken."""
        refusing = self._refusing
        refusing.is_trying = False
        if refusing.text:
            for_s = asyncio.get_running_loop().time() - refusing.since
            log.info("redis at %s takes commands again, after %.1f s", self._label, for_s)
            self.outages.append(Outage("refused", for_s, refusing.code, self._drops() - refusing.dropped_before))
            refusing.over(asyncio.get_running_loop().time())

    def _drops(self) -> int:
        return sum(self.counters()["dropped"].values())

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
            self._last_end, self._dropped_before = reason[:200], self._drops()
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
