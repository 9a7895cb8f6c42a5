"""`mdfeed sim`: the simulated exchange in the foreground, until interrupted.

Answers for its start-up line and for telling a taken port apart. What the exchange does is mdfeed/exchange.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mdfeed.errors import MdfeedError, UsageError
from mdfeed.exchange.certificates import Certificates
from mdfeed.exchange.cutting import Tls
from mdfeed.exchange.playback import Playback
from mdfeed.exchange.profiles import symbol_names
from mdfeed.exchange.script import Script
from mdfeed.exchange.server import SYMBOLS, SimulatedExchange
from mdfeed.exchange.spec import listed, parse


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
    tls: bool = False,
    tls_files: tuple[Path, Path] | None = None,
) -> int:
    """Serve until cancelled; 0 if that ever happens without an interrupt.

    `symbols` are names, or a single number: as many as that. `rate` is order events/s a symbol. `capture`, or several
    that continue each other, is played `speed` times as fast in the market's place, `hold_s` after the first listener
    came. `tls`: wss and https, with a certificate made at the start, or that of `tls_files` (certificate, key). A fault
    `help` prints which there are.

    Raises UsageError for a contradiction or a fault it cannot read (exchange/spec.py), CaptureError for a capture that
    cannot be read, MdfeedError when the port is taken or no certificate can be made.
    """
    if "help" in faults:
        print(listed())
        return 0
    script = Script(parse(fault) for fault in faults)
    if any(isinstance(fault, Tls) for fault in script.faults) and not tls:
        raise UsageError("--fault tls needs --tls")
    if rate < 0 or speed <= 0:
        raise UsageError("--rate must not be negative, and a speed must be positive")
    if len(symbols) == 1 and re.fullmatch(r"\d{1,4}", symbols[0]):
        symbols = symbol_names(int(symbols[0]))
    names = [symbol.upper() for symbol in symbols] or list(SYMBOLS)
    files = [capture] if isinstance(capture, Path) else list(capture or ())
    source = Playback(files, speed, hold_s) if files else None
    with ExitStack() as stack:
        certificates = None
        if tls:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mdfeed-sim-")))
            certificates = Certificates(folder, host, tls_files)
            print(f"mdfeed sim: trust it with SSL_CERT_FILE={certificates.bundle}", file=sys.stderr, flush=True)
        exchange = SimulatedExchange(
            names,
            seed=seed,
            rate=rate,
            routes=routes,
            host=host,
            port=port,
            ssl=certificates.good if certificates else None,
            bad_certificates=certificates.bad if certificates else None,
            source=source,
            seam=script,
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
