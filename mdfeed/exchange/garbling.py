"""Faults of frames: lost, repeated, out of order, late, in heaps, damaged, new, or of another meaning."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from mdfeed.exchange.faults import Answer, Asked, Wire
from mdfeed.exchange.script import Fault, Passed

_ROOM_NS = 1_000  # between two frames that leave together, so that their order holds


class Drop(Fault):
    """Frames are lost: each with probability `share`, at most `most` of them."""

    def __init__(self, *, share: float = 1.0, most: int | None = None, **window: Any) -> None:
        super().__init__(**window)
        self._share, self._most = share, most

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        if not self.chooses(wire, stream) or self.count == self._most or self.rng.random() >= self._share:
            return ((0.0, frame),)
        self.count += 1
        return ()


class Silence(Drop):
    """One stream says nothing while the others go on: by default the diffs, bookTicker being alive."""

    def __init__(self, *, stream: str = "*@depth*", **window: Any) -> None:
        super().__init__(stream=stream, **window)


class Duplicate(Fault):
    """Frames come twice, the second time `by_s` later."""

    def __init__(self, *, share: float = 1.0, by_s: float = 0.0, **window: Any) -> None:
        super().__init__(**window)
        self._share, self._by_s = share, by_s

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        if not self.chooses(wire, stream) or self.rng.random() >= self._share:
            return ((0.0, frame),)
        self.count += 1
        return ((0.0, frame), (self._by_s, frame))


class Reorder(Fault):
    """A frame comes after the next one of its stream."""

    def __init__(self, *, share: float = 0.2, **window: Any) -> None:
        super().__init__(**window)
        self._share = share
        self._held: dict[tuple[Wire, str], bytes] = {}

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        held = self._held.pop((wire, stream), None)
        if held is not None:
            return ((0.0, frame), (0.0, held)) if self.is_on else ((0.0, held), (0.0, frame))
        if not self.chooses(wire, stream) or self.rng.random() >= self._share:
            return ((0.0, frame),)
        self.count += 1
        self._held[wire, stream] = frame
        return ()

    def closed(self, wire: Wire) -> None:
        super().closed(wire)
        self._held = {key: frame for key, frame in self._held.items() if key[0] is not wire}


class _Late(Fault, ABC):
    """Holds frames back, each stream in order: what comes after the window never overtakes what it holds."""

    def __init__(self, **window: Any) -> None:
        super().__init__(**window)
        self._last_ns: dict[tuple[Wire, str], int] = {}

    @abstractmethod
    def leaves_ns(self) -> int:
        """When a frame that is chosen now may leave."""

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        key = (wire, stream)
        at_ns = self.now_ns
        if self.chooses(wire, stream):
            self.count += 1
            at_ns = self.leaves_ns()
        elif key not in self._last_ns:
            return ((0.0, frame),)
        if at_ns <= self._last_ns.get(key, 0):
            at_ns = self._last_ns[key] + _ROOM_NS
        elif not self.is_on:
            del self._last_ns[key]
            return ((0.0, frame),)
        self._last_ns[key] = at_ns
        return (((at_ns - self.now_ns) / 1e9, frame),)

    def closed(self, wire: Wire) -> None:
        super().closed(wire)
        self._last_ns = {key: at_ns for key, at_ns in self._last_ns.items() if key[0] is not wire}


class Delay(_Late):
    """Frames come `by_s` late, and up to `jitter_s` later still. A stream's own order holds, that of two does not."""

    def __init__(self, *, by_s: float = 0.3, jitter_s: float = 0.0, **window: Any) -> None:
        super().__init__(**window)
        self._by_s, self._jitter_s = by_s, jitter_s

    def leaves_ns(self) -> int:
        return self.now_ns + round((self._by_s + self.rng.random() * self._jitter_s) * 1e9)


class Batch(_Late):
    """Frames come in heaps, all of a connection's every `by_s`."""

    def __init__(self, *, by_s: float = 0.5, **window: Any) -> None:
        super().__init__(**window)
        self._by_ns = max(1, round(by_s * 1e9))

    def leaves_ns(self) -> int:
        return self.now_ns - self.now_ns % self._by_ns + self._by_ns


