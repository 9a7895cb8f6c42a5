"""When faults act, and how several act together.

A `Fault` is a seam with a window of time and a choice of streams and connections; a `Script` is a seam made of
faults, which may come and go while the venue runs. What a fault does is in garbling.py (frames), cutting.py
(connections and bytes), refusing.py (HTTP) and upsets.py (the market itself).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from mdfeed.exchange.faults import Answer, Asked, Seam, Wire

_S = 1_000_000_000
Passed = Sequence[tuple[float, bytes]]


class Fault(Seam):
    """Acts from `at_s` after it was first told the time, for `for_s` (None: ever), again every `every_s` (None: once).

    `stream` and `path` choose by shell patterns: a stream's name ("btcusdt@depth*"; "" is an answer to a request) and
    a connection's path with its query ("/public/*"). Chance comes from `seed` alone. `count` counts how often it acted.
    """

    def __init__(
        self,
        *,
        stream: str = "*",
        path: str = "*",
        at_s: float = 0.0,
        for_s: float | None = None,
        every_s: float | None = None,
        seed: int = 1,
    ) -> None:
        self.is_on = False
        self.count = 0
        self.now_ns = 0
        self.wires: dict[Wire, None] = {}
        self.rng = random.Random(f"{type(self).__name__}:{seed}")
        self._stream, self._path = stream, path
        self._at_ns = round(at_s * _S)
        self._for_ns = None if for_s is None else round(for_s * _S)
        self._every_ns = None if every_s is None else max(1, round(every_s * _S))
        self._start_ns: int | None = None
        self._round = -1
        self._chosen: dict[tuple[str, str], bool] = {}

    @property
    def is_over(self) -> bool:
        """It has acted and will not act again."""
        if self._every_ns is not None or self._for_ns is None or self._start_ns is None:
            return False
        return not self.is_on and self._round >= 0

    def stop(self) -> None:
        """End it now, for good: what it held back is let go with the next frame."""
        self._for_ns, self._every_ns = 0, None

    def chooses(self, wire: Wire, stream: str) -> bool:
        """Whether it acts on this stream of this connection at this time."""
        if not self.is_on:
            return False
        key = (wire.path, stream)
        chosen = self._chosen.get(key)
        if chosen is None:
            if len(self._chosen) > 10_000:
                self._chosen.clear()
            chosen = self._chosen[key] = fnmatchcase(stream, self._stream) and fnmatchcase(wire.path, self._path)
        return chosen

    def chosen_wires(self) -> list[Wire]:
        """The open connections that it acts on."""
        return [wire for wire in self.wires if fnmatchcase(wire.path, self._path)]

    # ---- for those that act at a moment

    def begin(self, source: object) -> None:
        """The window opens."""

    def end(self, source: object) -> None:
        """The window closes."""

    # ---- the seam

    def step(self, now_ns: int, source: object) -> None:
        self.now_ns = now_ns
        if self._start_ns is None:
            self._start_ns = now_ns
        since_ns = now_ns - self._start_ns - self._at_ns
        if since_ns < 0:
            return
        number = since_ns // self._every_ns if self._every_ns is not None else 0
        if number > self._round:
            if self.is_on:
                self._close(source)
            self._round = number
            self.is_on = True
            self.begin(source)
        in_round_ns = since_ns - number * (self._every_ns or 0)
        if self.is_on and self._for_ns is not None and in_round_ns >= self._for_ns:
            self._close(source)

    def _close(self, source: object) -> None:
        self.is_on = False
        self.end(source)

    def opened(self, wire: Wire) -> None:
        self.wires[wire] = None

    def closed(self, wire: Wire) -> None:
        self.wires.pop(wire, None)

    def takes_bytes(self, wire: Wire) -> bool:
        """Whether `write` does anything of its own for this connection now."""
        return False


class Script(Seam):
    """Several faults as one seam, in order: what one lets through, the next sees."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.wires: dict[Wire, None] = {}
        self.faults: list[Fault] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Let one more fault act; its time begins with the next step."""
        fault.wires.update(self.wires)
        self.faults.append(fault)

    def remove(self, fault: Fault) -> None:
        """Forget a fault, with whatever it still holds back."""
        self.faults.remove(fault)

    def step(self, now_ns: int, source: object) -> None:
        for fault in self.faults:
            fault.step(now_ns, source)

    def greeted(self) -> str | None:
        return next((kind for fault in self.faults if (kind := fault.greeted()) is not None), None)

    def asked(self, asked: Asked) -> Answer | None:
        for fault in self.faults:
            answer = fault.asked(asked)
            if answer is not None:
                return answer
        return None

    def answered(self, asked: Asked, answer: Answer) -> Answer:
        for fault in self.faults:
            answer = fault.answered(asked, answer)
        return answer

    def opened(self, wire: Wire) -> None:
        self.wires[wire] = None
        for fault in self.faults:
            fault.opened(wire)

    def closed(self, wire: Wire) -> None:
        self.wires.pop(wire, None)
        for fault in self.faults:
            fault.closed(wire)

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        passed: Passed = ((0.0, frame),)
        for fault in self.faults:
            passed = [(by_s + more_s, text) for by_s, one in passed for more_s, text in fault.frame(wire, stream, one)]
        return passed

    def write(self, wire: Wire, data: bytes) -> None:
        for fault in self.faults:
            if fault.takes_bytes(wire):
                fault.write(wire, data)
                return
        wire.write(data)

    def pinged(self, wire: Wire) -> bool:
        return all(fault.pinged(wire) for fault in self.faults)
