"""Redis Sentinel: which server is the master now.

Answers for: asking every Sentinel of a URL at once, and what most of them say; clients of redis-py that ask anew for
each connection; noticing that the master has moved. Refuses to know: what is done with the master.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import redis as blocking
import redis.asyncio as redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from mdfeed.redis_url import RedisUrl, parse_redis_url

ANSWER_S = 0.5  # for one Sentinel, connecting and TLS included
LAST_WORD_S = 0.1  # for the minority to answer after the others, when these do not agree
# A master that is replaced on purpose, or is cut off from the Sentinels, takes writes for about ten seconds more.
ASK_AGAIN_S = 0.5


class Sentinels(Sentinel):
    """redis-py's Sentinel, but all are asked at once and the majority counts.

    So one that is frozen does not hold up the others, and one that was cut off from them does not send us to a master
    that they have replaced. `keeps_open` is for asking often; close() then.
    """

    def __init__(self, url: RedisUrl, *, keeps_open: bool = False) -> None:
        self._keeps_open = keeps_open
        options: dict[str, Any] = {"username": url.sentinel_username, "password": url.sentinel_password}
        options |= {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
        super().__init__(url.sentinels, sentinel_kwargs=options | url.client_tls)  # type: ignore[no-untyped-call]

    async def discover_master(self, service_name: str, *, needs_majority: bool = False) -> tuple[str, int]:
        """Host and port of the master that most Sentinels name. MasterNotFoundError says why there is none.

        `needs_majority`: of all Sentinels; else of those that name one.
        """
        asked = {asyncio.ensure_future(self._ask(client, service_name)) for client in self.sentinels}
        votes: Counter[tuple[str, int]] = Counter()
        reasons: Counter[str] = Counter()
        waiting = asked
        try:
            while waiting:
                grace_s = LAST_WORD_S if 2 * len(waiting) < len(asked) else None
                done, waiting = await asyncio.wait(waiting, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for address, reason in (task.result() for task in done):
                    if address is None:
                        reasons[reason] += 1
                    else:
                        votes[address] += 1
                if votes and 2 * max(votes.values()) > len(asked):
                    return votes.most_common(1)[0][0]
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        if needs_majority or not votes:
            said = ", ".join(f"{number} say: {reason}" for reason, number in reasons.most_common(3))
            raise MasterNotFoundError(f"the Sentinels name no master {service_name!r} ({said})")
        return votes.most_common(1)[0][0]

    async def close(self) -> None:
        for client in self.sentinels:
            await client.connection_pool.disconnect()

    async def _ask(self, client: redis.Redis, name: str) -> tuple[tuple[str, int] | None, str]:
        """What one Sentinel names, or why it names none."""
        is_answered = False
        try:
            async with asyncio.timeout(ANSWER_S):
                masters: Any = await client.sentinel_masters()
            is_answered = True
            state = masters.get(name)
            if state is None:
                return None, "not known"
            if not self.check_master_state(state, name):
                return None, "down"
            return (str(state["ip"]), int(state["port"])), ""
        except TimeoutError:
            return None, "no answer"
        except Exception as error:  # redis-py reads a broken answer with whatever error comes of it
            return None, " ".join(str(error).split())[:100] or type(error).__name__
        finally:
            if not (self._keeps_open and is_answered):
                await client.connection_pool.disconnect()


async def find_master(url: RedisUrl) -> RedisUrl:
    """The URL of the master's own server; a URL without Sentinels as it is. ConnectionError when none is named."""
    if not url.sentinels:
        return url
    try:
        host, port = await Sentinels(url).discover_master(url.master)
    except MasterNotFoundError as error:
        raise ConnectionError(str(error)) from None
    return replace(url, host=host, port=port, sentinels=())


async def until_moved(url: RedisUrl, master: RedisUrl) -> str:
    """Wait until most Sentinels of `url` name another server than `master`; returns that in words."""
    sentinels = Sentinels(url, keeps_open=True)
    try:
        while True:
            await asyncio.sleep(ASK_AGAIN_S)
            with suppress(MasterNotFoundError):
                host, port = await sentinels.discover_master(url.master, needs_majority=True)
                if (host, port) != (master.host, master.port):
                    return f"the Sentinels have moved the master to {replace(master, host=host, port=port).label}"
    finally:
        await sentinels.close()


def client_of(text: str, **options: Any) -> redis.Redis:
    """redis-py's client of a redis_url; with Sentinels each of its connections goes to the master of that moment.

    `options` are redis.asyncio.Redis's own. Raises ConfigError for a URL that can't be read.
    """
    if not has_sentinels(text):
        return redis.Redis.from_url(text, **options)
    url = parse_redis_url(text)
    options |= url.client_login | url.client_tls
    return Sentinels(url).master_for(url.master, **options)  # type: ignore[no-any-return]


def blocking_client_of(text: str, **options: Any) -> blocking.Redis:
    """The same without asyncio, and bound to the master of now. ConnectionError of redis-py when none is named."""
    if not has_sentinels(text):
        return blocking.Redis.from_url(text, **options)
    url = parse_redis_url(text)
    try:
        found = asyncio.run(find_master(url))
    except ConnectionError as error:
        raise blocking.ConnectionError(str(error)) from None
    return blocking.Redis(host=found.host, port=found.port, **options, **url.client_login, **url.client_tls)


def has_sentinels(text: str) -> bool:
    return text.partition(":")[0].endswith("+sentinel")
