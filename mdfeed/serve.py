"""`mdfeed serve`: the daemon in the foreground.

Answers for the event loop, signals, the limit of descriptors, the garbage collector and exit code. What it serves is
Service.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import Callable

import uvloop

from mdfeed.config import Config
from mdfeed.service import Service

log = logging.getLogger(__name__)

DESCRIPTORS = 8192  # as the unit's LimitNOFILE; half of them may be HTTP clients


def run(config: Config, read: Callable[[], Config], takeover: bool = False) -> int:
    """Serve until SIGTERM (then 0) or SIGINT (130), and end in order.

    `read` loads the configuration again: SIGHUP takes over its symbols. `takeover` takes leases. Raises ConfigError,
    and MdfeedError for a taken port or another daemon's lease.
    """
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, read, takeover))


def raise_descriptor_limit() -> None:
    """The soft limit becomes DESCRIPTORS, or what the hard one allows; a higher one stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # A kernel may refuse what its hard limit promises; then the lower limit bounds the HTTP side as well.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def exempt_from_collection() -> None:
    """What stands by now stays: a full collection need not go through it, which took tens of ms of the loop's time."""
    gc.collect()
    gc.freeze()


async def _serve(config: Config, read: Callable[[], Config], takeover: bool) -> int:
    service = Service(config, takeover=takeover)
    exempt_from_collection()
    loop = asyncio.get_running_loop()
    code = 0

    def interrupt() -> None:
        nonlocal code
        code = 128 + signal.SIGINT
        service.stop()

    loop.add_signal_handler(signal.SIGTERM, service.stop)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    reloads: set[asyncio.Task[None]] = set()  # a loop keeps no task alive by itself

    def reload() -> None:
        task = loop.create_task(service.reload(read))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    await service.run()
    return code
