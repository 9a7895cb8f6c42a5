"""mdfeed.gate: every credential is compared in whole, and no secret is kept."""

from __future__ import annotations

import hmac

import pytest

from mdfeed.gate import TICKET_S, Gate
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


def test_a_ticket_opens_until_it_expires_and_at_its_own_gate_alone() -> None:
    ticket = GATE.ticket(1_000_000.0).encode()
    assert GATE.honours(ticket, 1_000_000.0)
    assert GATE.honours(ticket, 1_000_000.0 + TICKET_S - 1)
    assert not GATE.honours(ticket, 1_000_000.0 + TICKET_S)
    assert not Gate(Auth(token=TOKEN, user="ops", password="hunter2")).honours(ticket, 1_000_000.0)
    assert not GATE.lets_in("/ws", b"ticket " + ticket)


def test_a_ticket_cannot_be_made_or_made_longer() -> None:
    expiry, _, proof = GATE.ticket(1_000_000.0).partition(".")
    for text in (
        f"{int(expiry, 16) + 1:x}.{proof}",
        f"{expiry}.{proof[:-1]}",
        f"{expiry}.{proof}0",
        f"{expiry}.",
        f".{proof}",
        "zz.",
        "",
        f"{expiry}.{'0' * 128}",
        f"{expiry}.\xff",
    ):
        assert not GATE.honours(text.encode("latin-1"), 1_000_000.0), text
    assert not GATE.honours(None, 0.0)
