"""Request weight: 2,400 a minute and peer, then 429 with Retry-After, then 418 for who insists.

Answers for the counting alone; what a request costs, its caller knows.
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT_MAX = 2400
_INSISTS_MAX = 10  # refused requests within one minute before the ban
_BAN_S = 120  # the venue's shortest ban; twice as long each time after
_MINUTE_MS = 60_000


class Refused(Exception):
    """429 or 418, with the seconds to stay away."""

    def __init__(self, text: str, status: int, retry_after_s: int) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass
class _Pan:
    minute: int = 0
    used: int = 0
    insists: int = 0
    bans: int = 0
    banned_until_ms: int = 0


class Scales:
    """What each peer has used in the venue's running minute."""

    def __init__(self, weight_max: int = WEIGHT_MAX, ban_s: int = _BAN_S) -> None:
        self.weight_max = weight_max
        self._ban_s = ban_s
        self._pans: dict[str, _Pan] = {}

    def used(self, peer: str, now_ms: int) -> int:
        """Weight that `peer` has used in this minute."""
        return self._pan(peer, now_ms).used

    def admit(self, peer: str, now_ms: int) -> None:
        """Raise Refused when `peer` has used up its minute or is banned."""
        pan = self._pan(peer, now_ms)
        if now_ms < pan.banned_until_ms:
            raise _banned(peer, pan, now_ms)
        if pan.used < self.weight_max:
            return
        pan.insists += 1
        if pan.insists > _INSISTS_MAX:
            pan.banned_until_ms = now_ms + self._ban_s * 1000 * 2**pan.bans
            pan.bans += 1
            raise _banned(peer, pan, now_ms)
        raise Refused(
            f"Too many requests; current limit of IP({peer}) is {self.weight_max} requests per minute. "
            "Please use the websocket for live updates to avoid polling the API.",
            429,
            60 - now_ms % _MINUTE_MS // 1000,
        )

    def charge(self, peer: str, weight: int, now_ms: int) -> int:
        """Count `weight` and return what the minute has come to."""
        pan = self._pan(peer, now_ms)
        pan.used += weight
        return pan.used

    def _pan(self, peer: str, now_ms: int) -> _Pan:
        pan = self._pans.setdefault(peer, _Pan())
        minute = now_ms // _MINUTE_MS
        if pan.minute != minute:
            pan.minute, pan.used, pan.insists = minute, 0, 0
        return pan


def _banned(peer: str, pan: _Pan, now_ms: int) -> Refused:
    return Refused(
        f"Way too many requests; IP({peer}) banned until {pan.banned_until_ms}. "
        "Please use the websocket for live updates to avoid bans.",
        418,
        -(-(pan.banned_until_ms - now_ms) // 1000),
    )
