"""What `doctor` looks at in Redis: version, login, latency, rights, memory, limits of subscribers, keys in the way.

Changes nothing. Refuses to know what the daemon does when one of them is wrong.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

import redis.asyncio as redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from mdfeed.config import Config
from mdfeed.findings import ERROR, OK, WARNING, Finding
from mdfeed.redis_url import parse_redis_url
from mdfeed.refusals import of_exception
from mdfeed.sentinel import client_of

REDIS_S = 3.0
KEYS_LOOKED_AT = 20_000
SLOW_REDIS_MS = 5.0
# Streams came with 5, logins by name (ACL) with 6.
OLDEST, OLDEST_GOOD = 5, 6
# Under these the earlier service's dashboards keep what is theirs.
OLD_PREFIXES = ("orders:", "positions:", "account:", "strategies:")


async def examine_redis(config: Config) -> AsyncIterator[Finding]:
    """Findings in the order in which they are had; the first says whether Redis answers at all."""
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
            is_slow = median(times_ms) > SLOW_REDIS_MS
            text = f"{where}: answers in {median(times_ms):.2f} ms" + (f", above {SLOW_REDIS_MS:g}" if is_slow else "")
            yield Finding("redis", WARNING if is_slow else OK, text)
            for probe in (_version, _permissions, _memory, _keys):
                try:
                    async for finding in probe(client, config):
                        yield finding
                except RedisError as error:
                    yield Finding("redis", WARNING, f"{probe.__name__.strip('_')} cannot be seen: {error}")
    except AuthenticationError as error:
        yield Finding("redis", ERROR, f"{where}: the login was refused: {error}")
    except (RedisError, OSError, TimeoutError) as error:
        yield Finding("redis", ERROR, f"{where}: {_in_words(error)}")
    finally:
        await client.aclose()


def _in_words(error: Exception) -> str:
    """Why there is no connection; redis-py's own text where it is more than a broken socket's."""
    below = error if isinstance(error, OSError) else error.__context__
    if isinstance(below, FileNotFoundError | PermissionError):
        return str(below.strerror).lower()
    if isinstance(below, OSError):
        return of_exception(below).text
    return str(error) or "no answer in time"


async def _version(client: redis.Redis, config: Config) -> AsyncIterator[Finding]:
    info = await client.info("server")
    name = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{name}_version", "unknown"))
    major = int(version.partition(".")[0]) if version.partition(".")[0].isdecimal() else OLDEST_GOOD
    if major < OLDEST:
        yield Finding(
            "redis", ERROR, f"{name} {version} has no streams: mdfeed:trades and mdfeed:events need {OLDEST}.0"
        )
    elif major < OLDEST_GOOD:
        yield Finding("redis", WARNING, f"{name} {version} has no users with rights of their own (ACL came with 6.0)")
    else:
        yield Finding("redis", OK, f"{name} {version}")


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
