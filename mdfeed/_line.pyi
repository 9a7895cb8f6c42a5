import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from picows import WSFrame, WSListener, WSTransport

MAX_MESSAGE_BYTES: int
CLOSE_REASONS: dict[int, str]

class _Receiver(Protocol):
    """What takes a line's frames: the heart, or a recorder."""

    def receive(self, line: int, frame: bytes, recv_ns: int, /) -> object: ...

class Line(WSListener):
    """One connection's frames, from the socket read to `receiver` and `flush`; see _line.pyx."""

    line: int
    frames: int
    payload_bytes: int
    reads: int
    pings: int
    failures: int
    last_frame_ns: int
    over: asyncio.Future[None]
    reason: str | None
    detail: str | None
    expects_replies: bool

    def __init__(
        self,
        receiver: _Receiver,
        line: int,
        flush: Callable[[], object],
        *,
        streams: Iterable[str] = ...,
        on_reply: Callable[[bytes], None] | None = ...,
        marker: bytes = ...,
        max_bytes: int = ...,
    ) -> None: ...
    @property
    def unseen(self) -> frozenset[str]: ...
    @property
    def silence_s(self) -> float: ...
    def end(self, reason: str, detail: str) -> None: ...
    def hang_up(self) -> None: ...
    def end_by_close(self, code: int, text: str) -> None: ...
    def end_by_protocol(self, code: int) -> None: ...
    def begin_read(self) -> None: ...
    def end_read(self, frames: Sequence[Any]) -> int: ...
    def on_ws_connected(self, transport: WSTransport) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...
    def on_ws_disconnected(self, transport: WSTransport) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
