"""The sink that prints publications as JSON Lines: {"channel": ..., "payload": ...}, payload null for a withdrawal."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable
from typing import BinaryIO

from mdfeed._encode import CHANNELS, OUTPUTS, Collector
from mdfeed.sinks import Sink

SCHEMES = ("stdout",)
log = logging.getLogger(__name__)


class StdoutSink(Sink):
    """Writes to `out` (default: standard output). A reader that goes away closes the outbox; the feed goes on."""

    name = "stdout"
    outbox: Collector

    def __init__(
        self,
        url: str = "stdout:",
        instruments: object = None,
        *,
        epoch: int = 0,
        outputs: Iterable[str] = OUTPUTS,
        out: BinaryIO | None = None,
    ) -> None:
        self.outbox = Collector(epoch=epoch, outputs=outputs)
        self._out = out if out is not None else sys.stdout.buffer

    async def run(self) -> None:
        self.say_ready()
        await asyncio.Event().wait()

    def flush(self) -> None:
        lines = [
            b'{"channel":"%b%b","payload":%b}\n' % (CHANNELS[kind].encode(), symbol.encode(), payload or b"null")
            for kind, symbol, payload in self.outbox.take()
        ]
        if not lines or not self.is_connected:
            return
        try:
            self._out.write(b"".join(lines))
            self._out.flush()
        except OSError as error:
            self.is_connected = False
            self.outbox.close("disconnected")
            log.warning("stdout is gone (%s); the feed goes on without it", error.strerror)


SINK = StdoutSink
