"""Whether a process grows: resident memory and file descriptors, looked at while it works."""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path

WARM_SHARE = 0.34  # of the work: caches and bounded logs fill up
ROOM_MIB = 12.0
ROOM_SHARE = 0.08
ROOM_FDS = 8  # connections that come and go: four for REST, one of the WS-API, a successor a line, a scrape


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Growth:
    """`look` now and then with the share of the work that is done; `verdict` at the end. `pid`: not this process.

    Memory may end `room_mib` and 8 % above the most that it was while the first third of the work was done, descriptors
    by as many as come and go at any time: each fault that leaked one would be seen.
    """

    def __init__(self, *, pid: int | None = None, room_mib: float = ROOM_MIB) -> None:
        self._pid = pid or os.getpid()
        self.warm_mib = self.mib = 0.0
        self.warm_fds = self.fds = 0
        self._room_mib = room_mib

    def look(self, share: float) -> None:
        self.mib, self.fds = resident_mib(self._pid), descriptors(self._pid)
        if share <= WARM_SHARE or not self.warm_mib:
            self.warm_mib, self.warm_fds = max(self.warm_mib, self.mib), max(self.warm_fds, self.fds)

    def verdict(self) -> str:
        """What has grown; "" when nothing has."""
        gc.collect()
        self.look(1.0)
        if self.mib > self.warm_mib * (1 + ROOM_SHARE) + self._room_mib:
            return f"memory grows: {self.warm_mib:.0f} MiB after a third, {self.mib:.0f} MiB at the end"
        if self.fds > self.warm_fds + ROOM_FDS:
            return f"descriptors grow: {self.warm_fds} after a third, {self.fds} at the end"
        return ""

    def __str__(self) -> str:
        return f"{self.mib:.0f} MiB, {self.fds} fds"
