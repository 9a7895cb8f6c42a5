"""Faults of connections: closed, reset, silent, deaf, half-open, and bytes that trickle."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from mdfeed.exchange.faults import Wire
from mdfeed.exchange.script import Fault, Passed


class Close(Fault):
    """The venue closes the connections in order: 1000, 1008 for a breach of its limits, 1001 after 24 h."""

    def __init__(self, *, code: int = 1000, reason: str = "", **window: Any) -> None:
        super().__init__(**{"for_s": 0.0, **window})
        self._code, self._reason = code, reason

    def begin(self, source: object) -> None:
        for wire in self.chosen_wires():
            self.count += 1
            wire.close(self._code, self._reason)


class Reset(Fault):
    """The connections are torn, without a word."""

    def __init__(self, **window: Any) -> None:
        super().__init__(**{"for_s": 0.0, **window})

    def begin(self, source: object) -> None:
        for wire in self.chosen_wires():
            self.count += 1
            wire.abort()


class Shutdown(Fault):
    """`serverShutdown` is announced on the connections, and `grace_s` later they are closed."""

    def __init__(self, *, grace_s: float = 2.0, **window: Any) -> None:
        super().__init__(**{"for_s": grace_s, **window})
        self._told: list[Wire] = []

    def begin(self, source: object) -> None:
        self._told = self.chosen_wires()
        for wire in self._told:
            self.count += 1
            wire.say(b'{"e":"serverShutdown","E":%d}' % (self.now_ns // 1_000_000))

    def end(self, source: object) -> None:
        for wire in self._told:
            if wire in self.wires:
                wire.close(1001, "server shutdown")


class HalfOpen(Fault):
    """The connections stay open and nothing passes any more, in either direction, for as long as they live."""

    def __init__(self, **window: Any) -> None:
        super().__init__(**{"for_s": 0.0, **window})

    def begin(self, source: object) -> None:
        for wire in self.chosen_wires():
            self.count += 1
            wire.freeze()


class Deaf(Fault):
    """Connections opened meanwhile are accepted, answer PINGs, and never say anything: the wrong route."""

    def __init__(self, **window: Any) -> None:
        super().__init__(**window)
        self._deaf: set[Wire] = set()

    def opened(self, wire: Wire) -> None:
        super().opened(wire)
        if self.is_on and wire in self.chosen_wires():
            self.count += 1
            self._deaf.add(wire)

    def closed(self, wire: Wire) -> None:
        super().closed(wire)
        self._deaf.discard(wire)

    def frame(self, wire: Wire, stream: str, frame: bytes) -> Passed:
        return () if wire in self._deaf else ((0.0, frame),)


class NoPong(Fault):
    """The client's PINGs have no answer, on connections that were open or are opened meanwhile."""

    def begin(self, source: object) -> None:
        for wire in self.chosen_wires():
            self.count += 1
            wire.mute_pongs()

    def opened(self, wire: Wire) -> None:
        super().opened(wire)
        if self.is_on and wire in self.chosen_wires():
            self.count += 1
            wire.mute_pongs()


class NoPing(Fault):
    """The venue's own pings are not sent."""

    def pinged(self, wire: Wire) -> bool:
        return not (self.is_on and wire in self.chosen_wires())


class Tls(Fault):
    """TLS handshakes show a certificate that a client refuses: "untrusted", "expired" or "foreign" (of another host).

    Open connections are torn when it begins (`cuts` False: they stay). Nothing happens without TLS.
    """

    KINDS = ("untrusted", "expired", "foreign")

    def __init__(self, *, kind: str = "untrusted", cuts: bool = True, **window: Any) -> None:
        super().__init__(**window)
        if kind not in self.KINDS:
            raise ValueError(f"kind: {kind!r} is none of {', '.join(self.KINDS)}")
        self._kind, self._cuts = kind, cuts

    def begin(self, source: object) -> None:
        if self._cuts:
            for wire in self.chosen_wires():
                wire.abort()

    def greeted(self) -> str | None:
        if not self.is_on:
            return None
        self.count += 1
        return self._kind


class Dribble(Fault):
    """Bytes come `piece` at a time, `bytes_per_s` of them at most (0: as fast as they go). Sockets only."""

    def __init__(self, *, piece: int = 1, bytes_per_s: float = 0.0, **window: Any) -> None:
        super().__init__(**window)
        self._piece, self._bytes_per_s = max(1, piece), bytes_per_s
        self._waiting: dict[Wire, deque[bytes]] = {}
        self._pourers: set[asyncio.Task[None]] = set()

    def takes_bytes(self, wire: Wire) -> bool:
        return wire in self._waiting or (self.is_on and wire in self.chosen_wires())

    def write(self, wire: Wire, data: bytes) -> None:
        waiting = self._waiting.get(wire)
        if waiting is None:
            waiting = self._waiting[wire] = deque()
            pourer = asyncio.get_running_loop().create_task(self._pour(wire, waiting))
            self._pourers.add(pourer)
            pourer.add_done_callback(self._pourers.discard)
        waiting.append(data)

    async def _pour(self, wire: Wire, waiting: deque[bytes]) -> None:
        """Until nothing waits: what comes after the window waits too, or it would overtake."""
        since_nap = 0
        while waiting and wire in self.wires:
            data = waiting.popleft()
            for at in range(0, len(data), self._piece):
                wire.write(data[at : at + self._piece])
                since_nap += self._piece
                # Without a limit only the reader's turn is waited for, so that it meets the pieces.
                if self._bytes_per_s and since_nap >= self._bytes_per_s / 100:
                    await asyncio.sleep(since_nap / self._bytes_per_s)
                    since_nap = 0
                elif not self._bytes_per_s and since_nap >= 64 * self._piece:
                    await asyncio.sleep(0)
                    since_nap = 0
            self.count += 1
        self._waiting.pop(wire, None)
