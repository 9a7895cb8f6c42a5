"""`mdfeed doctor`: looks at everything that the daemon will need, changes nothing, and says what is wrong.

Answers for: the configuration, Redis, the venue (every stream's route, clock, weight, refusals told apart), the HTTP
port and the installed unit, as findings of three levels. Refuses to know: how any of it is mended by itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json as jsonlib
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import redis.asyncio as redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from mdfeed import venues
from mdfeed._line import Line
from mdfeed.config import Config, load_config, mask
from mdfeed.dial import dial
from mdfeed.errors import ConfigError, VenueError
from mdfeed.gate import Gate, tls_context
from mdfeed.glance import glance
from mdfeed.http import is_mdfeed
from mdfeed.redis_url import parse_redis_url
from mdfeed.refusals import Refused, of_exception
from mdfeed.rest import Rest
from mdfeed.sentinel import client_of
from mdfeed.venues import LinePlan, Venue

OK, WARNING, ERROR = "ok", "warning", "error"
EXIT = {OK: 0, WARNING: 3, ERROR: 1}
REDIS_S = 3.0
KEYS_LOOKED_AT = 20_000
CLOCK_SAMPLES = 5
CLOCK_WARNING_MS = 500
SLOW_REDIS_MS = 5.0
# Under these the earlier service's dashboards keep what is theirs.
OLD_PREFIXES = ("orders:", "positions:", "account:", "strategies:")
UNIT = "market-data.service"
LIMITS = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
UNIT_KEYS = ("LoadState", "ActiveState", "UnitFileState", "NRestarts", *LIMITS)


@dataclass(frozen=True)
class Finding:
    """`check` is what was looked at; `text` one line for people."""

    check: str
    level: str
    text: str


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
        venue = venues.get(config.venue)
        parse_redis_url(config.redis_url)
        tls_context(config)
    except ConfigError as error:
        note(Finding("config", ERROR, str(error)))
        return findings
    note(Finding("config", OK, f"{path or 'no file, defaults'}: {len(config.symbols)} symbols of {venue.name}"))
    for check in (_redis(config), _rest(config, venue), _streams(config, venue, within_s), _port(config)):
        async for finding in check:
            note(finding)
    for finding in [*_doors(config), *await asyncio.to_thread(lambda: list(_unit()))]:
        note(finding)
    return findings


# ---- Redis


async def _redis(config: Config) -> AsyncIterator[Finding]:
    where = parse_redis_url(config.redis_url).label
    client = client_of(
        config.redis_url,
        socket_timeout=REDIS_S,
        socket_connect_timeout=REDIS_S,
        retry=Retry(NoBackoff(), 0),
        client_name="mdfeed-doctor",
    )
    try:
        async with asyncio.timeout(10 * REDIS_S):
            times_ms = []
            for _ in range(5):
                started = time.perf_counter()
                await client.execute_command("PING")  # type: ignore[no-untyped-call]
                times_ms.append((time.perf_counter() - started) * 1000)
            info = await client.info("server")
            version = info.get("valkey_version") or info.get("redis_version", "unknown")
            level = WARNING if median(times_ms) > SLOW_REDIS_MS else OK
            yield Finding("redis", level, f"{where}: version {version}, answers in {median(times_ms):.2f} ms")
            for probe in (_permissions, _memory, _keys):
                try:
                    async for finding in probe(client, config):
                        yield finding
                except RedisError as error:
                    yield Finding("redis", WARNING, f"{probe.__name__.strip('_')} cannot be seen: {error}")
    except AuthenticationError as error:
        yield Finding("redis", ERROR, f"{where}: the login was refused: {error}")
    except (RedisError, OSError, TimeoutError) as error:
        yield Finding("redis", ERROR, f"{where}: {error or 'no answer in time'}")
    finally:
        await client.aclose()


async def _permissions(client: redis.Redis, config: Config) -> AsyncIterator[Finding]:
    """May this user do what serving takes? Nothing of it leaves a trace."""
    needed: list[tuple[str, tuple[str | int, ...]]] = [
        ("publishing", ("PUBLISH", "mdfeed:doctor", "")),
        ("keys", ("GET", f"market_data:{config.symbols[0]}")),
    ]
    if config.redis.leases:
        needed.append(("leases (EVAL)", ("EVAL", "return redis.call('GET', KEYS[1])", 1, "mdfeed:lease:doctor")))
    for what, command in needed:
        try:
            await client.execute_command(*command)  # type: ignore[no-untyped-call]
        except RedisError as error:
            yield Finding("redis", ERROR, f"this user cannot use {what}: {error}")


async def _memory(client: redis.Redis, config: Config) -> AsyncIterator[Finding]:
    found: dict[Any, Any] = await client.config_get("maxmemory*")
    most, policy = int(found.get("maxmemory", 0)), found.get("maxmemory-policy", "noeviction")
    if most and policy == "noeviction":
        yield Finding("redis", WARNING, f"maxmemory {most >> 20} MiB with noeviction: once it is full, writes fail")
    elif most and policy.startswith("allkeys"):
        yield Finding("redis", WARNING, f"maxmemory {most >> 20} MiB with {policy}: prices may be evicted while live")
    else:
        yield Finding("redis", OK, f"maxmemory {f'{most >> 20} MiB' if most else 'unlimited'}, {policy}")
    found = await client.config_get("client-output-buffer-limit")
    if match := re.search(r"pubsub (\d+) (\d+) (\d+)", str(found)):
        hard, soft, seconds = (int(number) for number in match.groups())
        if hard == 0 and soft == 0:
            yield Finding("redis", WARNING, "pub/sub output is unlimited: a subscriber that hangs fills the server")
        else:
            text = f"subscribers that lag by {hard >> 20} MiB, or {soft >> 20} MiB for {seconds} s, are cut off"
            yield Finding("redis", OK, text)


async def _keys(client: redis.Redis, config: Config) -> AsyncIterator[Finding]:
    """Others' keys where ours will be, and ours under the prefixes of the old dashboards."""
    looked_at, strange, others = 0, [], dict.fromkeys(OLD_PREFIXES, 0)
    async for raw, kind in _typed_keys(client):
        looked_at += 1
        key = as_text(raw)
        for prefix in OLD_PREFIXES:
            others[prefix] += key.startswith(prefix)
        expected = _expected_type(key)
        if expected is not None and kind != expected:
            strange.append(f"{key} is a {kind}")
    if strange:
        text = ", ".join(strange[:5]) + ("..." if len(strange) > 5 else "")
        yield Finding("redis", ERROR, f"keys of another kind where mdfeed writes: {text}")
    used = {prefix: count for prefix, count in others.items() if count}
    shared = ", ".join(f"{count} under {prefix}" for prefix, count in used.items())
    yield Finding("redis", OK, f"{looked_at} keys looked at" + (f"; others' own, left alone: {shared}" if used else ""))
    holder = await client.get(f"mdfeed:lease:{config.symbols[0]}")
    if holder:
        yield Finding("redis", OK, f"a daemon holds the lease of {config.symbols[0]}")


