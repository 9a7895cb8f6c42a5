"""mdfeed.service: what a configuration means for its parts, before anything connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdfeed.config import load_config
from mdfeed.errors import ConfigError
from mdfeed.readiness import named
from mdfeed.service import Service


def service(**options: object) -> Service:
    return Service(load_config(None, {name.replace("__", "."): value for name, value in options.items()}, {}))


@pytest.mark.parametrize(
    ("depth", "limit", "first"),
    [(1, 1000, 50), (20, 1000, 50), (50, 1000, 50), (51, 1000, 100), (60, 500, 100), (501, 1000, 1000), (20, 20, 20)],
)
def test_a_book_is_seated_with_a_number_of_levels_that_the_venue_gives(depth: int, limit: int, first: int) -> None:
    feed = service(order_book_depth=depth, book__snapshot_limit=limit).feed
    assert (feed.first_limit, feed.snapshot_limit) == (first, limit)


@pytest.mark.parametrize("limit", [200, 999, 5000])
def test_a_number_of_levels_that_the_venue_does_not_give_is_a_mistake(limit: int) -> None:
    with pytest.raises(ConfigError, match=rf"book\.snapshot_limit: binance-usdm gives 5, 10, .*, 1000: {limit}"):
        service(book__snapshot_limit=limit)
    assert service(venue="binance-spot", book__snapshot_limit=5000).feed.snapshot_limit == 5000


def test_nothing_is_rehearsed_unless_asked_for() -> None:
    assert service().rehearsal is None
    made = service(latency__keep_warm_us=400, order_book_depth=7)
    assert made.rehearsal is not None
    assert made.rehearsal._period_us == 400
    assert list(made.feed.tracks) == made.config.symbols
    assert made.rehearsal.feed.publisher.outboxes != made.feed.publisher.outboxes


def test_a_venue_without_made_up_frames_cannot_rehearse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdfeed.venues.binance.Binance.rehearsal", lambda self: None)
    assert service().rehearsal is None
    with pytest.raises(ConfigError, match=r"latency\.keep_warm_us: there are no made-up frames of binance-usdm"):
        service(latency__keep_warm_us=400)


def test_the_keys_reach_their_parts(tmp_path: Path) -> None:
    made = service(
        state_dir=str(tmp_path / "a/b"),
        rest__weight_share=0.45,
        redis__trades_maxlen=5,
        redis__events_maxlen=6,
        forensics__keep=3,
        forensics__recall_mib=1,
        lines__max_connects=7,
    )
    assert (tmp_path / "a/b").is_dir()
    assert made.upkeep.governor.limit == 2400
    assert made.upkeep.governor._usable == pytest.approx(1200)
    assert (made.sink.outbox.trades_maxlen, made.sink.outbox.events_maxlen) == (5, 6)
    assert made.upkeep.forensics is not None
    assert made.upkeep.forensics._most == 3
    assert made.feed.recall is not None
    assert [made.lines._budget.wait_s(0.0) for _ in range(8)].count(0.0) == 7


def test_without_a_folder_or_a_recall_there_are_no_forensics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service(state_dir="none").upkeep.forensics is None
    assert service(state_dir=str(tmp_path), forensics__recall_mib=0).upkeep.forensics is None
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'of-systemd'}:/elsewhere")
    assert service().upkeep.forensics is not None
    assert (tmp_path / "of-systemd").is_dir()


def test_ready_says_what_the_sink_refuses() -> None:
    made = service(redis__leases=False)
    made.sink.is_connected = True
    assert not any(reason.startswith("redis") for reason in made.ready()[1]["reasons"])
    made.sink._refusing.refused("OOM", "OOM command not allowed", 0.0)  # type: ignore[attr-defined]
    status, body = made.ready()
    assert status == 503
    assert body["reasons"][0] == "redis: refuses commands: OOM command not allowed"


def test_what_was_refused_is_said_again_but_not_behind_a_shut_valve() -> None:
    for leases in (False, True):
        made = service(redis__leases=leases, symbols=["BTCUSDT", "ETHUSDT"])
        made.sink.outbox.open()  # type: ignore[attr-defined]
        assert made.sink.on_again is not None
        made.sink.on_again()
        assert made.sink.outbox.pending_commands == (0 if leases else 4)  # type: ignore[attr-defined]


def test_without_a_stream_of_trades_there_is_nothing_to_resume() -> None:
    assert service().resume is not None
    assert service(redis__outputs=["book", "trades"]).resume is None


def test_the_log_names_all_of_a_few_symbols_and_some_of_many() -> None:
    assert named(["BTCUSDT", "ETHUSDT"]) == "BTCUSDT, ETHUSDT"
    assert named([f"S{n}" for n in range(500)]).endswith("S8, S9 and 490 more")
