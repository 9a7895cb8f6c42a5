"""Depth snapshots by the venue's WebSocket API: the second rung, for when its REST host refuses or cannot be reached.

Answers for one small connection that is opened when asked and closed when idle, for its total time limits, and for
telling the governor the weight, which is shared with REST. Knows no book.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeGuard

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from mdfeed.connects import OF_THE_ADDRESS
from mdfeed.dial import of_response
from mdfeed.errors import SnapshotError
from mdfeed.governor import NO_ROOM, Governor, Purpose
from mdfeed.refusals import Fold, Refusal, Refused, of_exception, of_status

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 16 * 1024 * 1024
IDLE_S = 60.0
ANSWER_S = 3.0  # over a connection that stands
CLOCKS_APART_MS = 3_600_000
LAST_MS = 1 << 53

# Its two lines a connection would say what we say already.
_quiet = logging.getLogger("mdfeed.ws_api.websockets")
_quiet.setLevel(logging.CRITICAL)


class WsApi:
    """`depth` asks for one snapshot. Must be used inside one event loop; `close` ends the connection.

    `answers` counts "ok" and the tokens of refusals.
    """

    def __init__(
        self,
        url: str,
        governor: Governor,
        *,
        timeout_s: float = 10.0,
        idle_s: float = IDLE_S,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.answers: Counter[str] = Counter()
        self._url = url
        self._governor = governor
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._ssl_context = ssl_context
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._fold = Fold()

    async def depth(
        self,
        symbol: str,
        limit: int,
        weight: int,
        purpose: Purpose,
        *,
        on_leave: Callable[[], object] | None = None,
    ) -> bytes:
        """The snapshot's body, as REST has it. Raises SnapshotError, caused by a Refused whose refusal has the token.

        It does not wait for weight. `on_leave` is called as the request leaves.
        """
        said: int | None = None
        has_left = False
        try:
            since = await self._governor.admit(weight, purpose, waits=False)
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._open()
                    number = next(self._ids)
                    answered = self._asked[number] = asyncio.get_running_loop().create_future()
                    has_left = True
                    if on_leave is not None:
                        on_leave()
                    try:
                        await connection.send(_request(number, symbol, limit))
                        async with asyncio.timeout(ANSWER_S):
                            answer = await answered
                    except TimeoutError:
                        # Open, and silent: the next request gets another connection.
                        if connection is self._connection and self._reader is not None:
                            self._connection = None
                            self._reader.cancel()
                        raise
                    finally:
                        del self._asked[number]
                said = _used(answer)
            finally:
                if has_left:
                    self._governor.settle(weight, said, since=since)
                else:
                    self._governor.release(weight)
            if answer.get("status") != 200:
                refusal = _refusal(answer, self._governor.venue_ns / 1e6)
                if refusal.reason in OF_THE_ADDRESS:
                    self._governor.stop(refusal)
                raise Refused(refusal)
            result = answer["result"]
            if not isinstance(result, dict):
                raise SnapshotError(f"WS-API: an answer without a result: {str(answer)[:120]}")
        except Exception as exc:
            refusal = of_exception(exc)
            if refusal is NO_ROOM:
                raise SnapshotError(refusal.text) from exc
            self.answers[refusal.reason] += 1
            held = self._fold.let_through(refusal.reason)
            if held is not None:
                log.warning("WS-API %s: %s%s", self._url, refusal.text, held)
            raise SnapshotError(refusal.text) from Refused(refusal)
        self.answers["ok"] += 1
        return json.dumps(result).encode()

    async def _open(self) -> ClientConnection:
        async with self._opening:
            if self._connection is None:
                if self._ssl_context is None and self._url.startswith("wss:"):
                    self._ssl_context = ssl.create_default_context()
                try:
                    self._connection = await connect(
                        self._url,
                        ssl=self._ssl_context,
                        max_size=MAX_ANSWER_BYTES,
                        compression=None,
                        proxy=None,
                        logger=_quiet,
                        open_timeout=self._timeout_s,
                        close_timeout=1,
                    )
                except InvalidStatus as error:
                    refusal = of_response(error.response)
                    if refusal.reason in OF_THE_ADDRESS:
                        self._governor.stop(refusal, is_of_upgrade=True)
                    raise Refused(refusal) from error
                self._reader = asyncio.create_task(self._read(self._connection), name="ws-api")
            return self._connection

    async def _read(self, connection: ClientConnection) -> None:
        error: Exception = ConnectionError("the connection was closed")
        try:
            while True:
                try:
                    async with asyncio.timeout(self._idle_s):
                        text = await connection.recv()
                except TimeoutError:
                    if not self._asked:
                        return
                    continue
                self._deliver(text)
        except Exception as exc:
            error = ConnectionError(str(exc) or type(exc).__name__)
        finally:
            if self._connection is connection:
                self._connection = None
            for answered in self._asked.values():
                if not answered.done():
                    answered.set_exception(error)
            with suppress(Exception):
                await connection.close()

    def _deliver(self, text: str | bytes) -> None:
        try:
            answer = json.loads(text)
            answered = self._asked.get(answer["id"])
        except (ValueError, KeyError, TypeError):
            return  # nothing of ours
        if answered is not None and not answered.done():
            answered.set_result(answer)

    async def close(self) -> None:
        """End the connection, and with it what waits for an answer."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def _request(number: int, symbol: str, limit: int) -> str:
    return json.dumps({"id": number, "method": "depth", "params": {"symbol": symbol.upper(), "limit": limit}})


def _used(answer: dict[str, Any]) -> int | None:
    """What the venue says is used of the minute's weight: `rateLimits`, the REQUEST_WEIGHT row."""
    rows = answer.get("rateLimits")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("rateLimitType") == "REQUEST_WEIGHT" and row.get("interval") == "MINUTE":
            count = row.get("count")
            return count if isinstance(count, int) and count >= 0 else None
    return None


def _refusal(answer: dict[str, Any], now_ms: float) -> Refusal:
    """`status` is that of HTTP; `error` has code, msg, and on 429 and 418 `data.retryAfter`, ms since the epoch."""
    status, error = answer.get("status"), answer.get("error")
    headers = {}
    data = error.get("data") if isinstance(error, dict) else None
    if isinstance(data, dict) and _is_time(until_ms := data.get("retryAfter")):
        # Its own clock where it says it: ours may differ. One that is hours off is none.
        said_ms = data.get("serverTime")
        from_ms = said_ms if _is_time(said_ms) and abs(said_ms - now_ms) < CLOCKS_APART_MS else now_ms
        headers["retry-after"] = f"{max(until_ms - from_ms, 0.0) / 1000:.3f}"
    text = json.dumps(error).encode()
    return of_status(status if isinstance(status, int) else 500, headers, text)


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LAST_MS
