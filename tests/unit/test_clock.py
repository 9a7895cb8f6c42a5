"""The clock that never steps back, and its distance from the venue's."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from mdfeed.clock import ClockOffset

MS = 1_000_000
S = 1_000_000_000


def simulated(true_offset_ns, *, asks, frames=200, seed=1, least_delay_ms=3.0):
    """Frames and time requests of a venue whose clock is `true_offset_ns` behind ours."""
    rng, offset = random.Random(seed), ClockOffset()
    now_ns = 1_700_000_000 * S
    for number in range(frames):
        now_ns += 100 * MS
        delay_ns = int((least_delay_ms + rng.expovariate(1 / 20)) * MS)
        event_ns = (now_ns - true_offset_ns - delay_ns) // MS * MS
        offset.heard(number / 10, now_ns - event_ns)
        if number < asks:
            there_ns, back_ns = (int((2 + rng.expovariate(1 / 30)) * MS) for _ in range(2))
            venue_ns = (now_ns - true_offset_ns) // MS * MS
            offset.asked(now_ns - there_ns, venue_ns, now_ns + back_ns)
    return offset


@pytest.mark.parametrize("true_ms", [-1270, -3, 0, 5, 900_000])
@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_is_within_milliseconds(true_ms, seed):
    offset = simulated(true_ms * MS, asks=10, seed=seed)
    assert abs(offset.ahead_ns - true_ms * MS) < 8 * MS


def test_without_rest_only_impossible_delays_are_corrected():
    assert ClockOffset().ahead_ns == 0
    assert simulated(0, asks=0).ahead_ns == 0
    behind = simulated(-1270 * MS, asks=0)
    assert -1270 * MS <= behind.ahead_ns <= -1266 * MS


def test_event_times_win_over_a_rest_host_with_another_clock():
    offset = ClockOffset()
    offset.asked(10 * S, 9 * S, 10 * S + 20 * MS)
    assert offset.ahead_ns == pytest.approx(1 * S, abs=15 * MS)
    offset.heard(1.0, -40 * MS)
    assert offset.ahead_ns == -40 * MS


def test_a_clock_that_was_set_is_believed_at_once():
    offset = ClockOffset()
    for number in range(5):
        offset.asked(number * S, number * S, number * S + 10 * MS)
    offset.asked(9 * S, 5 * S, 9 * S + 10 * MS)
    assert abs(offset.ahead_ns - 4 * S) < 10 * MS


def test_old_minima_are_forgotten_and_shifts_are_followed():
    offset = ClockOffset()
    offset.heard(0.0, -500 * MS)
    offset.shift(100 * MS)
    assert offset.ahead_ns == -400 * MS
    offset.heard(59.0, -10 * MS)
    assert offset.ahead_ns == -400 * MS
    offset.heard(61.0, -10 * MS)
    assert offset.ahead_ns == -10 * MS


STEPS = """
import time
from mdfeed import _clock
def run(steps, wall_ahead_ns):
    '''Steps of 5 ms beside a wall clock that was set.'''
    last = _clock.now_ns()
    for _ in range(steps):
        time.sleep(0.005)
        _clock.follow(time.time_ns() + wall_ahead_ns)
        now = _clock.now_ns()
        assert now >= last, "it stepped back"
        assert now - last < 10**9, "it leapt"
        last = now
    return _clock.now_ns() - time.time_ns()
S = 10**9
assert abs(run(5, 0)) < 10**6
before = run(20, -3000 * S)     # 100 ms at 10 %
assert -30 * 10**6 < before < -3 * 10**6, before
ahead = run(40, 20 * S)
assert before < ahead < 40 * 10**6, ahead
assert 1 <= _clock.follow(time.time_ns() + 5000 * S) / S
assert abs(_clock.now_ns() - time.time_ns() - 5000 * S) < 10**7, "no clock at the start: taken over"
"""


def test_a_wall_clock_that_is_set_is_followed_without_a_step():
    # In a process of its own: there is one clock for each.
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
