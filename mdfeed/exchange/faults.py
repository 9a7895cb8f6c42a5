"""The seam: everything that leaves the simulated venue passes through one `Seam` object.

The plain one lets all of it through. A fault (script.py) subclasses it and drops, delays, repeats, reorders, cuts,
garbles, stalls or refuses per connection, stream and symbol. The same object serves sockets and virtual time: it reads
no clock, it is told the time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass
class Answer:
    """An HTTP answer. `headers` come beside Content-Type and Content-Length."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delay_s: float = 0.0


@dataclass(frozen=True)
class Asked:
    """An HTTP request, or the upgrade of a WebSocket (`is_upgrade`)."""

    method: str
    path: str  # with the query
    peer: str
    is_upgrade: bool


class Wire(Hashable, Protocol):
    """What a script may do to one open WebSocket."""

    path: str

    def write(self, data: bytes) -> None:
        """Bytes to the socket, after whatever was written before."""

    def close(self, code: int, reason: str) -> None:
        """A closing handshake begun by the venue."""

    def abort(self) -> None:
        """A TCP reset."""

    def say(self, text: bytes) -> None:
        """One text message of the venue's own, past the seam."""

    def freeze(self) -> None:
        """From now on nothing passes in either direction, and the socket stays open."""

    def mute_pongs(self) -> None:
        """From now on the client's PINGs have no answer."""


class Seam:
    """Lets everything through. Times are seconds from now."""

    def step(self, now_ns: int, source: object) -> None:
        """The venue's clock has moved on; `source` (a Market, or a playback) is about to."""

    def greeted(self) -> str | None:
        """At the start of a TLS handshake: the kind of a bad certificate that is shown, or None for the good one."""
        return None

    def asked(self, asked: Asked) -> Answer | None:
        """Before a request is looked at: an answer given instead (a 403, a 451, a refused upgrade), or None."""
        return None

    def answered(self, asked: Asked, answer: Answer) -> Answer:
        """After a request was answered and counted: the answer that is sent (`delay_s` makes it slow)."""
        return answer

    def opened(self, wire: Wire) -> None:
        """A WebSocket is open and nothing was sent on it yet."""

    def closed(self, wire: Wire) -> None:
        """A WebSocket is gone."""

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Sequence[tuple[float, bytes]]:
        """What becomes of one event for one connection: (delay_s, text) any number of times, in order of writing.

        `frame` is the text as the client would get it.
        """
        return ((0.0, frame),)

    def write(self, wire: Wire, data: bytes) -> None:
        """Framed bytes of one or several messages, on their way to the socket."""
        wire.write(data)

    def pinged(self, wire: Wire) -> bool:
        """Whether a ping that is due is sent."""
        return True
