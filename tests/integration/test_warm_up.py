"""500 symbols from a cold start on the venue's weight, in process on virtual time, with the venue counting."""

from __future__ import annotations

import pytest

from mdfeed.exchange.faults import Answer
from tests.venue_world import VenueWorld

SYMBOLS = [f"SYM{number:03d}USDT" for number in range(500)]


def count_states(world: VenueWorld) -> dict[str, int]:
    states = [track.state for track in world.feed.tracks.values()]
    return {state: states.count(state) for state in sorted(set(states))}


@pytest.mark.timeout(240)
def test_500_symbols_are_proved_within_a_minute_and_never_limited(world_of):
    world = world_of(SYMBOLS, rate=4.0, channels=("depth@100ms", "bookTicker"))
    took_s = 0
    while count_states(world) != {"PROVED": 500} and took_s < 60:
        world.run(5)
        took_s += 5
    print(f"500 symbols: {count_states(world)} after {took_s} s, weight {world.governor.spent}")
    assert count_states(world) == {"PROVED": 500}
    assert all(
        track.book.verified_bids >= 20 and track.book.verified_asks >= 20 for track in world.feed.tracks.values()
    )
    assert set(world.statuses) == {200}, "never a 429"
    assert world.asked["24hr"] == 1, "one request for the figures of all"
    assert world.proof()["mismatch"] == 0


@pytest.mark.timeout(240)
def test_full_books_and_a_day_of_minutes_hold_little_memory(world_of):
    # 40 symbols of the 500 whose resident memory `python -m bench.scale` shows: by the objects' own count.
    symbols = SYMBOLS[:40]
    world = world_of(symbols, rate=3.0, levels=1200)
    took_s = 0
    books = [track.book for track in world.feed.tracks.values()]
    while world.figures.outcomes["minutes"] < 40 or min(book.count_of("asks") for book in books) < 900:
        world.run(5)
        took_s += 5
        assert took_s <= 180, (world.figures.outcomes, world.snapshots.outcomes)
    assert count_states(world) == {"PROVED": 40}
    assert set(world.statuses) == {200}
    held = {"books": 0, "windows": 0, "proofs": 0, "buffers": 0}
    for track in world.feed.tracks.values():
        assert track.book.count_of("bids") >= 900
        for part, count in track.memory_bytes.items():
            held[part] += count
    print(f"bytes a symbol after {took_s} s: { {part: count // 40 for part, count in held.items()} }")
    assert sum(held.values()) / 40 < 160_000, "80 MB for 500 symbols, beside what an idle daemon takes"


def test_a_restart_knows_what_was_used_and_what_was_forbidden(world_of, tmp_path):
    state = tmp_path / "weight.json"
    first = world_of(["BTCUSDT"], state_file=state)
    first.run(2)
    used = first.governor.weight_used
    assert used >= 22
    second = world_of(["BTCUSDT"], state_file=state)
    assert second.governor.weight_used == used
    second.refuse = lambda path: Answer(418, b"{}", {"Retry-After": "300"})
    second.run(3)
    assert second.statuses[418] == 1
    third = world_of(["BTCUSDT"], state_file=state)
    third.run(5)
    assert third.asked == {}, "the ban outlives the restart"
    assert third.governor.blocked_until > third.clock()


@pytest.mark.parametrize("status", [403, 451])
def test_no_rest_at_all_asks_for_partial_depth(world_of, status):
    world = world_of(["BTCUSDT", "ETHUSDT"])
    world.refuse = lambda path: Answer(status, b"<html>no</html>", content_type="text/html")
    world.run(6)
    assert world.followed == [("BTCUSDT", "ETHUSDT")]
    assert "asked for 2 symbols" in world.snapshots.trouble
    assert world.asked.total() <= 8, "a host that refuses is asked rarely"
    world.refuse = lambda path: None
    world.run(90)
    assert {track.state for track in world.feed.tracks.values()} == {"PROVED"}
    assert world.followed[-1] == ()
    assert world.snapshots.trouble == ""


def test_a_ban_is_waited_for(world_of):
    world = world_of(["BTCUSDT"], channels=("depth@100ms", "bookTicker"))
    until_ns = world.now_ns + 40 * 10**9
    world.refuse = lambda path: Answer(429, b"{}", {"Retry-After": "40"}) if world.clock() < until_ns else None
    world.run(38)
    assert world.asked.total() <= 7, "what was under way, and nothing after"
    assert "the venue forbids it" in world.snapshots.trouble
    assert world.followed == [("BTCUSDT",)]
    world.run(8)
    assert world.feed.tracks["BTCUSDT"].state == "PROVED"


def test_a_ban_opens_no_partial_depth_and_is_over_at_its_end(world_of):
    world = world_of(["BTCUSDT"], channels=("depth@100ms", "bookTicker"))
    until_ns = world.now_ns + 40 * 10**9
    world.refuse = lambda path: Answer(418, b"{}", {"Retry-After": "40"}) if world.clock() < until_ns else None
    world.run(39)
    assert world.followed == []
    assert world.feed.tracks["BTCUSDT"].state == "SYNCING"
    world.run(3)
    assert world.feed.tracks["BTCUSDT"].state in ("LIVE", "PROVED")
    assert world.figures.outcomes["ticker"] == 1, "the figures wait no longer either"
