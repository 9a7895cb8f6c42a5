"""What `/ready` says of the way to the venue: of a real Service against venues that refuse."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from mdfeed.config import load_config
from mdfeed.errors import SnapshotError
from mdfeed.exchange.script import Script
from mdfeed.exchange.server import SimulatedExchange
from mdfeed.exchange.spec import parse
from mdfeed.readiness import sources_in_use
from mdfeed.refusals import of_status
from mdfeed.service import Service
from tests.integration.daemon import free_port
from tests.lines import until


@asynccontextmanager
async def inward(port, **options):
    """A Service whose side to the venue runs: nothing listens, nothing is published."""
    given = {
        "symbols": ["BTCUSDT"],
        "exchange_ws_url": f"ws://127.0.0.1:{port}/stream",
        "exchange_rest_url": f"http://127.0.0.1:{port}",
        "reconnect_delay_ms": 50,
        **{name.replace("__", "."): value for name, value in options.items()},
    }
    service = Service(load_config(None, given, {}))
    task = asyncio.create_task(service._inward())
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def said(service):
    return "\n".join(service.ready()[1].get("reasons", []))


async def test_a_venue_that_is_not_there_is_named():
    async with inward(free_port()) as service:
        await until(lambda: "no route to the venue (connection refused)" in said(service))
        await until(lambda: "REST: connection refused" in said(service))
        assert "BTCUSDT: COLD" in said(service)


async def test_each_line_that_is_not_connected_is_named_with_its_reason():
    async with inward(free_port(), exchange_routes="split") as service:
        await until(lambda: all(stream.last_error for stream in service.lines.streams) and service.lines.streams != [])
        await until(lambda: said(service).count("not connected (connection refused)") == 2)
        assert "line market-0: not connected (connection refused)" in said(service)
        assert "line public-0: not connected (connection refused)" in said(service)


@pytest.mark.parametrize(
    ("status", "words"), [(403, "firewall (403)"), (418, "banned by the venue (418)"), (451, "this place (451)")]
)
async def test_what_the_venue_refuses_is_named(status, words):
    script = Script([parse(f"rest:status={status},retry_after=60"), parse(f"upgrade:status={status},retry_after=60")])
    async with SimulatedExchange(["BTCUSDT"], seam=script) as exchange, inward(exchange.port) as service:
        await until(lambda: words in said(service))
        if status == 418:
            assert "the venue forbids requests until 2" in said(service)
            assert "no route to the venue (held back" in said(service)
            assert script.faults[1].count == 0, "nothing is dialled during a ban"
        else:
            await until(lambda: f"no route to the venue ({service.lines._no_route})" in said(service))
            assert words in service.lines._no_route
            await until(lambda: any(line.startswith("REST: ") and words in line for line in said(service).split("\n")))


@pytest.mark.parametrize("routes", ["auto", "split"])
async def test_an_upgrade_that_is_banned_stops_rest_until_its_time_is_over(routes):
    fault = parse("upgrade:status=418,retry_after=2")
    script = Script([fault])
    async with (
        SimulatedExchange(["BTCUSDT"], rate=80, seam=script) as exchange,
        inward(exchange.port, exchange_routes=routes) as service,
    ):
        await until(lambda: fault.count > 0)
        begun = asyncio.get_running_loop().time()
        await until(lambda: service.upkeep.governor.block is not None)
        await asyncio.sleep(0.3)  # what was under way
        fault.stop()
        asked, dialled = sum(service.upkeep.rest.answers.values()), fault.count
        await asyncio.sleep(1.2)
        assert sum(service.upkeep.rest.answers.values()) == asked
        assert fault.count == dialled
        await until(lambda: service.feed.tracks["BTCUSDT"].state in ("LIVE", "PROVED"))
        assert 2.0 <= asyncio.get_running_loop().time() - begun < 5.0


async def test_books_by_another_source_than_rest_are_noted_while_all_is_well():
    script = Script([parse("rest:status=451")])
    async with (
        SimulatedExchange(["BTCUSDT"], rate=80, seam=script) as exchange,
        inward(exchange.port, redis__leases=False) as service,
    ):
        service.sink.is_connected = True
        await until(lambda: service.feed.tracks["BTCUSDT"].state == "PROVED")
        status, body = service.ready()
        assert (status, body["status"]) == (200, "ready")
        assert body["notes"][0] == "BTCUSDT: book by ws_api"
        assert any("this place (451)" in note for note in body["notes"])


def test_a_ban_alone_is_no_note_while_every_book_is_by_rest():
    service = Service(load_config(None, {}, {}))
    service.upkeep.governor.stop(of_status(418, {}))
    assert sources_in_use(service.feed.tracks, service.upkeep) == []


async def test_a_request_that_is_a_mistake_of_its_own_is_no_trouble_of_the_host():
    async with SimulatedExchange(["BTCUSDT"], rate=80) as exchange, inward(exchange.port) as service:
        rest = service.upkeep.rest
        with pytest.raises(SnapshotError, match="Invalid symbol"):
            await rest.fetch(service.venue.depth_request("NOSUCH", 5))
        assert rest.newest_refusal is None


def test_what_a_service_keeps_is_named_by_its_venue(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for port in (8001, 8002):
        options = {"exchange_rest_url": f"http://127.0.0.1:{port}"}
        governor = Service(load_config(None, options, {})).upkeep.governor
        assert governor.block is None, "another venue's ban is not inherited"
        governor.stop(of_status(418, {"retry-after": "60"}))
    names = sorted(path.name for path in (tmp_path / "mdfeed").iterdir())
    assert names == ["weight-127.0.0.1-8001.json", "weight-127.0.0.1-8002.json"]
