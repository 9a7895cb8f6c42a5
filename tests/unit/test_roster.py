"""Symbols that the venue lists no more or does not trade, on virtual time: they stop no other."""

from __future__ import annotations

import asyncio
import json

import pytest

from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed.config import load_config
from mdfeed.errors import ConfigError, SnapshotError
from mdfeed.governor import Governor
from mdfeed.kept import ListedFile
from mdfeed.roster import GONE, Roster
from tests.faults.clock import VirtualLoop

ALL = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")


class Rest:
    """Answers exchangeInfo from `statuses`; none at all while that is empty."""

    def __init__(self):
        self.statuses = dict.fromkeys(ALL, "TRADING")
        self.asked_at_s = []
        self.governor = Governor()

    async def fetch(self, request, *_):
        self.asked_at_s.append(asyncio.get_running_loop().time())
        if not self.statuses:
            raise SnapshotError("no answer")
        filters = [
            {"filterType": "PRICE_FILTER", "tickSize": "0.1"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001"},
        ]
        markets = [{"symbol": s, "status": status, "filters": filters} for s, status in self.statuses.items()]
        return json.dumps({"symbols": markets}).encode()


class Lines:
    def __init__(self):
        self.followed = []

    def follow(self, symbols):
        self.followed.append(list(symbols))


class Track:
    state, reason = "PROVED", "proved"


class Rig:
    def __init__(self, rest, symbols, listed=None):
        self.config = load_config(None, {"symbols": symbols}, {})
        self.rest, self.lines = rest, Lines()
        venue = venues.get("binance-usdm")
        self.feed = Feed(venue)
        for symbol in symbols:
            self.feed.add(symbol)
        self.roster = Roster(self.config, self.feed, venue, rest, self.lines, int, listed)

    def reload(self, symbols):
        return self.roster.reload(lambda: load_config(None, {"symbols": symbols}, {}))

    def events(self):
        found = [(event.symbol, event.kind) for event in self.feed.publisher.events]
        self.feed.publisher.events.clear()
        return [event for event in found if event[1] in ("delisted", "not_trading")]


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def rest():
    return Rest()


async def test_a_symbol_that_was_never_listed_is_a_mistake(rest):
    rig = Rig(rest, ["BTCUSDT", "ETHUST"])
    with pytest.raises(ConfigError, match=r"does not list ETHUST; did you mean ETHUSDT\?"):
        await rig.roster.open()
    assert rig.lines.followed == []


@pytest.mark.parametrize("status", ["SETTLING", "CLOSE", "BREAK", "PENDING_TRADING"])
async def test_a_symbol_that_does_not_trade_stops_no_other(rest, status):
    rest.statuses["SOLUSDT"] = status
    rig = Rig(rest, ["BTCUSDT", "SOLUSDT"])
    await rig.roster.open()
    assert rig.lines.followed == [["BTCUSDT", "SOLUSDT"]]
    assert rig.roster.reasons() == [f"SOLUSDT: the venue says {status}"]
    assert rig.events() == [("SOLUSDT", "not_trading")]
    assert await rig.reload(["BTCUSDT", "SOLUSDT", "ETHUSDT"])


async def test_a_symbol_that_has_vanished_stops_neither_a_reload_nor_a_restart(rest, tmp_path):
    path = tmp_path / "listed.json"
    rig = Rig(rest, ["BTCUSDT", "SOLUSDT"], ListedFile(path))
    await rig.roster.open()
    del rest.statuses["SOLUSDT"]
    assert await rig.reload(["BTCUSDT", "SOLUSDT", "BNBUSDT"])
    assert rig.lines.followed[-1] == ["BTCUSDT", "SOLUSDT", "BNBUSDT"]
    assert rig.roster.reasons() == [f"SOLUSDT: {GONE}"]
    assert not await rig.reload(["BTCUSDT", "SOLUSDT", "NOSUCHUSDT"]), "a new one is judged"
    again = Rig(rest, ["BTCUSDT", "SOLUSDT"], ListedFile(path))
    await again.roster.open()
    assert again.roster.reasons() == [f"SOLUSDT: {GONE}"]
    assert again.events() == [("SOLUSDT", "delisted")]
    assert await again.reload(["BTCUSDT"])
    assert again.roster.reasons() == []
    forgetful = Rig(rest, ["BTCUSDT", "SOLUSDT"], ListedFile(None))
    with pytest.raises(ConfigError):
        await forgetful.roster.open()


def test_a_delisting_is_found_at_run_time_and_asked_about_ever_more_rarely(loop, rest):
    rig = Rig(rest, ["BTCUSDT", "SOLUSDT"])
    loop.run_until_complete(rig.roster.open())
    # Until it is silent for ten seconds nothing is asked.
    tracks = {"BTCUSDT": Track(), "SOLUSDT": Track()}
    rig.roster._feed = _Fake(rig.feed, tracks)
    task = loop.create_task(rig.roster.run())
    loop.advance(60.0)
    assert len(rest.asked_at_s) == 1
    del rest.statuses["SOLUSDT"]
    tracks["SOLUSDT"].state, tracks["SOLUSDT"].reason = "STALE", "silent"
    loop.advance(80.0)
    assert rig.roster.reasons() == [f"SOLUSDT: {GONE}"]
    assert rig.events() == [("SOLUSDT", "delisted")]
    loop.advance(86_400.0)
    gaps = [b - a for a, b in zip(rest.asked_at_s[1:], rest.asked_at_s[2:], strict=False)]
    assert gaps[0] == pytest.approx(60, abs=10)
    assert gaps[-1] == pytest.approx(3600, abs=10)
    assert len(rest.asked_at_s) < 40
    assert rig.events() == [], "said once"
    rest.statuses["SOLUSDT"] = "TRADING"
    tracks["SOLUSDT"].state, tracks["SOLUSDT"].reason = "PROVED", "proved"
    loop.advance(86_410.0)
    assert rig.roster.reasons() == []
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))


def test_an_outage_of_lines_asks_for_no_list(loop, rest):
    rig = Rig(rest, ["BTCUSDT"])
    loop.run_until_complete(rig.roster.open())
    lost = Track()
    lost.state, lost.reason = "STALE", "line_lost"
    rig.roster._feed = _Fake(rig.feed, {"BTCUSDT": lost})
    task = loop.create_task(rig.roster.run())
    loop.advance(3600.0)
    assert len(rest.asked_at_s) == 1
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))


class _Fake:
    """The Feed with other tracks."""

    def __init__(self, feed, tracks):
        self.publisher, self.tracks = feed.publisher, tracks


@pytest.mark.parametrize("text", [b"", b"{", b"[1, null]", b"7", b"\xff"])
def test_a_foreign_list_is_none(tmp_path, text):
    path = tmp_path / "listed.json"
    path.write_bytes(text)
    file = ListedFile(path)
    assert file.symbols == set()
    file.add({"BTCUSDT"})
    assert ListedFile(path).symbols == {"BTCUSDT"}
