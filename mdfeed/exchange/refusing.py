"""Faults of HTTP: refused requests and upgrades, slow answers, snapshots of the past."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mdfeed.exchange.faults import Answer, Asked
from mdfeed.exchange.market import Market
from mdfeed.exchange.script import Fault

_HTML = b"<html><head><title>%d</title></head><body><center><h1>%d %b</h1></center></body></html>\r\n"
_SAID = {
    403: b"Forbidden",
    418: b'{"code":-1003,"msg":"Way too many requests; IP(127.0.0.1) banned until 1900000000000."}',
    429: b'{"code":-1003,"msg":"Too many requests; current limit of IP(127.0.0.1) is 2400 requests per minute."}',
    451: b'{"code":0,"msg":"Service unavailable from a restricted location according to \'b. Eligibility\'."}',
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Time-out",
}
SAMPLE_NS = 100_000_000


class Refuse(Fault):
    """Requests get `status`, with Retry-After where given. `path` chooses by path and query; `upgrades` by kind.

    `upgrades` False: HTTP requests alone; True: WebSocket upgrades alone.
    """

    def __init__(self, *, status: int = 503, retry_after_s: float | None = None, upgrades: bool = False, **window: Any):
        super().__init__(**window)
        self._status, self._retry_after_s, self._upgrades = status, retry_after_s, upgrades

    def asked(self, asked: Asked) -> Answer | None:
        if not self.is_on or asked.is_upgrade != self._upgrades or not fnmatchcase(asked.path, self._path):
            return None
        self.count += 1
        headers = {} if self._retry_after_s is None else {"Retry-After": f"{self._retry_after_s:.0f}"}
        said = _SAID.get(self._status, b"Refused")
        if said.startswith(b"{"):
            return Answer(self._status, said, headers)
        return Answer(self._status, _HTML % (self._status, self._status, said), headers, "text/html")


class Slow(Fault):
    """Answers to HTTP requests come `by_s` late; what they say is as of the request."""

    def __init__(self, *, by_s: float = 3.0, **window: Any) -> None:
        super().__init__(**window)
        self._by_s = by_s

    def answered(self, asked: Asked, answer: Answer) -> Answer:
        if self.is_on and not asked.is_upgrade and fnmatchcase(asked.path, self._path):
            self.count += 1
            answer.delay_s += self._by_s
        return answer


class Stale(Fault):
    """Snapshots show the book as it was `age_s` ago, id included: older than what a client has buffered since."""

    def __init__(self, *, age_s: float = 2.0, **window: Any) -> None:
        super().__init__(**window)
        self._age_ns = round(age_s * 1e9)
        self._past: deque[tuple[int, dict[str, int]]] = deque()
        self._market: Market | None = None

    def step(self, now_ns: int, source: object) -> None:
        super().step(now_ns, source)
        if not isinstance(source, Market):
            return
        self._market = source
        if not self._past or now_ns - self._past[-1][0] >= SAMPLE_NS:
            self._past.append((now_ns, {symbol: source.truth(symbol).last_id for symbol in source.symbols}))
            while len(self._past) > 1 and self._past[1][0] <= now_ns - self._age_ns:
                self._past.popleft()

    def answered(self, asked: Asked, answer: Answer) -> Answer:
        parts = urlsplit(asked.path)
        if not (self.is_on and self._market and answer.status == 200 and parts.path.endswith("/depth")):
            return answer
        query = dict(parse_qsl(parts.query))
        own_id = self._past[0][1].get(query.get("symbol", ""))
        if own_id is not None:
            self.count += 1
            answer.body = self._market.depth_at(query["symbol"], int(query.get("limit", "500")), own_id).encode()
        return answer
