class Budget:
    """Bytes that all frame buffers of a feed may hold together."""

    limit: int
    used: int
    def __init__(self, limit: int) -> None: ...

class FrameBuffer:
    """Frames in order of arrival, each with its line and receive time."""

    count: int
    def __init__(self, budget: Budget) -> None: ...
    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
