"""`mdfeed sim`: the simulated exchange in the foreground, until interrupted.

Answers for its start-up line and for telling a taken port apart. What the exchange does is mdfeed/exchange.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mdfeed.errors import MdfeedError, UsageError
from mdfeed.exchange.playback import Playback
from mdfeed.exchange.profiles import symbol_names
from mdfeed.exchange.script import Script
from mdfeed.exchange.server import SYMBOLS, SimulatedExchange
from mdfeed.exchange.spec import parse


def run(
    port: int,
    symbols: Sequence[str],
    seed: int,
    rate: float,
    capture: Path | Sequence[Path] | None,
    faults: Sequence[str],
    host: str = "127.0.0.1",
    routes: str = "split",
    speed: float = 1.0,
    hold_s: float = 1.0,
) -> int:
    """Serve until cancelled; 0 if that ever happens without an interrupt.

    `symbols` are names, or a single number: as many as that. `rate` is order events/s a symbol. `capture`, or several
    that continue each other, is played `speed` times as fast in the market's place, `hold_s` after the first listener
    came. Raises UsageError for a contradiction or a fault it cannot read (exchange/spec.py), CaptureError for a capture
    that cannot be read, MdfeedError when the port is taken.
    """
    script = Script(parse(fault) for fault in faults)
    if rate < 0 or speed <= 0:
        raise UsageError("--rate must not be negative, and a speed must be positive")
    if len(symbols) == 1 and re.fullmatch(r"\d{1,4}", symbols[0]):
        symbols = symbol_names(int(symbols[0]))
    names = [symbol.upper() for symbol in symbols] or list(SYMBOLS)
    files = [capture] if isinstance(capture, Path) else list(capture or ())
    source = Playback(files, speed, hold_s) if files else None
    exchange = SimulatedExchange(
        names, seed=seed, rate=rate, routes=routes, host=host, port=port, source=source, seam=script
    )
    return asyncio.run(_serve(exchange))


async def _serve(exchange: SimulatedExchange) -> int:
    try:
        await exchange.start()
    except OSError as error:
        raise MdfeedError(f"cannot listen: {error.strerror or error}; choose another --port") from error
    print(
        f"mdfeed sim: streams {exchange.ws_url}, REST {exchange.rest_url}, WS-API {exchange.ws_api_url}",
        file=sys.stderr,
        flush=True,
    )
    try:
        await exchange.wait()
    finally:
        await exchange.close()
    return 0
