def now_ns() -> int:
    """UTC ns by this clock."""

def ahead_of_steady_ns() -> int:
    """This clock less the machine's steady one: by how much that changes, this clock was corrected."""

def follow(wall_ns: int | None = None) -> int:
    """Look at the wall clock (or at `wall_ns`), once a second or so; returns ns that it is ahead of this clock."""

def open_timer(period_ns: int) -> int:
    """A descriptor that becomes readable every `period_ns` (8 bytes to read), for loops whose timers are too coarse.

    -1 where the system has none (macOS). The caller closes it. OSError when there are too many.
    """

class SlewedClock:
    """The same clock on a steady and a wall clock that are given, ns both: what the process's does, on virtual time."""

    def __init__(self, wall_ns: int, steady_ns: int) -> None: ...
    def now_ns(self, steady_ns: int) -> int:
        """UTC ns by this clock."""

    def follow(self, wall_ns: int, steady_ns: int) -> int:
        """Look at the wall clock, once a second or so; returns ns that it is ahead of this clock."""
