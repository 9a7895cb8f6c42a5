def now_ns() -> int:
    """UTC ns by this clock."""

def ahead_of_steady_ns() -> int:
    """This clock less the machine's steady one: by how much that changes, this clock was corrected."""

def follow(wall_ns: int | None = None) -> int:
    """Look at the wall clock (or at `wall_ns`), once a second or so; returns ns that it is ahead of this clock."""
