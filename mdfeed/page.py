"""The web page's document: one self-contained HTML of the files in static/, and the headers that guard it.

Answers for: the document, its ETag, a Content-Security-Policy that names its script and style by their hashes.
Refuses to know: who may have it (http.py), and its data (viewers.py).
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from mdfeed.httphead import Answer, Request
from mdfeed.httpline import Takeover
from mdfeed.viewers import Viewers

POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class Page:
    """`/` and `/ws`. Reads its files once, when it is made."""

    def __init__(self, viewers: Viewers) -> None:
        self.viewers = viewers
        text, style, *scripts = (read(name) for name in ("page.html", "page.css", "draw.js", "link.js"))
        style, script = f"\n{style}", "\n" + "\n".join(scripts)
        self.body = text.replace("<style></style>", f"<style>{style}</style>").replace(
            "<script></script>", f"<script>{script}</script>"
        ).encode()  # fmt: skip
        self.etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'
        self.headers = {
            "Content-Security-Policy": POLICY.format(script=sha256(script), style=sha256(style)),
            "Cache-Control": "private, no-cache",  # with a ticket in it, it is one client's
            "ETag": self.etag,
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
        }

    def document(self, request: Request) -> Answer:
        """200 with the page, or 304 to who has this one."""
        known = {tag.removeprefix(b"w/") for tag in request.tokens(b"if-none-match")}
        if known & {self.etag.encode(), b"*"}:
            return Answer(304, "", b"", self.headers)
        return Answer(200, "text/html; charset=utf-8", self.body, self.headers)

    def upgrade(self, request: Request) -> Answer | Takeover:
        return self.viewers.admit(request)

    def close(self) -> None:
        self.viewers.close()


def read(name: str) -> str:
    return files("mdfeed").joinpath("static", name).read_text("utf-8")


def sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
