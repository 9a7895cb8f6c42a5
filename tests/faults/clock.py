"""An event loop on virtual time: sleeping costs nothing, so the daemon's own coroutines run through days in minutes."""

from __future__ import annotations

import asyncio
import selectors


class _NoWait(selectors.DefaultSelector):
    """Nothing ever arrives from outside: waiting is moving the clock on."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list:
        assert timeout is not None, "everything waits, and nothing is due"
        self._loop.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`advance(to_s)` runs everything that is due until then."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_NoWait(self))

    def time(self) -> float:
        return self.now_s

    def advance(self, to_s: float) -> None:
        if to_s > self.now_s:
            self.call_at(to_s, self.stop)
            self.run_forever()
            self.now_s = max(self.now_s, to_s)
