"""mdfeed.page: what is served at `/` and the headers that guard it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from mdfeed.httphead import Request, parse_head
from mdfeed.page import Page
from mdfeed.settings import Auth
from mdfeed.viewers import Viewers
from tests.http_rig import rig_of

TOKEN = "sesame-sesame-12"


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(Viewers(None))  # type: ignore[arg-type]


def asking(*headers: str, path: str = "/") -> Request:
    return parse_head("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers]).encode())


class Elements(HTMLParser):
    """Every tag with its attributes, and the text of script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_one_document_holds_everything_and_reaches_nowhere(page: Page) -> None:
    answer = page.document(asking())
    assert (answer.status, answer.kind) == (200, "text/html; charset=utf-8")
    elements = Elements(answer.body.decode())
    assert len(elements.texts["script"]) > 1000
    assert len(elements.texts["style"]) > 1000
    for tag, attributes in elements.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")], tag
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
    assert not re.search(rb"url\(|@import|innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", answer.body)
    # Addresses in it: the vocabulary of its icon alone.
    assert set(re.findall(rb"https?://[^\s'\"]+", answer.body)) == {b"http://www.w3.org/2000/svg"}
    assert len(answer.body) < 50_000


def test_the_policy_names_what_may_run_by_its_hash(page: Page) -> None:
    answer = page.document(asking())
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
    elements = Elements(answer.body.decode())
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(elements.texts[tag].encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
        assert len([found for found, _ in elements.tags if found == tag]) == 1
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("If-None-Match: {}", 304),
        ("If-None-Match: W/{}", 304),
        ('If-None-Match: "other", {}', 304),
        ("If-None-Match: *", 304),
        ('If-None-Match: "other"', 200),
        ("If-None-Match: \xff", 200),
        ("Accept: */*", 200),
    ],
)
def test_who_has_the_page_is_not_sent_it_again(page: Page, header: str, status: int) -> None:
    head = f"GET / HTTP/1.1\r\nHost: x\r\n{header.format(page.etag)}".encode("latin-1")
    answer = page.document(parse_head(head))
    assert (answer.status, answer.body == b"") == (status, status == 304)
    said = answer.encode("now", method="GET")
    assert f"ETag: {page.etag}".encode() in said
    assert (b"Content-Length" in said) == (status == 200)


async def test_a_browser_without_the_token_gets_a_page_that_asks_for_it() -> None:
    accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
    async with rig_of(Auth(token=TOKEN)) as rig:
        asked = rig.server.answer(asking(accept))
        assert (asked.status, asked.kind) == (401, "text/html; charset=utf-8")  # type: ignore[union-attr]
        assert asked.headers["WWW-Authenticate"] == 'Bearer realm="mdfeed"'  # type: ignore[union-attr]
        assert asked.headers["Cache-Control"] == "no-store"  # type: ignore[union-attr]
        assert "Set-Cookie" not in asked.headers  # type: ignore[union-attr]
        assert b"BTC" not in asked.body  # type: ignore[union-attr]
        for request in (asking(accept, path="/ready"), asking("Accept: */*"), asking(accept, path="/ws")):
            assert rig.server.answer(request).kind == "application/json"  # type: ignore[union-attr]
        let_in = rig.server.answer(asking(accept, f"Authorization: Bearer {TOKEN}"))
        assert (let_in.status, "Set-Cookie" in let_in.headers) == (200, True)  # type: ignore[union-attr]
    async with rig_of(Auth(user="ops", password="pw")) as rig:
        assert rig.server.answer(asking(accept)).kind == "application/json"  # type: ignore[union-attr]
