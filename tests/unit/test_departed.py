"""Symbols removed while the far side was away: said again at its return, forgotten once that was answered."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from mdfeed import departed as module
from mdfeed.departed import ANSWERED_S, Departed
from tests.unit.test_feed_edges import Desk


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: at[0])
    return at


def a_sink() -> Any:
    return SimpleNamespace(is_connected=True, trouble="")


def test_said_again_until_it_was_answered(clock):
    desk, sink = Desk(), a_sink()
    desk.seat()
    gone, index = Departed(sink), desk.track.index
    before = dict(desk.feed.tracks)
    desk.feed.remove("BTCUSDT", desk.now_ns)
    gone.note(before, desk.feed.tracks)
    sink.is_connected = False
    gone.look()
    clock[0] += 100 * ANSWERED_S
    gone.look()
    assert list(gone) == ["BTCUSDT"]
    assert gone.index_of(desk.feed.tracks, "BTCUSDT") == index
    assert gone.index_of(desk.feed.tracks, "ETHUSDT") == -1
    sink.is_connected = True
    desk.collector.take()
    gone.say(["BTCUSDT", "ETHUSDT"], desk.now_ns)
    said = [(kind, payload) for kind, _, payload in desk.collector.take()]
    assert [kind for kind, _ in said] == ["state", "withdraw"]
    assert json.loads(said[0][1])["state"] == "COLD"
    clock[0] += ANSWERED_S
    gone.look()
    assert gone
    clock[0] += 0.1
    gone.look()
    assert not gone
    assert not gone._said_at


def test_what_is_followed_again_is_not_removed(clock):
    desk = Desk()
    gone = Departed(a_sink())
    before = dict(desk.feed.tracks)
    desk.feed.remove("BTCUSDT", desk.now_ns)
    gone.note(before, desk.feed.tracks)
    desk.feed.add("BTCUSDT")
    gone.note({}, desk.feed.tracks)
    clock[0] += 2 * ANSWERED_S
    gone.look()
    assert not gone
