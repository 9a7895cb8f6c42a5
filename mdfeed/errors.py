"""The error tree, and the exit code of each branch.

MdfeedError                          exit 1
├── UsageError                       exit 2    the command line contradicts itself
├── ConfigError                      exit 78   the operator's mistake (file:line:col, path, reason)
├── VenueError                       the remote's mistake
│   ├── DecodeError                  not what the venue documents (excerpt)
│   ├── SubscribeError               a stream was refused
│   └── SnapshotError                a snapshot could not be had
│       ├── RateLimited              429 or 418: wait retry_after seconds
│       └── GeoBlocked               451 or 403: permanent until the operator acts
├── SinkError                        the far side of a sink
└── CaptureError                     a capture is foreign or damaged (offset)
"""

from __future__ import annotations


class MdfeedError(Exception):
    """Base of every error that mdfeed raises on purpose."""

    exit_code = 1


class UsageError(MdfeedError):
    """The command line contradicts itself."""

    exit_code = 2


class ConfigError(MdfeedError):
    """A mistake in the configuration; the text starts with its place, `file:line:col: path: reason`."""

    exit_code = 78


class VenueError(MdfeedError):
    """The exchange did something that it does not document, or refused."""


class DecodeError(VenueError):
    """A frame is not what the venue documents. `excerpt` holds the first bytes of it."""

    def __init__(self, reason: str, excerpt: bytes = b"") -> None:
        super().__init__(f"{reason}: {excerpt[:80]!r}" if excerpt else reason)
        self.reason = reason
        self.excerpt = excerpt[:80]


class SubscribeError(VenueError):
    """The venue refused a subscription."""


class SnapshotError(VenueError):
    """A snapshot could not be had."""


class RateLimited(SnapshotError):
    """429 or 418. No request before `retry_after_s` seconds have passed; `is_ban` says 418."""

    def __init__(self, reason: str, retry_after_s: float, is_ban: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_ban = is_ban


class GeoBlocked(SnapshotError):
    """451 or 403: the venue does not serve this place. Waiting does not help."""


class SinkError(MdfeedError):
    """The far side of a sink failed."""


class CaptureError(MdfeedError):
    """A capture is foreign or damaged; `offset` is the byte where reading stopped."""

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason if offset is None else f"{reason} (at byte {offset})")
        self.offset = offset