async def _typed_keys(client: redis.Redis) -> AsyncIterator[tuple[bytes, str]]:
    count = 0
    async for key in client.scan_iter(count=1000):
        if _expected_type(as_text(key)) is not None:
            yield key, as_text(await client.type(key))
        else:
            yield key, ""
        count += 1
        if count >= KEYS_LOOKED_AT:
            return


def as_text(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")


def _expected_type(key: str) -> str | None:
    if key.startswith(("market_data:", "mdfeed:state:", "mdfeed:book:", "mdfeed:lease:")):
        return "string"
    return "stream" if key.startswith("mdfeed:trades:") or key == "mdfeed:events" else None


# ---- the venue


async def _rest(config: Config, venue: Venue) -> AsyncIterator[Finding]:
    rest = Rest(config.exchange_rest_url)
    offsets: list[tuple[float, float]] = []
    try:
        for _ in range(CLOCK_SAMPLES):
            started_ns = time.time_ns()
            body = jsonlib.loads(await rest.fetch(venue.time_request()))
            round_trip_ms = (time.time_ns() - started_ns) / 1e6
            offsets.append((round_trip_ms, float(body["serverTime"]) - started_ns / 1e6 - round_trip_ms / 2))
        # The quickest exchange bounds the error best; half a round trip is what remains of it.
        round_trip_ms, offset_ms = min(offsets)
        text = f"the venue's clock is {offset_ms:+.0f} ms off ours, within {round_trip_ms / 2:.0f} ms"
        yield Finding("clock", WARNING if abs(offset_ms) > CLOCK_WARNING_MS else OK, text)
        known = venue.parse_exchange_info(await rest.fetch(venue.exchange_info_request()))
        for symbol in config.symbols:
            if symbol not in known:
                yield Finding("symbols", ERROR, f"{symbol}: {venue.name} has no such market")
            elif known[symbol].status != "TRADING":
                yield Finding("symbols", WARNING, f"{symbol}: {known[symbol].status}, not trading")
        used, limit = rest.weight_used, 2400
        yield Finding("weight", WARNING if used > 0.8 * limit else OK, f"{used} of {limit} used in this minute")
    except VenueError as error:
        yield _refused("rest", config.exchange_rest_url, error)
    except (ValueError, KeyError, TypeError):
        yield Finding("rest", ERROR, f"{config.exchange_rest_url}: the answer is not this venue's")
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
            yield Finding("http", ERROR, f"{host}:{port}: {error.strerror or error}")
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
        if found.get(limit, "infinity") in ("infinity", ""):
            yield Finding("unit", WARNING, f"{UNIT} has no {limit}")
