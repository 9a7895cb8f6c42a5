class Slots:
    """The lines of one symbol."""

    def race(self, line: int) -> tuple[int, int, int]:
        """(diffs, wins, sum of delays in ns) of this line's connection: how often it brought a diff first."""

    def lagging(self, now_ns: int) -> list[int]:
        """Lines whose diffs have stopped while another line's go on."""
