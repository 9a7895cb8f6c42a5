"""An event loop on virtual time: sleeping costs nothing, so waits of minutes run in milliseconds."""

from __future__ import annotations

import asyncio
import selectors


class _NoWait(selectors.DefaultSelector):
    """Nothing ever arrives from outside: waiting is moving the clock on."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list:
        assert timeout is not None, "everything waits, and nothing is due"
        self.loop.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`advance(to_s)` runs everything that is due until then."""

    def __init__(self) -> None:
        self.now_s = 0.0
        selector = _NoWait()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

    def advance(self, to_s: float) -> None:
        if to_s > self.now_s:
            self.call_at(to_s, self.stop)
            self.run_forever()
            self.now_s = max(self.now_s, to_s)
