"""What the service manager is told: readiness, status line, watchdog beats, reload and stop (sd_notify(3)).

Speaks the datagram protocol of `$NOTIFY_SOCKET` and reads `$WATCHDOG_USEC`. Refuses to know when the daemon is ready
or healthy: the verb decides that, and without a service manager every call is a no-op.
"""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send `state`, one or more `NAME=value` lines such as "READY=1\\nSTATUS=4 books live", to the service manager.

    Never blocks and never raises: a service manager that is away or slow must not stop the feed.

    Returns:
        False when there is no service manager or it could not be reached.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        try:
            manager.connect("\0" + address[1:] if address[0] == "@" else address)
            manager.send(state.encode())
        except OSError:
            return False
    return True


def watchdog_interval_s() -> float | None:
    """Seconds between two `WATCHDOG=1` beats, a third of the unit's WatchdogSec; None when no watchdog watches us."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    watched_pid = os.environ.get("WATCHDOG_PID") or str(os.getpid())
    if not limit_us.isdecimal() or int(limit_us) == 0 or watched_pid != str(os.getpid()):
        return None
    return int(limit_us) / 3e6
