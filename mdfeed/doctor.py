"""`mdfeed doctor`: looks at everything that the daemon will need, changes nothing, and says what is wrong.

Answers for: the configuration, Redis, the venue (every stream's route, clock, weight, refusals told apart), the HTTP
port and the installed unit, as findings of three levels. Refuses to know: how any of it is mended by itself.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json as jsonlib
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mdfeed import venues
from mdfeed._line import Line
from mdfeed.config import Config, load_config, mask
from mdfeed.dial import dial
from mdfeed.errors import ConfigError, DecodeError, VenueError
from mdfeed.findings import ERROR, OK, WARNING, Finding
from mdfeed.gate import Gate, tls_context
from mdfeed.glance import glance
from mdfeed.http import is_mdfeed
from mdfeed.redis_checks import examine_redis
from mdfeed.redis_url import parse_redis_url
from mdfeed.refusals import Refused, of_exception
from mdfeed.rest import Rest
from mdfeed.venues import LinePlan, Venue

EXIT = {OK: 0, WARNING: 3, ERROR: 1}
REST_S = 10.0
CLOCK_SAMPLES = 5
CLOCK_WARNING_MS = 500
WEIGHT_LIMIT = 2400  # a minute, of an address
UNIT = "market-data.service"
LIMITS = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "WatchdogUSec")
UNIT_KEYS = ("LoadState", "ActiveState", "UnitFileState", "NRestarts", *LIMITS)


def run(path: Path | None, options: dict[str, Any], json: bool, within_s: float) -> int:
    """Print the findings; 0, 3 when there are warnings, 1 when there are errors.

    `within_s` is how long each stream may take for its first message.
    """
    findings = asyncio.run(_examine(path, options, within_s, print if not json else lambda line: None))
    worst = max((finding.level for finding in findings), key=(OK, WARNING, ERROR).index)
    if json:
        print(jsonlib.dumps({"verdict": worst, "findings": [asdict(finding) for finding in findings]}))
    return EXIT[worst]


async def _examine(
    path: Path | None, options: dict[str, Any], within_s: float, say: Callable[[str], object]
) -> list[Finding]:
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        finding = Finding(finding.check, finding.level, mask(" ".join(finding.text.split())))
        findings.append(finding)
        say(f"{finding.level:<8} {finding.check:<8} {finding.text}")

    try:
        config = load_config(path, options)
        venue = venues.of(config)
        parse_redis_url(config.redis_url)
        tls_context(config)
    except ConfigError as error:
        note(Finding("config", ERROR, str(error)))
        return findings
    note(Finding("config", OK, f"{path or 'no file, defaults'}: {len(config.symbols)} symbols of {venue.name}"))
    for check in (examine_redis(config), _rest(config, venue), _streams(config, venue, within_s), _port(config)):
        async for finding in check:
            note(finding)
    for finding in [*_doors(config), *await asyncio.to_thread(lambda: list(_unit()))]:
        note(finding)
    return findings


# ---- the venue


async def _rest(config: Config, venue: Venue) -> AsyncIterator[Finding]:
    rest = Rest(config.exchange_rest_url)
    offsets: list[tuple[float, float]] = []
    known = None
    try:
        try:
            async with asyncio.timeout(REST_S):
                while len(offsets) < CLOCK_SAMPLES:
                    started_ns = time.time_ns()
                    server_ns = venue.parse_time(await rest.fetch(venue.time_request()))
                    round_trip_ms = (time.time_ns() - started_ns) / 1e6
                    offsets.append((round_trip_ms, (server_ns - started_ns) / 1e6 - round_trip_ms / 2))
                known = venue.parse_exchange_info(await rest.fetch(venue.exchange_info_request()))
        except TimeoutError:
            # The governor holds questions back while the weight is used up; it says how much that is.
            if not offsets:
                raise
        # The quickest exchange bounds the error best; half a round trip is what remains of it.
        round_trip_ms, offset_ms = min(offsets)
        text = f"the venue's clock is {offset_ms:+.0f} ms off ours, within {round_trip_ms / 2:.0f} ms"
        yield Finding("clock", WARNING if abs(offset_ms) > CLOCK_WARNING_MS else OK, text)
        used = f"{rest.weight_used} of {WEIGHT_LIMIT} used in this minute"
        if known is None:
            yield Finding("weight", WARNING, f"{used}, the symbols were not looked up within {REST_S:g} s")
            return
        yield Finding("weight", WARNING if rest.weight_used > 0.8 * WEIGHT_LIMIT else OK, used)
        for symbol in config.symbols:
            if symbol not in known:
                yield Finding("symbols", ERROR, f"{symbol}: {venue.name} has no such market")
            elif known[symbol].status != "TRADING":
                yield Finding("symbols", WARNING, f"{symbol}: {known[symbol].status}, not trading")
    except DecodeError as error:
        yield Finding("rest", ERROR, f"{config.exchange_rest_url}: the answer is not this venue's: {error}")
    except (VenueError, TimeoutError) as error:
        yield _refused("rest", config.exchange_rest_url, error)
    finally:
        rest.close()


def _refused(check: str, where: str, error: Exception) -> Finding:
    refusal = of_exception(error if isinstance(error, Refused) else error.__cause__ or error)
    return Finding(check, ERROR, f"{where}: {refusal.reason}: {refusal.text}")


class _Ears:
    """Notes which streams have said something."""

    def __init__(self, streams: tuple[str, ...]) -> None:
        self.missing = set(streams)
        self.is_complete = asyncio.Event()

    def receive(self, line: int, frame: bytes, recv_ns: int, /) -> None:
        if match := re.search(rb'"stream"\s*:\s*"([^"]+)"', frame[:400]):
            self.missing.discard(match[1].decode("utf-8", "replace"))
            if not self.missing:
                self.is_complete.set()


async def _streams(config: Config, venue: Venue, within_s: float) -> AsyncIterator[Finding]:
    depth = "depth" if config.depth_stream == "250ms" else f"depth@{config.depth_stream}"
    channels = [depth if channel.startswith("depth") else channel for channel in venue.default_channels]

    def plans(routes: str) -> list[LinePlan]:
        return venue.plan(
            config.symbols, channels, ws_url=config.exchange_ws_url, routes=routes, max_streams=config.lines.max_streams
        )

    routes = config.exchange_routes
    findings = await asyncio.gather(*(_line(config, venue, plan, within_s) for plan in plans(routes)))
    is_own = venue.base_url(config.exchange_ws_url) == venue.base_url()
    if routes == "auto" and not is_own and any("not_found" in finding.text for finding in findings):
        yield Finding("streams", OK, f"{config.exchange_ws_url} has no separate routes: one connection for all")
        findings = await asyncio.gather(*(_line(config, venue, plan, within_s) for plan in plans("single")))
    for finding in findings:
        yield finding


async def _line(config: Config, venue: Venue, plan: LinePlan, within_s: float) -> Finding:
    wanted = (*plan.streams, *plan.late_streams)
    ears = _Ears(wanted)
    name = f"route {plan.route}" if plan.route else "one route for all"
    try:
        connection = await dial(config.transport, plan.url, lambda: Line(ears, 0, lambda: None))
    except (OSError, VenueError, TimeoutError) as error:
        return _refused("streams", f"{venue.base_url(config.exchange_ws_url)} ({name})", error)
    try:
        for frame in venue.subscribe_frames(plan.late_streams):
            connection.send(frame.encode())
            await asyncio.sleep(0.25)
        async with asyncio.timeout(within_s):
            await ears.is_complete.wait()
    except TimeoutError:
        silent = sorted(ears.missing)
        text = f"{name}: {len(silent)} of {len(wanted)} streams silent for {within_s:g} s: {', '.join(silent[:5])}"
        # A quiet market has no trade for a while; a route that says nothing at all is wrong.
        return Finding("streams", ERROR if len(silent) == len(wanted) else WARNING, text)
    finally:
        await connection.close()
    return Finding("streams", OK, f"{name}: all {len(wanted)} streams speak")


# ---- this machine


async def _port(config: Config) -> AsyncIterator[Finding]:
    host, port = config.http.host, config.health_port
    if port == 0:
        return
    try:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), host, port)
    except OSError as error:
        is_well, text = await glance(config)
        if is_well or await is_mdfeed(host, port):
            yield Finding("http", OK, f"mdfeed serves on port {port}")
            yield Finding("page", OK if is_well else ERROR, text)
        else:
            is_taken = error.errno == errno.EADDRINUSE
            reason = "the port is taken by another program" if is_taken else error.strerror or str(error)
            yield Finding("http", ERROR, f"{host}:{port}: {reason}; set http.host or health_port")
        return
    server.close()
    await server.wait_closed()
    yield Finding("http", OK, f"port {port} is free")


def _doors(config: Config) -> Iterator[Finding]:
    """What others can reach without saying who they are."""
    where = f"{config.http.host}:{config.health_port}"
    if not _is_local(config.http.host):
        if Gate(config.http.auth).is_open:
            text = f"{where} is open to everybody who can reach it: set http.auth, or http.host to 127.0.0.1"
            yield Finding("doors", WARNING, text)
        elif config.http.tls.cert is None:
            yield Finding("doors", WARNING, f"credentials to {where} travel in clear: set http.tls")
    url = parse_redis_url(config.redis_url)
    if not all(_is_local(host) for host in url.hosts):
        if url.password is None:
            yield Finding("doors", WARNING, f"redis at {url.label} is used without a password")
        elif url.tls is None:
            yield Finding("doors", WARNING, f"the password of redis at {url.label} travels in clear: use rediss://")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unit() -> Iterator[Finding]:
    """The installed service and its limits, where there is a systemd to ask."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return
    command = [systemctl, "show", UNIT, *(f"--property={key}" for key in UNIT_KEYS)]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return
    found = dict(line.partition("=")[::2] for line in shown.splitlines())
    if found.get("LoadState") != "loaded":
        yield Finding("unit", OK, f"{UNIT} is not installed here")
        return
    is_well = found["ActiveState"] == "active" and found["UnitFileState"] == "enabled"
    text = f"{UNIT} is {found['ActiveState']}, {found['UnitFileState']}, restarted {found.get('NRestarts', '0')} times"
    yield Finding("unit", OK if is_well else WARNING, text)
    for limit in LIMITS:
        if found.get(limit, "infinity") in ("infinity", "0", ""):
            yield Finding("unit", WARNING, f"{UNIT} has no {limit}")
