"""mdfeed.gate: every credential is compared in whole, and no secret is kept."""

from __future__ import annotations

import hmac

import pytest

from mdfeed.gate import Gate
from mdfeed.settings import Auth

TOKEN = "sesame-sesame-12"
GATE = Gate(Auth(token=TOKEN, user="ops", password="hunter2"))


@pytest.mark.parametrize("given", [None, b"", f"Bearer {TOKEN}".encode(), b"Bearer s", b"Basic !", b"x" * 8000])
def test_all_known_digests_are_compared_with_equal_lengths(
    given: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[tuple[int, int]] = []
    true_compare = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return true_compare(one, other)

    monkeypatch.setattr("mdfeed.gate.hmac.compare_digest", compare)
    GATE.lets_in("/ready", given)
    assert lengths == [(64, 64), (64, 64)]


def test_no_secret_is_kept() -> None:
    kept = repr(vars(GATE))
    assert TOKEN not in kept
    assert "hunter2" not in kept


def test_a_password_is_no_token_and_a_token_no_password() -> None:
    gate = Gate(Auth(user="ops", password=TOKEN))
    assert not gate.lets_in("/", f"Bearer ops:{TOKEN}".encode())
    assert not gate.lets_in("/", f"Bearer {TOKEN}".encode())
    assert not Gate(Auth(token=TOKEN)).lets_in("/", b"Basic c2VzYW1lLXNlc2FtZS0xMg==")
