"""The verb `replay`: captured frames through the same feed as live ones, at any speed, into any sink.

Answers for which venue a capture is of, pacing, sinks, progress and how the report is shown. Refuses to know file
formats (capture), what is played and counted (player), and what a frame means (the feed).

Exit status: 0; 3 when something was lost: gaps, books given up as wrong (resyncs), decode errors, lines that are no
record, torn files.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mdfeed.capture import CONNECT, FRAME, Capture, Record, Session, open_capture, symbol_in
from mdfeed.errors import UsageError

if TYPE_CHECKING:
    from mdfeed._encode import Collector
    from mdfeed.player import Player

VENUES = ("binance-usdm", "binance-coinm", "binance-spot")
_HOSTS = (("fstream.", VENUES[0]), ("dstream.", VENUES[1]), ("stream.binance.", VENUES[2]))
_SECOND_NS = 1_000_000_000
_PEEK_RECORDS = 5_000
_BATCH_RECORDS = 512  # records between two looks at the sink and the progress bar


def parse_time(text: str) -> int:
    """UTC ns of an ISO 8601 time (without an offset: UTC) or of an epoch number in s, ms, us or ns. UsageError."""
    if text.isdigit():
        value = int(text)
        for digits, factor in ((11, 10**9), (14, 10**6), (17, 10**3), (20, 1)):
            if len(text) < digits:
                return value * factor
    try:
        when = datetime.fromisoformat("" if text.isdigit() else text)
    except ValueError:
        raise UsageError(f"not a time: {text!r}; give ISO 8601 or an epoch number in s, ms, us or ns") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return int(when.replace(microsecond=0).timestamp()) * _SECOND_NS + when.microsecond * 1000


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
    if record.kind != FRAME or b'"s":' not in payload:
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
    from mdfeed.player import Player

    if json and sink == "stdout":
        raise UsageError("--json and --sink stdout both write to stdout: choose one")
    if sink not in ("null", "stdout") and not sink.startswith(("redis://", "rediss://", "unix://")):
        raise UsageError(f"no such sink: {sink!r}; there are null, stdout and redis://...")
    if venue is not None and venue not in venues.names():
        raise UsageError(f"--venue: no such venue: {venue!r}; there are {', '.join(venues.names())}")
    session = Session(open_capture(path) for path in files)
    venue = venue or find_venue(session.captures)
    options: dict[str, Any] = {"symbols": symbols, "start_ns": start_ns, "end_ns": end_ns, "to_update_id": to_update_id}
    with _progress(session.captures) as show:
        if sink == "null":
            player = Player(session, venue, **options)
            player.warm_up()
            _drive(player, speed, show)
        elif sink == "stdout":
            from mdfeed._encode import Collector

            collector = Collector()
            player = Player(session, venue, **options)
            player.warm_up()
            player.attach(collector)
            _drive(player, speed, lambda: (show(), _print_publications(collector)))
            _print_publications(collector)
        else:
            player = asyncio.run(_play_to_redis(session, venue, sink, speed, show, options))
    report = player.report()
    for tear in session.tears:
        print(f"mdfeed: {tear}", file=sys.stderr)
    for capture in session.captures:
        if capture.garbage:
            lines = ", ".join(map(str, capture.garbage_lines))
            print(f"mdfeed: {capture.path}: {capture.garbage} lines are no records (line {lines})", file=sys.stderr)
    if json:
        print(dumps(report))
    else:
        print(_summarize(report), file=sys.stderr if sink == "stdout" else sys.stdout)
    losses = [report["decode_errors"], *(row["gaps"] + row["resyncs"] for row in report["books"].values())]
    return 3 if any(losses) or session.tears else 0


def _drive(player: Player, speed: float, look: Callable[[], object]) -> None:
    """Play at `speed` times the capture's clock (0: flat out); `look` is called now and then."""
    for n, wait_s in enumerate(_pace(player.play(), speed)):
        if wait_s > 0.0 or n % _BATCH_RECORDS == 0:
            look()
        if wait_s > 0.0:
            time.sleep(wait_s)


def _pace(clock: Iterator[int], speed: float) -> Iterator[float]:
    """Seconds to wait before each record."""
    first_ns, started = None, time.monotonic()
    for recv_ns in clock:
        if speed <= 0.0:
            yield 0.0
            continue
        first_ns = recv_ns if first_ns is None else first_ns
        yield (recv_ns - first_ns) / (speed * _SECOND_NS) - (time.monotonic() - started)


def _print_publications(collector: Collector) -> None:
    """One line each: the channel's name, a blank, the payload."""
    from mdfeed._encode import CHANNELS

    sys.stdout.writelines(
        f"{CHANNELS[kind]}{symbol} {payload.decode()}\n" for kind, symbol, payload in collector.take()
    )


async def _play_to_redis(
    session: Session, venue: str, url: str, speed: float, show: Callable[[], object], options: dict[str, Any]
) -> Player:
    raise NotImplementedError


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
