"""Why a far side said no, in one token and one clear line, and how long to wait before asking again.

Answers for telling refusals of WebSocket upgrades and REST requests apart, for Retry-After, and for the backoff.
Knows no transport, and decides nothing: the callers wait, count and log.
"""

from __future__ import annotations

import errno
import http.client
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from mdfeed.errors import VenueError

# Binance bans (418) last from 2 minutes to 3 days; a longer wait than that is a broken header.
LONGEST_RETRY_AFTER_S = 3 * 86400.0
RETRY_AFTER_UNSAID_S = {429: 60.0, 418: 120.0}
LEAST_RETRY_AFTER_S = 1.0  # of a 429 or 418: one that says 0 would be asked without a pause
# A 403, a 451 or a bad certificate is asked again after 2 s, and then after as long as it has lasted already: an outage
# of seconds ends in seconds, and a block that stays sees six attempts in its first minute and one a minute after.
LASTING_FIRST_S = 2.0
AT_ONCE_S = 0.25  # within which all who waited for the same time to be over go on


@dataclass(frozen=True, slots=True)
class Refusal:
    """`reason` is a short token (a metric's label); `text` one line for people.

    `retry_after_s` is what the venue imposed. `is_lasting`: waiting alone does not help, so ask rarely.
    """

    reason: str
    text: str
    retry_after_s: float | None = None
    is_lasting: bool = False


class Refused(VenueError):
    """An attempt that ended in a known refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def of_status(status: int, headers: Mapping[str, str], body: bytes = b"") -> Refusal:
    """What an HTTP status other than the hoped-for one means. Header names are lower case."""
    retry_after_s = retry_after(headers.get("retry-after"))
    said = excerpt(body)
    match status:
        case 429 | 418:
            wait_s = RETRY_AFTER_UNSAID_S[status] if retry_after_s is None else max(retry_after_s, LEAST_RETRY_AFTER_S)
            if status == 418:
                return Refusal("banned", f"banned by the venue (418), for {wait_s:.0f} s{said}", wait_s)
            return Refusal("rate_limited", f"rate limited by the venue (429), for {wait_s:.0f} s{said}", wait_s)
        case 451:
            text = f"the venue does not serve this place (451): use a host in another country{said}"
            return Refusal("geo_blocked", text, retry_after_s, is_lasting=True)
        case 403:
            text = f"refused by the venue's firewall (403): request limit broken, or this address is blocked{said}"
            return Refusal("forbidden", text, retry_after_s, is_lasting=True)
        case 404:
            return Refusal("not_found", f"no such path at the venue (404){said}", retry_after_s, is_lasting=True)
        case _ if status >= 500:
            return Refusal("server_error", f"the venue has trouble ({status}){said}", retry_after_s)
        case _:
            return Refusal("http", f"unexpected HTTP status {status}{said}", retry_after_s)


def of_exception(exc: BaseException) -> Refusal:
    """What an exception of connecting, TLS or reading means."""
    match exc:
        case Refused():
            return exc.refusal
        case TimeoutError():
            return Refusal("timeout", "no answer in time")
        case socket.gaierror():
            return Refusal("dns", f"the host's name does not resolve ({exc.strerror or exc})")
        case ssl.SSLCertVerificationError():
            return Refusal(
                "tls", f"the certificate is not trusted: {getattr(exc, 'verify_message', exc)}", is_lasting=True
            )
        case ssl.SSLError():
            return Refusal("tls", f"TLS failed: {getattr(exc, 'reason', None) or exc}")
        case ConnectionRefusedError():
            return Refusal("refused", "connection refused")
        case http.client.IncompleteRead():
            return Refusal("cut", f"the answer was cut off after {len(exc.partial)} bytes")
        case ConnectionError() | EOFError():
            return Refusal("reset", f"the connection broke: {exc or type(exc).__name__}")
        case OSError() if exc.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
            return Refusal("unreachable", f"no route to the host: {exc.strerror}")
        case OSError() if exc.errno is None and "refused" in str(exc).lower():
            return Refusal("refused", "connection refused")  # several addresses, asyncio joins their texts
        case http.client.HTTPException():
            return Refusal("handshake", f"the answer is no HTTP: {type(exc).__name__}")
    return Refusal("error", f"{type(exc).__name__}: {exc}")


def retry_after(text: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or an HTTP date), None when it says nothing usable."""
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return min(max(date.timestamp() - now(), 0.0), LONGEST_RETRY_AFTER_S)


def excerpt(body: bytes) -> str:
    """Up to 120 printable characters of a body, behind a colon; nothing when it is empty."""
    text = re.sub(r"<[^>]*>|\s+|[^\x20-\x7e]", " ", body[:2000].decode("ascii", "replace"))
    text = " ".join(text.split())[:120]
    return f": {text}" if text else ""


class Backoff:
    """Exponential waits with full jitter: the n-th failure waits a random time up to base times 2^n, at most cap.

    A refusal that waiting alone does not mend has waits of its own (LASTING_FIRST_S), at most cap. What the venue
    imposes is neither undercut nor drawn out.
    """

    def __init__(self, base_s: float, cap_s: float, jitter: Callable[[], float] = random.random) -> None:
        self._base_s = base_s
        self._cap_s = max(cap_s, base_s)
        self._jitter = jitter
        self._lasting = 0
        self.failures = 0

    def reset(self) -> None:
        self.failures = self._lasting = 0

    def wait_s(self, refusal: Refusal | None = None) -> float:
        """Seconds until the next attempt, one more failure counted."""
        ceiling_s = self._ceiling_s(self._base_s, self.failures)
        self.failures += 1
        if refusal is not None and refusal.retry_after_s:
            return refusal.retry_after_s + self._jitter() * min(ceiling_s, AT_ONCE_S)
        if refusal is not None and refusal.is_lasting:
            ceiling_s = self._ceiling_s(LASTING_FIRST_S, self._lasting)
            self._lasting += 1
            return ceiling_s * (0.5 + 0.5 * self._jitter())
        return self._jitter() * ceiling_s

    def _ceiling_s(self, base_s: float, failures: int) -> float:
        return min(self._cap_s, base_s * 2.0 ** min(failures, 40))


class Fold:
    """Lets the first trouble of a kind through, then one a minute with the number held back."""

    def __init__(self, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._reason = ""
        self._at_s = 0.0
        self._held = 0

    def let_through(self, reason: str) -> str | None:
        """What to add to the log line, mostly nothing; None: hold it back."""
        now = self._clock()
        if reason == self._reason and now - self._at_s < self._every_s:
            self._held += 1
            return None
        held = self._held if reason == self._reason else 0
        self._reason, self._at_s, self._held = reason, now, 0
        return f" ({held} more like it since the last report)" if held else ""
