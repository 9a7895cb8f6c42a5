"""When a connection may be dialled: the venue's limit of connects, and its word for this address.

Answers for all lines of one address together. Knows no transport and no line; it has the word from who else asks the
venue, and hands on what an upgrade was refused with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mdfeed.refusals import Refusal

LOOK_S = 1.0  # between looks at whether it is still forbidden
# What the venue means for the address, not for the one connection.
OF_THE_ADDRESS = frozenset({"rate_limited", "banned"})


def nobody(refusal: Refusal) -> None:
    """Nobody needs to be told."""


class ConnectBudget:
    """At most `most` connects within `per_s` seconds, and none while `forbidden_s` says that the venue forbids them.

    `on_refused` is told of a refused upgrade that is meant for the address.
    """

    def __init__(
        self,
        most: int = 300,
        per_s: float = 300.0,
        *,
        forbidden_s: Callable[[], float] = float,
        on_refused: Callable[[Refusal], object] = nobody,
    ) -> None:
        self._most = most
        self._per_s = per_s
        self._forbidden_s = forbidden_s
        self._on_refused = on_refused
        self._taken: deque[float] = deque()

    @property
    def waits_for(self) -> str:
        """What a line that was not refused waits for, for people."""
        return "held back while the venue forbids it" if self._forbidden_s() > 0 else "connecting"

    def wait_s(self, now_s: float) -> float:
        """0 when a connect may leave now, which is then counted; else seconds until it is worth asking again."""
        forbidden_s = self._forbidden_s()
        if forbidden_s > 0:
            return min(forbidden_s, LOOK_S)
        while self._taken and self._taken[0] <= now_s - self._per_s:
            self._taken.popleft()
        if len(self._taken) < self._most:
            self._taken.append(now_s)
            return 0.0
        return max(self._taken[0] + self._per_s - now_s, 0.001)

    async def turn(self) -> None:
        """Return once a connect may leave, which is then counted."""
        while (wait_s := self.wait_s(asyncio.get_running_loop().time())) > 0:
            await asyncio.sleep(wait_s)

    def refused(self, refusal: Refusal) -> None:
        """An upgrade was refused."""
        if refusal.reason in OF_THE_ADDRESS:
            self._on_refused(refusal)
