"""The venue's weight: order, shares, bans, and what is kept over a restart."""

from __future__ import annotations

import asyncio
import json

import pytest

from mdfeed.governor import SHARES, Governor, Places, Purpose
from mdfeed.refusals import Refusal, Refused


class Clock:
    def __init__(self) -> None:
        self.ns = 1_700_000_000 * 10**9  # 20 s into a minute

    def __call__(self) -> int:
        return self.ns


async def settle_later(governor, weight, purpose, order):
    await governor.admit(weight, purpose)
    order.append(purpose)
    governor.settle(weight)


async def test_the_urgent_pass_the_others():
    clock = Clock()
    governor = Governor(now_ns=clock)
    governor.settle(0, said=2160)
    order: list[Purpose] = []
    tasks = [asyncio.create_task(settle_later(governor, 20, purpose, order)) for purpose in reversed(Purpose)]
    await asyncio.sleep(0.02)
    assert order == []
    clock.ns += 41 * 10**9
    await asyncio.gather(*tasks)
    assert order == list(Purpose)


@pytest.mark.parametrize("purpose", Purpose)
async def test_each_purpose_leaves_its_part_to_the_more_urgent(purpose):
    governor = Governor(1000, now_ns=Clock())
    sent = 0
    while True:
        task = asyncio.create_task(governor.admit(10, purpose))
        await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            break
        governor.settle(10)
        sent += 10
    assert sent == min(1000 * SHARES[purpose], 330 if purpose is Purpose.SHADOW else 1000)
    assert governor.spent == {purpose.name.lower(): sent}


async def test_what_the_venue_never_got_counts_until_its_next_word():
    governor = Governor(now_ns=Clock())
    lost = await governor.admit(20)
    early = await governor.admit(5)
    governor.settle(20, since=lost)  # no answer: the connection was deaf, or the answer was lost
    assert governor.weight_used == 20
    governor.settle(5, said=105, since=early)  # this left before that had ended: its word may lack it
    assert governor.weight_used == 125
    late = await governor.admit(5)
    governor.settle(5, said=110, since=late)
    assert governor.weight_used == 110
    unsent = await governor.admit(50)
    assert unsent == late
    governor.release(50)
    assert governor.weight_used == 110
    assert governor._in_flight == 0


async def test_who_does_not_wait_is_told_at_once():
    governor = Governor(now_ns=Clock())
    governor.settle(0, said=2100)
    assert await governor.admit(50, Purpose.RESYNC, waits=False) == 0
    with pytest.raises(Refused, match="weight is used up"):
        await governor.admit(20, Purpose.RESYNC, waits=False)
    assert governor._waiting == []


async def test_a_new_minute_forgets_what_had_no_answer():
    clock = Clock()
    governor = Governor(now_ns=clock)
    governor.settle(20, since=await governor.admit(20))
    clock.ns += 60 * 10**9
    assert governor.weight_used == 0
    governor.settle(5, since=await governor.admit(5))
    assert governor.weight_used == 5


async def test_a_block_ends_those_who_wait():
    clock = Clock()
    governor = Governor(now_ns=clock)
    governor.settle(0, said=2390)
    waiting = asyncio.create_task(governor.admit(20, Purpose.RESYNC))
    await asyncio.sleep(0.01)
    governor.stop(Refusal("banned", "banned", 120.0))
    with pytest.raises(Refused, match="banned"):
        await waiting
    clock.ns += 120 * 10**9
    await governor.admit(20, Purpose.RESYNC)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"minute":"x"}',
        b'{"minute":-1,"used":0,"blocked_until":0,"reason":"","text":""}',
        b"\xff\x00",
    ],
)
async def test_a_foreign_state_is_ignored_with_one_line(tmp_path, caplog, text):
    path = tmp_path / "weight.json"
    path.write_bytes(text)
    governor = Governor(now_ns=Clock(), state_file=path)
    assert governor.weight_used == 0
    assert len(caplog.records) == 1
    await governor.admit(5)
    governor.settle(5)
    assert json.loads(path.read_bytes())["used"] == 5
    assert [file.name for file in tmp_path.iterdir()] == ["weight.json"]


async def test_a_ban_and_the_minute_are_kept(tmp_path, caplog):
    clock, path = Clock(), tmp_path / "weight.json"
    governor = Governor(now_ns=clock, state_file=path)
    governor.settle(0, said=700)
    governor.stop(Refusal("banned", "banned by the venue", 300.0))
    again = Governor(now_ns=clock, state_file=path)
    assert (again.weight_used, again.blocked_until) == (700, governor.blocked_until)
    with pytest.raises(Refused, match="banned by the venue"):
        await again.admit(1)
    clock.ns += 301 * 10**9
    assert Governor(now_ns=clock, state_file=path).blocked_until == 0


async def test_a_folder_that_refuses_is_no_trouble(tmp_path, caplog):
    governor = Governor(now_ns=Clock(), state_file=tmp_path / "absent" / "weight.json")
    for _ in range(3):
        await governor.admit(5)
        governor.settle(5)
    assert len(caplog.records) == 1
    assert governor.weight_used == 15


async def test_a_smaller_share_leaves_the_rest_to_others():
    governor = Governor(1000, share=0.3, now_ns=lambda: 10**18)
    await governor.admit(300, Purpose.RESYNC)
    waiting = asyncio.ensure_future(governor.admit(1, Purpose.RESYNC))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    full = Governor(1000, share=0.3, now_ns=lambda: 10**18)
    await full.admit(200, Purpose.FULL)
    assert not full.has_room(40, Purpose.FULL), "the purposes keep their proportions"
    assert full.has_room(30, Purpose.FULL)


async def test_a_free_place_goes_to_the_most_urgent_and_none_is_lost():
    places, order, gate = Places(2), [], asyncio.Event()

    async def take(purpose):
        async with places.one(purpose):
            order.append(purpose)
            await gate.wait()

    held = [asyncio.create_task(take(Purpose.KLINES)) for _ in range(2)]
    await asyncio.sleep(0)
    late = [asyncio.create_task(take(purpose)) for purpose in (Purpose.KLINES, Purpose.FIRST, Purpose.RESYNC)]
    given_up = asyncio.create_task(take(Purpose.RESYNC))
    await asyncio.sleep(0)
    given_up.cancel()
    gate.set()
    await asyncio.gather(*held, *late, given_up, return_exceptions=True)
    assert order == [Purpose.KLINES, Purpose.KLINES, Purpose.RESYNC, Purpose.FIRST, Purpose.KLINES]
    # One that is given a place and cancelled at once passes it on.
    gate.clear()
    order.clear()
    held = [asyncio.create_task(take(Purpose.FIRST)) for _ in range(2)]
    await asyncio.sleep(0)
    given_up, last = (asyncio.create_task(take(Purpose.FULL)) for _ in range(2))
    await asyncio.sleep(0)
    held[0].cancel()
    await asyncio.sleep(0)
    given_up.cancel()
    gate.set()
    await asyncio.gather(*held, given_up, last, return_exceptions=True)
    async with asyncio.timeout(5):
        async with places.one(Purpose.KLINES), places.one(Purpose.KLINES):
            order.append("both are free")
    assert order == [Purpose.FIRST, Purpose.FIRST, Purpose.FULL, "both are free"]
