"""GET from a venue within its request weight: the standard library's HTTP in threads.

Answers for asking the governor before each request and telling it what came, for keeping away from a host that refuses
us (403, 451), for total time limits, and for telling refusals apart. Knows no symbol and what no body means.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlsplit

from mdfeed.errors import GeoBlocked, RateLimited, SnapshotError
from mdfeed.governor import Governor, Places, Purpose
from mdfeed.refusals import Backoff, Fold, Refusal, Refused, of_exception, of_status

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024 * 1024
LASTING_S = 60.0  # how long a 403 or 451 keeps us away from the host at most, when the venue says no time

Answer = tuple[int, dict[str, str], bytes]


class Request(Protocol):
    """What to GET: `path` with its query, `weight` as the venue counts it."""

    @property
    def path(self) -> str: ...
    @property
    def weight(self) -> int: ...


class Rest:
    """One venue's REST host. Must be used inside one event loop; `close` ends its sockets.

    `governor` is shared with whoever else uses the venue's weight; without one, an own one of `weight_per_minute`. The
    header named `weight_header` says what is really used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        governor: Governor | None = None,
        weight_per_minute: int = 2400,
        weight_header: str = "X-MBX-USED-WEIGHT-1M",
        timeout_s: float = 10.0,
        connections: int = 4,
        ssl_context: ssl.SSLContext | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.governor = governor or Governor(weight_per_minute, now_ns=now_ns)
        self.answers: Counter[str] = Counter()  # "ok", or the refusal's token
        self._url = urlsplit(base_url)
        self._weight_header = weight_header.lower()
        self._timeout_s = timeout_s
        self._slots = Places(connections)
        self._ssl_context = ssl_context
        self._now_ns = now_ns
        self._block: Refusal | None = None  # this host's
        self._blocked_until = 0
        self._lasting = Backoff(1.0, LASTING_S)
        self._newest: Refusal | None = None
        self._idle: list[http.client.HTTPConnection] = []
        self._is_closed = False
        self._fold = Fold()

    @property
    def weight_used(self) -> int:
        """Weight used in the venue's current minute, by its own header where it sends one."""
        return self.governor.weight_used

    @property
    def blocked_until(self) -> int:
        """UTC ns until which nothing is sent here; 0 when nothing forbids it."""
        return max(self._blocked_until, self.governor.blocked_until)

    @property
    def refusal(self) -> Refusal | None:
        """Why this host is kept away from (403, 451), while it is."""
        return self._block if self._now_ns() < self._blocked_until else None

    @property
    def newest_refusal(self) -> Refusal | None:
        """What kept the newest request from an answer; None when it had one."""
        return self._newest

    async def fetch(
        self,
        request: Request,
        purpose: Purpose = Purpose.OTHER,
        *,
        on_leave: Callable[[], object] | None = None,
        waits: bool = True,
    ) -> bytes:
        """The body of a 200 answer.

        Raises RateLimited, GeoBlocked or SnapshotError, each caused by a Refused whose refusal has the token. While
        the venue forbids requests it raises at once, without sending; without `waits` also while the weight allows
        none. `on_leave` is called as the request leaves.
        """
        try:
            status, headers, body = await self.get(request, purpose, on_leave=on_leave, waits=waits)
            if status != 200:
                raise Refused(of_status(status, headers, body))
        except Refused as exc:
            match exc.refusal.reason:
                case "rate_limited" | "banned" as reason:
                    wait_s = max(self.blocked_until - self._now_ns(), 0) / 1e9
                    raise RateLimited(exc.refusal.text, wait_s, is_ban=reason == "banned") from exc
                case "geo_blocked" | "forbidden":
                    raise GeoBlocked(exc.refusal.text) from exc
            raise SnapshotError(exc.refusal.text) from exc
        return body

    async def get(
        self,
        request: Request,
        purpose: Purpose = Purpose.OTHER,
        *,
        on_leave: Callable[[], object] | None = None,
        waits: bool = True,
    ) -> Answer:
        """(status, headers with lower-case names, body), once the weight allows it.

        Raises Refused when nothing was answered, or nothing may be asked.
        """
        self._check()
        since = await self.governor.admit(request.weight, purpose, waits=waits)
        headers: dict[str, str] = {}
        has_left = False
        try:
            async with self._slots.one(purpose):
                self._check()
                has_left = True
                if on_leave is not None:
                    on_leave()
                status, headers, body = await self._exchange(request.path)
        except Exception as exc:
            refusal = of_exception(exc)
            if has_left:
                self._report(refusal)
            raise Refused(refusal) from exc
        finally:
            if has_left:
                self._settle(request.weight, headers, since)
            else:
                self.governor.release(request.weight)
        if status == 200:
            self.answers["ok"] += 1
            self._newest = None
            self._lasting.reset()
        else:
            self._report(of_status(status, headers, body))
        return status, headers, body

    def _check(self) -> None:
        self.governor.check()
        if self._block is not None:
            if self._now_ns() < self._blocked_until:
                raise Refused(self._block)
            self._block, self._blocked_until = None, 0

    def _settle(self, weight: int, headers: dict[str, str], since: int) -> None:
        said, date_s = headers.get(self._weight_header, ""), None
        with suppress(KeyError, ValueError):
            date_s = parsedate_to_datetime(headers["date"]).timestamp()
        self.governor.settle(weight, int(said) if said.isdecimal() else None, date_s, since=since)

    def _report(self, refusal: Refusal) -> None:
        self.answers[refusal.reason] += 1
        self._newest = refusal if refusal.reason != "http" else None  # a 400 is the one request's own trouble
        wait_s = refusal.retry_after_s
        if refusal.reason in ("geo_blocked", "forbidden"):
            if self._now_ns() >= self._blocked_until:  # requests that fail together count once
                wait_s = self._lasting.wait_s(refusal)
                self._block, self._blocked_until = refusal, self._now_ns() + int(wait_s * 1e9)
        elif wait_s is not None:
            self.governor.stop(refusal)
        held = self._fold.let_through(refusal.reason)
        if held is not None:
            stop = f"; no request for {wait_s:.0f} s" if wait_s is not None else ""
            log.warning("REST %s: %s%s%s", self._url.netloc.rpartition("@")[2], refusal.text, stop, held)

    # --- one exchange, in a thread of its own

    async def _exchange(self, path: str) -> Answer:
        # A daemon thread each, for a name lookup can hang for longer than a shutdown may take. The loop enforces the
        # total time: a socket's own timeout starts again with every byte.
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        held: list[http.client.HTTPConnection] = []

        def work() -> None:
            result: Answer | Exception
            try:
                result = self._get(path, held)
            except Exception as exc:
                result = exc
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(deliver, result)

        def deliver(result: Answer | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        threading.Thread(target=work, name="mdfeed-rest", daemon=True).start()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except BaseException:
            for connection in held:
                _cut(connection)  # ends the thread's recv
            raise

    def _get(self, path: str, held: list[http.client.HTTPConnection]) -> Answer:
        while True:
            try:
                connection, is_reused = self._idle.pop(), True
            except IndexError:  # other threads take from it too
                connection, is_reused = self._connection(), False
            held.append(connection)
            try:
                connection.request("GET", self._url.path.rstrip("/") + path, headers={"User-Agent": "mdfeed"})
                response = connection.getresponse()
                body = response.read(MAX_BODY_BYTES + 1)
                if len(body) > MAX_BODY_BYTES:
                    raise Refused(Refusal("too_large", f"an answer above {MAX_BODY_BYTES} bytes"))
                left = response.length
                if left:
                    raise http.client.IncompleteRead(body, left)  # read(n) does not tell
            except (http.client.RemoteDisconnected, ConnectionError):
                connection.close()
                if not is_reused:
                    raise
                continue  # a kept connection that the venue has closed meanwhile: GET may be asked again
            except BaseException:
                connection.close()
                raise
            headers = {name.lower(): value for name, value in response.getheaders()}
            if response.will_close or self._is_closed:
                connection.close()
            else:
                self._idle.append(connection)
            return response.status, headers, body

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            if self._ssl_context is None:
                self._ssl_context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._ssl_context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)

    def close(self) -> None:
        """Closes the kept connections. Requests under way are ended by cancelling their callers."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()


def _cut(connection: http.client.HTTPConnection) -> None:
    # Shuts the TCP socket down under a reading thread, beside TLS: SSLSocket's own shutdown is not thread-safe.
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
