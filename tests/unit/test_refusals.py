"""Refusals: tokens, texts, Retry-After, backoff, folding of repeats."""

from __future__ import annotations

import errno
import socket
import ssl
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfeed.refusals import (
    LONGEST_RETRY_AFTER_S,
    Backoff,
    Fold,
    Refusal,
    excerpt,
    of_exception,
    of_status,
    retry_after,
)


@pytest.mark.parametrize(
    ("exc", "reason"),
    [
        (TimeoutError(), "timeout"),
        (OSError(errno.ETIMEDOUT, "timed out"), "timeout"),
        (socket.gaierror(-2, "Name or service not known"), "dns"),
        (ssl.SSLError(1, "wrong version number"), "tls"),
        (ssl.SSLCertVerificationError(1, "self-signed"), "tls"),
        (ConnectionRefusedError(), "refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, Connection refused"), "refused"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "unreachable"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable"),
        (ValueError("ours"), "error"),
    ],
)
def test_exceptions(exc, reason):
    refusal = of_exception(exc)
    assert refusal.reason == reason
    assert refusal.text
    assert "\n" not in refusal.text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        (" 0.5 ", 0.5),
        ("-3", None),
        ("1e9", None),
        ("inf", None),
        ("999999999999", LONGEST_RETRY_AFTER_S),
        (formatdate(1_000_030, usegmt=True), 30.0),
        (formatdate(999_000, usegmt=True), 0.0),
    ],
)
def test_retry_after(text, seconds):
    assert retry_after(text, now=lambda: 1_000_000.0) == seconds


@given(st.text())
def test_retry_after_takes_anything(text):
    seconds = retry_after(text)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_S


@given(st.binary(max_size=4000))
def test_an_excerpt_is_one_short_line(body):
    text = excerpt(body)
    assert len(text) <= 122
    assert text.isprintable()


def test_backoff_grows_to_the_cap_and_never_undercuts_the_venue():
    backoff = Backoff(1.0, 60.0, jitter=lambda: 1.0)
    assert [backoff.wait_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.wait_s() == 1
    assert backoff.wait_s(Refusal("rate_limited", "", retry_after_s=100.0)) == 100.25
    for _ in range(2000):
        backoff.wait_s()
    assert backoff.wait_s() == 60


@pytest.mark.parametrize("failures", [0, 20])
def test_a_wait_that_the_venue_imposes_is_not_drawn_out_by_what_failed_before(failures):
    backoff = Backoff(1.0, 60.0, jitter=lambda: 1.0)
    for _ in range(failures):
        backoff.wait_s()
    refusal = of_status(451, {"retry-after": "4"})
    assert backoff.wait_s(refusal) == 4.25
    assert backoff.wait_s(of_status(429, {"retry-after": "0"})) == 1.25, "but never asked without a pause"


def test_a_refusal_that_may_last_is_asked_again_after_as_long_as_it_has_lasted():
    backoff = Backoff(1.0, 60.0, jitter=lambda: 0.0)
    for _ in range(9):
        backoff.wait_s()  # other troubles before do not count
    waits = [backoff.wait_s(of_status(403, {})) for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    for n in range(1, 5):
        assert waits[n] <= sum(waits[:n]) + 1
    backoff.reset()
    assert backoff.wait_s(of_status(451, {})) == 1
    assert Backoff(0.001, 0.02, jitter=lambda: 1.0).wait_s(of_status(451, {})) == 0.02


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_full_jitter_stays_within(draws):
    values = iter(draws)
    backoff = Backoff(0.5, 20.0, jitter=lambda: next(values))
    for n in range(len(draws)):
        assert 0 <= backoff.wait_s() <= min(20.0, 0.5 * 2**n)


def test_repeats_are_folded_and_counted():
    now = [0.0]
    fold = Fold(60.0, clock=lambda: now[0])
    assert fold.let_through("refused") == ""
    assert [fold.let_through("refused") for _ in range(3)] == [None] * 3
    assert fold.let_through("dns") == "", "another kind is news"
    assert fold.let_through("refused") == ""
    now[0] = 59.0
    assert fold.let_through("refused") is None
    now[0] = 61.0
    assert fold.let_through("refused") == " (1 more like it since the last report)"
