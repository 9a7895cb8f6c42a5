import sys

from typing_extensions import disjoint_base

@disjoint_base
class Rows:
    """Levels of one side at one moment: len(), and (n, 2) float64 by the buffer protocol, read-only, best first."""

    def __len__(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
