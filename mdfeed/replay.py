"""The verb `replay`: captured frames through the same feed as live ones, at any speed, into any sink.

Answers for which venue a capture is of, pacing, sinks, progress and how the report is shown. Refuses to know file
formats (capture), what is played and counted (player), and what a frame means (the feed).

Exit status: 0; 3 when something was lost: gaps, books given up as wrong (resyncs), decode errors, lines that are no
record, torn files, publications that the sink dropped.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mdfeed.capture import CONNECT, FRAME, Capture, Record, Session, open_capture, symbol_in
from mdfeed.errors import SinkError, UsageError

if TYPE_CHECKING:
    from mdfeed.player import Player
    from mdfeed.sinks import Sink

VENUES = ("binance-usdm", "binance-coinm", "binance-spot")
_HOSTS = (("fstream.", VENUES[0]), ("dstream.", VENUES[1]), ("stream.binance.", VENUES[2]))
_SECOND_NS = 1_000_000_000
_PEEK_RECORDS = 5_000
_BATCH_RECORDS = 64  # records between two looks at the sink and the progress bar
_BUFFER_BYTES = 1 << 20  # unsent: reading waits until the sink has less
_CONNECT_S = 5.0
_CLOSE_S = 10.0


def find_venue(captures: Sequence[Capture]) -> str:
    """The dialect that the files' frames or connections show. UsageError when they show none, or several."""
    found: dict[str, Path] = {}
    for capture in captures:
        venue = next(filter(None, map(_venue_of, islice(capture, _PEEK_RECORDS))), None)
        if venue:
            found.setdefault(venue, capture.path)
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise UsageError(
            "two venues in one session: " + ", ".join(f"{path} is {venue}" for venue, path in found.items())
        )
    raise UsageError(f"{captures[0].path}: the frames don't tell the venue; say it with --venue ({', '.join(VENUES)})")


def _venue_of(record: Record) -> str | None:
    """Futures chain by `pu`, COIN-M names the pair (`ps`) of `...USD_...`; Spot's bookTicker has no `e`."""
    payload = record.payload
    if record.kind == CONNECT:
        host = urlsplit(payload.decode("utf-8", "replace")).hostname or ""
        return next((venue for start, venue in _HOSTS if host.startswith(start)), None)
    payload = payload.replace(b": ", b":").replace(b", ", b",")  # some recorders write their own JSON
    # Others speak alike (Gate.io's `depthUpdate`), but in an envelope that names a channel.
    if record.kind != FRAME or b'"s":' not in payload or b'"channel":' in payload:
        return None
    is_diff = b'"e":"depthUpdate"' in payload
    if b'"pu":' in payload if is_diff else b'"e":"bookTicker"' in payload:
        return VENUES[1] if b'"ps":' in payload and "USD_" in (symbol_in(payload) or "") else VENUES[0]
    return VENUES[2] if is_diff or b'@bookTicker","data":{"u":' in payload else None


def run(
    files: Sequence[Path],
    *,
    speed: float = 0.0,
    start_ns: int | None = None,
    end_ns: int | None = None,
    symbols: Sequence[str] = (),
    sink: str = "null",
    json: bool = False,
    to_update_id: int | None = None,
    venue: str | None = None,
) -> int:
    """Play files and print the report; returns the exit status.

    `speed` multiplies the capture's clock, 0 is as fast as can be. `sink` is null, stdout or a redis:// URL.
    UsageError, CaptureError, SinkError.
    """
    from mdfeed import venues

    if json and sink == "stdout":
        raise UsageError("--json and --sink stdout both write to stdout: choose one")
    if sink not in ("null", "stdout") and not sink.startswith(("redis://", "rediss://", "unix://")):
        raise UsageError(f"no such sink: {sink!r}; there are null, stdout and redis://...")
    if venue is not None and venue not in venues.names():
        raise UsageError(f"--venue: no such venue: {venue!r}; there are {', '.join(venues.names())}")
    session = Session(open_capture(path) for path in files)
    venue = venue or find_venue(session.captures)
    options: dict[str, Any] = {
        "symbols": [symbol.upper() for symbol in symbols],
        "start_ns": start_ns,
        "end_ns": end_ns,
        "to_update_id": to_update_id,
    }
    with _progress(session.captures) as show:
        player, dropped = asyncio.run(_play(session, venue, sink, speed, show, options))
    report = player.report()
    for tear in session.tears:
        print(f"mdfeed: {tear}", file=sys.stderr)
    for capture in session.captures:
        if capture.garbage:
            lines = ", ".join(map(str, capture.garbage_lines))
            print(f"mdfeed: {capture.path}: {capture.garbage} lines are no records (line {lines})", file=sys.stderr)
    if dropped:
        print(f"mdfeed: {dropped} publications were dropped by {sink}", file=sys.stderr)
    if json:
        print(dumps(report))
    else:
        print(_summarize(report), file=sys.stderr if sink == "stdout" else sys.stdout)
    losses = [report["decode_errors"], *(row["gaps"] + row["resyncs"] for row in report["books"].values())]
    return 3 if any(losses) or session.tears or dropped else 0


