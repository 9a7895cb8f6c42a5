"""`mdfeed serve`: the daemon in the foreground.

Answers for the event loop, signals and exit code. What it serves is Service.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

import uvloop

from mdfeed.config import Config
from mdfeed.service import Service

log = logging.getLogger(__name__)


def run(config: Config, read: Callable[[], Config], takeover: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; 0 after an end in order.

    `read` loads the configuration again: SIGHUP takes over its symbols. `takeover` takes leases. Raises ConfigError,
    and MdfeedError for a taken port or another daemon's lease.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, read, takeover))
    return 0


async def _serve(config: Config, read: Callable[[], Config], takeover: bool) -> None:
    service = Service(config, takeover=takeover)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    reloads: set[asyncio.Task[None]] = set()  # a loop keeps no task alive by itself

    def reload() -> None:
        task = loop.create_task(service.reload(read))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    await service.run()
