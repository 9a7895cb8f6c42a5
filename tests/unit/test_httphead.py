"""mdfeed.httphead: what a request says of itself, and how an answer is written."""

from __future__ import annotations

import pytest

from mdfeed.httphead import Answer, as_json, parse_head


def head(*lines: str) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", *lines]).encode("latin-1")


@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        ("mdfeed:8080", "http://mdfeed:8080", True),
        ("mdfeed:8080", "https://mdfeed:8080", True),
        ("MDfeed:8080", "http://mdfeed:8080", True),
        ("mdfeed", "https://mdfeed", True),
        ("mdfeed:443", "https://mdfeed", True),
        ("mdfeed:80", "http://mdfeed", True),
        ("mdfeed", "http://mdfeed:80", True),
        ("[::1]:8080", "http://[::1]:8080", True),
        ("mdfeed:80", "https://mdfeed", False),
        ("mdfeed:8080", "http://mdfeed:8081", False),
        ("mdfeed:8080", "http://mdfeed", False),
        ("mdfeed", "http://mdfeed.evil.example", False),
        ("mdfeed", "http://evil.example/mdfeed", False),
        ("mdfeed", "http://mdfeed@evil.example", False),
        ("mdfeed", "ftp://mdfeed", False),
        ("mdfeed", "mdfeed", False),
        ("mdfeed", "null", False),
        ("mdfeed", "", False),
    ],
)
def test_whether_a_page_of_our_own_asks(host: str, origin: str, is_own: bool) -> None:
    assert parse_head(head(f"Host: {host}", f"Origin: {origin}")).is_from_own_page is is_own


def test_without_one_origin_nobodys_page_asks() -> None:
    assert not parse_head(head("Host: a")).is_from_own_page
    assert not parse_head(head("Host: a", "Origin: http://a", "Origin: http://a")).is_from_own_page


def test_headers_tokens_and_cookies() -> None:
    request = parse_head(head("Host: a", "ACCEPT: Text/HTML , */*", "accept: x", "Cookie: a=1; b=2=3;c", "cookie: b=4"))
    assert request.header(b"accept") == b"Text/HTML , */*, x"
    assert request.header(b"origin") is None
    assert request.tokens(b"accept") == {b"text/html", b"*/*", b"x"}
    assert request.tokens(b"upgrade") == set()
    assert (request.cookie(b"a"), request.cookie(b"b"), request.cookie(b"c")) == (b"1", b"2=3", None)


def test_an_answers_own_headers_take_the_place_of_the_usual_ones() -> None:
    answer = Answer(200, "text/html", b"<p>", {"Cache-Control": "no-cache", "ETag": '"x"'})
    said = answer.encode("now", method="GET")
    assert said.endswith(b"\r\n\r\n<p>")
    assert said.count(b"Cache-Control") == 1
    assert b"Cache-Control: no-cache\r\n" in said
    assert b"Content-Length: 3\r\n" in answer.encode("now", method="HEAD")
    assert not answer.encode("now", method="HEAD").endswith(b"<p>")
    assert b"Access-Control-Allow-Origin" not in answer.encode("now", method="POST")
    assert b"Connection: close" in answer.encode("now", is_last=True)
    assert as_json(405, {}, Allow="GET", Retry_After="1").headers == {"Allow": "GET", "Retry-After": "1"}


def test_what_is_encoded_without_need_is_what_it_is_and_nothing_else() -> None:
    plain = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
    for byte in range(256):
        for text in (f"%{byte:02x}", f"%{byte:02X}"):
            path = parse_head(f"GET /a{text}?{text} HTTP/1.1\r\nHost: x".encode()).path
            assert path == (f"/a{chr(byte)}" if byte in plain else f"/a{text}")
    for path in ("/%", "/%4", "/%zz", "/%2541"):
        assert parse_head(f"GET {path} HTTP/1.1\r\nHost: x".encode()).path == path
