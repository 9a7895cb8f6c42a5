"""A request head's bytes -> Request, strictly by RFC 9110 and 9112; and an Answer -> bytes.

Answers for: what is a request and what is not (bare line ends, folded headers, two lengths, smuggling), whether a
request comes from a page of our own, and how an answer is written. Refuses to know: sockets, paths, who may ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP/(\d)\.(\d)")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
# Percent-encoded letters, digits and -._~ mean what they are (RFC 3986 6.2.2.2); anything else encoded stays so.
UNRESERVED = re.compile("%(2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])")
ORIGIN = re.compile(rb"(https?)://([^/?#@\s]+)")
USUAL_PORT = {b"http": b":80", b"https": b":443"}
JSON = "application/json"


class BadRequest(Exception):
    """What the client sent is no request that we can answer otherwise; `status` says how."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A parsed head. `body_bytes` follow it (None: unknown, chunked); `headers` by lower-case name; `head` is all of
    it as it came."""

    method: str
    path: str
    is_kept_alive: bool
    body_bytes: int | None
    headers: Mapping[bytes, list[bytes]] = field(default_factory=dict)
    head: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        """A header's value, several joined as RFC 9110 5.3 has it; None without one."""
        values = self.headers.get(name)
        return b", ".join(values) if values else None

    def tokens(self, name: bytes) -> set[bytes]:
        """The members of a comma-separated header, in lower case."""
        return {token.strip().lower() for value in self.headers.get(name, ()) for token in value.split(b",")}

    def cookie(self, name: bytes) -> bytes | None:
        """The first cookie of that name."""
        for value in self.headers.get(b"cookie", ()):
            for pair in value.split(b";"):
                key, equals, text = pair.strip(b" \t").partition(b"=")
                if equals and key == name:
                    return text
        return None

    @property
    def is_from_own_page(self) -> bool:
        """Whether a browser says that a page of this very host and port asks (RFC 6454)."""
        origin, host = self.headers.get(b"origin", []), self.headers.get(b"host", [])
        match = ORIGIN.fullmatch(origin[0]) if len(origin) == 1 and len(host) == 1 else None
        if match is None:
            return False
        # The scheme is not compared: behind a proxy with TLS a page of ours is https, and we don't see it.
        port = USUAL_PORT[match[1]]
        return match[2].lower().removesuffix(port) == host[0].lower().removesuffix(port)


@dataclass(frozen=True)
class Answer:
    """What a request gets. `headers` are added to the usual ones, or take their place."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, date: str, *, method: str = "", is_last: bool = False) -> bytes:
        """The whole answer; to HEAD without its body, and CORS for GET and HEAD only."""
        lines = {"Date": date, "Content-Type": self.kind, "Content-Length": str(len(self.body))}
        lines |= {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if method in ("GET", "HEAD"):
            lines["Access-Control-Allow-Origin"] = "*"
        if self.status == HTTPStatus.NOT_MODIFIED:
            del lines["Content-Type"], lines["Content-Length"]
        lines |= self.headers
        if is_last:
            lines["Connection"] = "close"
        first = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"
        head = "\r\n".join((first, *(f"{name}: {value}" for name, value in lines.items()))).encode()
        return head + b"\r\n\r\n" + (b"" if method == "HEAD" else self.body)


def as_json(status: int, body: Mapping[str, Any], **headers: str) -> Answer:
    """An Answer of one JSON object; `headers` with _ for -."""
    text = json.dumps(body, separators=(",", ":")).encode() + b"\n"
    return Answer(status, JSON, text, {name.replace("_", "-"): value for name, value in headers.items()})


def parse_head(head: bytes) -> Request:
    """The request of a head without its final empty line, by RFC 9112; raises BadRequest and nothing else."""
    first, *lines = head.split(b"\r\n")
    match = REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequest(400, "malformed request line")
    method, target, is_1_1 = match[1].decode(), match[2].decode(), match[4] != b"0"
    if match[3] != b"1":
        raise BadRequest(505, "HTTP/1.0 and HTTP/1.1 are spoken here")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        header = HEADER_LINE.fullmatch(line)
        if header is None:
            raise BadRequest(400, "malformed header")
        headers.setdefault(header[1].lower(), []).append(header[2].strip(b" \t"))
    if len(headers.get(b"host", [])) != 1 and (is_1_1 or b"host" in headers):
        raise BadRequest(400, "one Host header is needed")
    lengths = set(headers.get(b"content-length", []))
    is_chunked = b"transfer-encoding" in headers
    # Two lengths, or a length and chunks, are how requests are smuggled past a proxy.
    if len(lengths) + is_chunked > 1 or not all(re.fullmatch(rb"\d{1,18}", length) for length in lengths):
        raise BadRequest(400, "malformed body length")
    if len(headers.get(b"authorization", [])) > 1:
        raise BadRequest(400, "two Authorization headers")
    connection = {token.strip().lower() for value in headers.get(b"connection", []) for token in value.split(b",")}
    return Request(
        method,
        path_of(method, target),
        is_kept_alive=is_1_1 and b"close" not in connection and b"expect" not in headers,
        body_bytes=None if is_chunked else int(lengths.pop()) if lengths else 0,
        headers=headers,
        head=head,
    )


def path_of(method: str, target: str) -> str:
    if match := re.match(r"https?://[^/?#]+", target, re.IGNORECASE):
        target = target[match.end() :] or "/"
    elif method == "CONNECT" or (method == "OPTIONS" and target == "*"):
        return "*"
    elif not target.startswith("/"):
        raise BadRequest(400, "malformed target")
    return UNRESERVED.sub(lambda match: chr(int(match[1], 16)), target.partition("?")[0])