class Cut(Fault):
    """Frames end in the middle."""

    def __init__(self, *, share: float = 0.05, **window: Any) -> None:
        super().__init__(**window)
        self._share = share

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        if not self.chooses(wire, stream) or self.rng.random() >= self._share:
            return ((0.0, frame),)
        self.count += 1
        return ((0.0, frame[: self.rng.randrange(len(frame))]),)


class Garbage(Fault):
    """Between the frames come others that mean nothing; with `replaces` they come in their place."""

    def __init__(self, *, share: float = 0.2, replaces: bool = False, **window: Any) -> None:
        super().__init__(**window)
        self._share, self._replaces = share, replaces

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        if not self.chooses(wire, stream) or self.rng.random() >= self._share:
            return ((0.0, frame),)
        self.count += 1
        rubbish = self._rubbish(frame)
        return ((0.0, rubbish),) if self._replaces else ((0.0, rubbish), (0.0, frame))

    def _rubbish(self, frame: bytes) -> bytes:
        # Valid UTF-8 always: what is not ends the connection by RFC 6455, which is another fault.
        rng = self.rng
        match rng.randrange(6):
            case 0:
                return b""
            case 1:
                return bytes(rng.randrange(32, 127) for _ in range(rng.randrange(1, 400)))
            case 2:
                return rng.choice((b"null", b"[]", b"{}", b'"x"', b"-0", b"[" * 300, b'{"stream":null,"data":null}'))
            case 3:
                return frame + frame
            case 4:
                at = rng.randrange(len(frame))
                return frame[:at] + bytes((rng.choice(b'{}[]",:\x00z'),)) + frame[at + 1 :]
            case _:
                return frame.replace(b'"', b"'")


class Strange(Fault):
    """New fields in known events, new enum values, new kinds of event: none of it is documented, all of it happens."""

    def __init__(self, *, share: float = 1.0, **window: Any) -> None:
        super().__init__(**window)
        self._share = share

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        if not self.chooses(wire, stream) or not stream or self.rng.random() >= self._share:
            return ((0.0, frame),)
        self.count += 1

        def more(data: dict[str, Any]) -> dict[str, Any]:
            data |= {"zz": {"deep": [1, [2.5e3, None]], "text": 'a "quoted" \u00e9'}, "nq2": "1.5", "on": True}
            if data.get("X") == "MARKET":
                data["X"] = "NEW_KIND"
            return data

        new = b'{"stream":"%b","data":{"e":"novelty","E":1,"s":"NOPE","x":[]}}' % stream.encode()
        return ((0.0, new), (0.0, _changed(frame, more)))


class Meaning(Fault):
    """The venue changes what bookTicker means: its quantities are other ones than the book's."""

    def __init__(self, *, stream: str = "*@bookTicker", **window: Any) -> None:
        super().__init__(stream=stream, **window)

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        if not self.chooses(wire, stream):
            return ((0.0, frame),)
        self.count += 1
        return ((0.0, re.sub(rb'"([BA])":"(\d)', rb'"\1":"1\2', frame)),)


class Skew(Fault):
    """The venue's clock jumps by `by_s`: event times in frames and in REST answers."""

    def __init__(self, *, by_s: float = -3600.0, **window: Any) -> None:
        super().__init__(**window)
        self._by_ms = round(by_s * 1000)

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        if not self.chooses(wire, stream):
            return ((0.0, frame),)
        self.count += 1
        return ((0.0, self._shifted(frame)),)

    def answered(self, asked: Asked, answer: Answer) -> Answer:
        if self.is_on and not asked.is_upgrade and answer.status == 200:
            answer.body = self._shifted(answer.body)
        return answer

    def _shifted(self, text: bytes) -> bytes:
        def shift(found: re.Match[bytes]) -> bytes:
            return b'"%b":%d' % (found[1], int(found[2]) + self._by_ms)

        return re.sub(rb'"(E|T|serverTime)":(\d{13})\b', shift, text)


def _changed(frame: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """A frame with its event changed, whether or not it is combined; as it is when another fault has spoilt it."""
    try:
        message = json.loads(frame)
    except ValueError:
        return frame
    if not isinstance(message, dict):
        return frame
    if "stream" in message and "data" in message:
        message["data"] = change(message["data"])
    else:
        message = change(message)
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
