"""A server that answers and does not take: what is refused is no publication, and is said anew once it is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio

from mdfeed._encode import KINDS
from mdfeed._resp import FIRST, LAST, NOTHING
from mdfeed.embedded import EmbeddedRedis
from mdfeed.redis_link import Ledger
from mdfeed.sinks.redis import RedisSink
from tests.integration.sink_rig import BTC, Source, each_server, needs_server, running, seq_of, until

KEY = "mdfeed:book:BTCUSDT"
BOOK, STATE, TRADES = (KINDS.index(kind) for kind in ("book", "state", "trades"))


def settled(sink: RedisSink) -> bool:
    return sink._link is not None and sink._link.outstanding == 0


@needs_server
@each_server
@pytest.mark.parametrize("how", ["oom", "noperm", "readonly"])
async def test_what_was_refused_is_said_within_a_second_of_the_end(path: Path, how: str) -> None:
    """The symbol is quiet: nothing is published of itself after the refusal."""
    async with (
        EmbeddedRedis(path) as server,
        redis.asyncio.from_url(server.url) as admin,
        running(server.url) as sink,
    ):
        await until(lambda: sink.is_connected)
        await admin.execute_command("ACL", "SETUSER", "admin", "on", ">x", "~*", "&*", "+@all")
        await admin.execute_command("AUTH", "admin", "x")
        begin, end = {
            "oom": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            "noperm": (("ACL", "SETUSER", "default", "-set"), ("ACL", "SETUSER", "default", "+set")),
            "readonly": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        }[how]
        source = Source(sink)
        await admin.execute_command(*begin)
        source.publish()
        await until(lambda: sink.trouble)
        assert how.upper() in sink.trouble
        await asyncio.sleep(0.7)
        assert sink.trouble, "it is tried, and still refused"
        assert not await admin.exists(KEY)
        counters = sink.counters()
        assert counters["dropped"][how] > 0
        assert counters["published"]["book"] == 0
        said = source.seq
        await admin.execute_command(*end)
        await until(lambda: not sink.trouble and sink.is_connected, within_s=2.5 if how == "readonly" else 1.0)
        assert seq_of(await admin.get(KEY)) == source.seq > said
        outage = sink.outages.pop()
        assert (outage.kind, outage.reason) == ("refused", how.upper())
        assert outage.dropped > 0
        assert outage.for_s > 0.5
        await until(lambda: settled(sink))
        counters, seq = sink.counters(), source.seq
        await asyncio.sleep(0.7)
        assert source.seq == seq, "once is enough"
        assert counters["published"]["book"] + sum(counters["dropped"].values()) >= seq


@needs_server
async def test_published_never_falls_and_what_is_refused_is_dropped() -> None:
    async with (
        EmbeddedRedis() as server,
        redis.asyncio.from_url(server.url) as admin,
        running(server.url) as sink,
    ):
        await until(lambda: sink.is_connected)
        source = Source(sink)
        seen = [0]
        for maxmemory in (0, 1, 0):
            await admin.config_set("maxmemory", maxmemory)
            for _ in range(100):
                source.publish()
                sink.outbox.put_trade(BTC, source.seq, 1, 1)
                sink.flush()
                seen.append(sum(sink.counters()["published"].values()))
                await asyncio.sleep(0)
            await until(lambda: settled(sink))
        counters = sink.counters()
        assert seen == sorted(seen)
        assert counters["dropped"]["oom"] >= 300  # market_data, book, trades_stream; the channels took theirs
        assert counters["published"]["trades"] >= 300
        assert sum(counters["published"].values()) + sum(counters["dropped"].values()) == 3 * source.seq + 2 * 300


async def test_a_server_that_always_refuses_some_is_not_told_everything_each_time() -> None:
    sink = RedisSink("redis://nowhere", None, epoch=1)
    refusing, now, waits = sink._refusing, 0.0, []
    for _ in range(20):
        refusing.refused("NOPERM", "NOPERM no", now)
        began = now
        while not refusing.is_due(now):
            now += 0.1
        waits.append(now - began)
        refusing.over(now)
        now += 1.0
    assert max(waits[:5]) < 0.6
    assert 25 < waits[-1] < 31


def test_a_publication_of_two_commands_is_one() -> None:
    ledger = Ledger()
    pair = bytes((BOOK | FIRST, BOOK | LAST))
    ledger.send(pair + bytes((NOTHING, TRADES)))
    ledger.send(bytes((STATE | FIRST, STATE | LAST)))
    assert {kind: n for kind, n in ledger.unanswered(pair).items() if n} == {"book": 2, "trades": 1, "state": 1}
    assert ledger.refuse("oom")  # the SET
    assert ledger.unanswered()["book"] == 0
    ledger.take(1)
    assert not ledger.refuse("refused")  # what keeps a key alive, or a PING
    assert ledger.refuse("noperm")
    assert ledger.refuse("oom")
    assert ledger.refuse("oom")
    assert ledger.refused == {("book", "oom"): 1, ("trades", "noperm"): 1, ("state", "oom"): 1}
    assert not any(ledger.unanswered().values())
    assert not ledger.refuse("oom")
    ledger.send(pair)
    ledger.take(1)
    ledger.lose()
    assert ledger.in_flight["book"] == 1
    assert not any(ledger.unanswered().values())
