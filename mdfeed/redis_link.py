"""One connection to a Redis-compatible server, and the account of what was sent on it.

Answers for: bytes out, replies counted and in their order, what each refused or unanswered command was. Refuses to
know: what a command says, and what is to be done about a refusal (sinks/redis.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Protocol, cast

import hiredis

from mdfeed._encode import KINDS
from mdfeed._resp import FIRST, LAST, NOTHING

# Replies are short texts, numbers and stream ids. What is longer, or is an array or a map, no server says that we talk
# to; and a reader that believed its size would ask for that much memory.
MAX_REPLY_BYTES = 1 << 20
AGGREGATES = (b"*", b"%", b"~", b">", b"|")


class Ledger:
    """What became of publications that were handed to a server, over all its connections.

    A publication of two commands (SET and PUBLISH) is one: refused when either is, and answered with the second.
    """

    def __init__(self) -> None:
        self.refused: Counter[tuple[str, str]] = Counter()  # by kind and reason
        self.in_flight: Counter[str] = Counter()  # by kind: without an answer when their connection ended
        self._sent: deque[bytes] = deque()
        self._answered = 0  # commands of the oldest bytes in `_sent`
        self._is_half_refused = False  # the newest answer was an error to a SET whose PUBLISH is not answered yet

    def send(self, kinds: bytes) -> None:
        """These commands were sent."""
        self._sent.append(kinds)

    def take(self, count: int) -> None:
        """So many commands were answered, without an error."""
        if count:
            self._is_half_refused = False
            self._pass(count)

    def refuse(self, reason: str) -> bool:
        """The next command was answered with an error. Whether it was about a publication or its key, and no PING."""
        if not self._sent:
            return False
        kind = self._sent[0][self._answered]
        was_half, self._is_half_refused = self._is_half_refused, False
        self._pass(1)
        if kind == NOTHING:
            return False
        if not (kind & LAST and was_half):
            self.refused[KINDS[kind & ~(FIRST | LAST)], reason] += 1
        self._is_half_refused = bool(kind & FIRST)
        return True

    def lose(self) -> None:
        """The connection has ended: nothing more is answered."""
        self.in_flight.update(self.unanswered())
        self._sent.clear()
        self._answered = 0
        self._is_half_refused = False

    def unanswered(self, more: bytes = b"") -> dict[str, int]:
        """Publications without an answer yet, by kind; `more` are commands that were not sent yet."""
        kinds = b"".join((*self._sent, more))[self._answered :]
        counts = {name: kinds.count(i) + kinds.count(i | LAST) for i, name in enumerate(KINDS)}
        if self._is_half_refused and kinds:
            counts[KINDS[kinds[0] & ~(FIRST | LAST)]] -= 1  # it is among the refused
        return counts

    def _pass(self, count: int) -> None:
        at = self._answered + count
        while self._sent and at >= len(self._sent[0]):
            at -= len(self._sent.popleft())
        self._answered = at if self._sent else 0


class Owner(Protocol):
    """Who is told what happens on a connection."""

    def on_end(self, link: Link, /) -> None: ...
    def on_slow(self, link: Link, /) -> None: ...
    def on_fast(self, link: Link, /) -> None: ...
    def on_error_reply(self, link: Link, text: str, /) -> None: ...
    def on_all_answered(self, link: Link, /) -> None: ...


class Link(asyncio.Protocol):
    """One connection: bytes out, replies counted. `closed` gets the reason when it is over."""

    transport: asyncio.Transport

    def __init__(self, owner: Owner, high_water_bytes: int, ledger: Ledger) -> None:
        self._owner = owner
        self._high_water_bytes = high_water_bytes
        self._reader = hiredis.Reader()
        self._unread_bytes = 0  # since the last whole reply
        self._is_line_start = True
        self._loop = asyncio.get_running_loop()
        self._asked: deque[asyncio.Future[object]] = deque()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.ledger = ledger
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
            self._owner.on_end(self)
            self.transport.abort()

    def send(self, data: bytes, kinds: bytes) -> None:
        """Commands, and for each of them what it is (RespOutbox.pending_kinds)."""
        if not self.outstanding:
            self.progress_at = self._loop.time()
        self.outstanding += len(kinds)
        self.ledger.send(kinds)
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
        taken = 0  # commands that were answered without an error, not told to the ledger yet
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
                    self.ledger.take(taken)
                    taken = 0
                    self._owner.on_error_reply(self, str(reply))
                else:
                    taken += 1
        except hiredis.ProtocolError as error:
            self.end(f"not a Redis server: {error}")
        self.ledger.take(taken)
        if self.outstanding < 0:
            self.end("more replies than commands")
        elif self.outstanding == 0:
            self._owner.on_all_answered(self)
        if self._unread_bytes > MAX_REPLY_BYTES:
            self.end(f"not a Redis server: a reply longer than {MAX_REPLY_BYTES} bytes")

    def _has_aggregate(self, data: bytes) -> bool:
        """Whether a line of `data` begins as an array, map, set, push or attribute does."""
        is_at_start, self._is_line_start = self._is_line_start, data.endswith(b"\n")
        if is_at_start and data.startswith(AGGREGATES):
            return True
        return any(b"\n" + mark in data for mark in AGGREGATES)

    def pause_writing(self) -> None:
        self._owner.on_slow(self)

    def resume_writing(self) -> None:
        self._owner.on_fast(self)
