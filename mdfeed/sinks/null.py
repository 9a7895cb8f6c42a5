"""The sink that takes everything and keeps nothing: nothing is even encoded."""

from __future__ import annotations

import asyncio

from mdfeed._encode import Outbox
from mdfeed.sinks import Sink

SCHEMES = ("null",)


class NullSink(Sink):
    """Drops everything."""

    name = "null"

    def __init__(self, url: str = "null:", instruments: object = None, **options: object) -> None:
        self.outbox = Outbox()

    async def run(self) -> None:
        self.say_ready()
        await asyncio.Event().wait()

    def flush(self) -> None:
        """Nothing is ever held."""


SINK = NullSink
