"""When a connection may be dialled."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed.connects import ConnectBudget
from mdfeed.governor import Governor
from mdfeed.refusals import of_status
from tests.faults.clock import VirtualLoop


def test_connects_are_limited_over_all_lines():
    budget = ConnectBudget(most=3, per_s=10.0)
    assert [budget.wait_s(at) for at in (0.0, 1.0, 2.0)] == [0, 0, 0]
    assert budget.wait_s(4.0) == 6.0
    assert budget.wait_s(10.0) == 0
    assert budget.wait_s(10.5) == 0.5
    assert budget.wait_s(11.0) == 0


@given(st.lists(st.floats(0, 30), max_size=200))
def test_no_window_holds_more_connects_than_allowed(pauses):
    budget, now, taken = ConnectBudget(most=5, per_s=60.0), 0.0, []
    for pause in pauses:
        now += pause
        if budget.wait_s(now) == 0:
            taken.append(now)
    assert all(later - first >= 60.0 for first, later in zip(taken, taken[5:], strict=False))


@pytest.mark.parametrize(
    ("status", "of_upgrade", "waits"), [(418, False, True), (418, True, True), (429, True, True), (429, False, False)]
)
def test_a_ban_holds_connects_back_until_its_very_end(status, of_upgrade, waits):
    loop = VirtualLoop()
    governor = Governor(now_ns=lambda: 10**18 + round(loop.time() * 1e9))
    budget = ConnectBudget(1, forbidden_s=lambda: governor.no_dial_s)
    governor.stop(of_status(status, {"retry-after": "40"}), is_of_upgrade=of_upgrade)
    governor.stop(of_status(429, {"retry-after": "2"}))  # a shorter word does not shorten it
    loop.run_until_complete(budget.turn())
    assert loop.time() == pytest.approx(40.0 if waits else 0.0, abs=0.01)
    loop.close()


async def test_a_refused_upgrade_is_told_when_it_is_meant_for_the_address():
    told = []
    budget = ConnectBudget(on_refused=told.append)
    for status in (403, 418, 429, 451, 503):
        budget.refused(of_status(status, {}))
    assert [refusal.reason for refusal in told] == ["banned", "rate_limited"]
    await asyncio.wait_for(budget.turn(), 1)
