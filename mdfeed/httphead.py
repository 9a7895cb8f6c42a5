"""A request head's bytes -> Request, strictly by RFC 9110 and 9112.

Answers for: what is a request and what is not (bare line ends, folded headers, two lengths, smuggling). Refuses to
know: sockets, paths, answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP/(\d)\.(\d)")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


class BadRequest(Exception):
    """What the client sent is no request that we can answer otherwise; `status` says how."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A parsed head. `body_bytes` follow it (None: unknown, chunked); `authorization` is that header's value."""

    method: str
    path: str
    is_kept_alive: bool
    body_bytes: int | None
    authorization: bytes | None = None


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
    authorization = headers.get(b"authorization", [])
    if len(authorization) > 1:
        raise BadRequest(400, "two Authorization headers")
    tokens = {token.strip().lower() for value in headers.get(b"connection", []) for token in value.split(b",")}
    return Request(
        method,
        path_of(method, target),
        is_kept_alive=is_1_1 and b"close" not in tokens and b"expect" not in headers,
        body_bytes=None if is_chunked else int(lengths.pop()) if lengths else 0,
        authorization=authorization[0] if authorization else None,
    )


def path_of(method: str, target: str) -> str:
    if match := re.match(r"https?://[^/?#]+", target, re.IGNORECASE):
        target = target[match.end() :] or "/"
    elif method == "CONNECT" or (method == "OPTIONS" and target == "*"):
        return "*"
    elif not target.startswith("/"):
        raise BadRequest(400, "malformed target")
    return target.partition("?")[0]