async def _play(
    session: Session, venue: str, url: str, speed: float, show: Callable[[], object], options: dict[str, Any]
) -> tuple[Player, int]:
    """Play the session into a sink, never faster than it takes; the player, and how many publications were dropped."""
    from mdfeed import sinks
    from mdfeed.player import Player

    player = Player(session, venue, **options)
    player.warm_up()
    # What is printed is the same each time; who reads from a server must see that a replay started anew.
    epoch = 0 if url == "stdout" else time.time_ns()
    sink = sinks.open(url, player.feed.instruments, epoch=epoch)
    sink.on_ready = lambda: player.refresh(sink.outbox)
    player.feed.attach(sink.outbox)
    serving = asyncio.create_task(sink.run(), name="sink")
    try:
        await _wait_until_connected(sink)
        for n, wait_s in enumerate(_pace(player.play(), speed)):
            if wait_s > 0.0 or n % _BATCH_RECORDS == 0:
                sink.flush()
                show()
                await asyncio.sleep(max(0.0, wait_s))
                while sink.is_connected and sink.counters()["buffer_bytes"] > _BUFFER_BYTES:
                    await asyncio.sleep(0.001)
        sink.flush()
        dropped = sum(sink.counters()["dropped"].values())
        await sink.close(_CLOSE_S)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
    return player, dropped


async def _wait_until_connected(sink: Sink) -> None:
    deadline = time.monotonic() + _CONNECT_S
    while not sink.is_connected:
        if time.monotonic() > deadline:
            raise SinkError(f"{sink.name}: not connected within {_CONNECT_S:.0f} s: {sink.counters()['last_error']}")
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)  # its first publications, of what warming up has built


def _pace(clock: Iterator[int], speed: float) -> Iterator[float]:
    """Seconds to wait before each record."""
    first_ns, started = None, time.monotonic()
    for recv_ns in clock:
        if speed <= 0.0:
            yield 0.0
            continue
        first_ns = recv_ns if first_ns is None else first_ns
        yield (recv_ns - first_ns) / (speed * _SECOND_NS) - (time.monotonic() - started)


@contextmanager
def _progress(captures: Sequence[Capture]) -> Iterator[Callable[[], object]]:
    """A bar of bytes read on stderr, when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    total = sum(capture.path.stat().st_size for capture in captures)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda: bar.update(task, completed=sum(capture.bytes_read for capture in captures))


def _summarize(report: dict[str, Any]) -> str:
    latency = report["latency_us"]
    lines = [
        f"{report['venue']}: {report['messages']:,} messages in {report['elapsed_s']:.3f} s"
        f" ({report['messages_per_s']:,.0f}/s), {report['decode_errors']} decode errors",
        "  " + ", ".join(f"{name} {n:,}" for name, n in report["by_type"].items()),
        f"  latency p50 {latency['p50']:.1f} us, p99 {latency['p99']:.1f}, p99.9 {latency['p99_9']:.1f},"
        f" max {latency['max']:.1f}",
    ]
    for symbol, row in report["books"].items():
        bid, ask = (" x ".join(row[side]) if row[side] else "-" for side in ("best_bid", "best_ask"))
        proof = row["proof"]
        lines += [
            f"{symbol} {row['state']} at {row['last_update_id']}: bid {bid}, ask {ask},"
            f" {row['bids']}+{row['asks']} levels",
            f"  applied {row['applied']:,}, stale {row['stale']}, gaps {row['gaps']}, resyncs {row['resyncs']},"
            f" crossed {row['crossed']}; proof: {proof['match']:,} match, {proof['mismatch']} mismatch,"
            f" {proof['unjudged']} unjudged",
            f"  sha256 {row['sha256']}",
        ]
        if trades := report["trades"].get(symbol):
            lines.append(
                f"  trades {trades['count']:,}, qty {trades['qty']}, vwap {trades['vwap']},"
                f" high {trades['high']}, low {trades['low']}, last {trades['last']}"
            )
    return "\n".join(lines)
