class Proof:
    """Deferred comparison of applied diffs with bookTickers; counts `match`, `mismatch` and `unjudged`."""

    match: int
    mismatch: int
    unjudged: int
    mismatches_in_a_row: int
    matches_in_a_row: int
    contradictions: int
    @property
    def pending(self) -> int: ...
    @property
    def memory_bytes(self) -> int:
        """Bytes held, malloc's own share included."""
