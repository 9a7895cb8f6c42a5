"""Tasks that go on: a fault of ours in one is written down and counted, and the task is begun anew.

Answers for no bug in one part ending the daemon, nor ending that part for ever unnoticed. Refuses to know what a task
does. An MdfeedError is no bug but a decision (a lease that another holds): it passes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from mdfeed.errors import MdfeedError

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
STABLE_S = 60.0  # after which the next fault is the first again

faults: Counter[str] = Counter()  # by task, of this process


async def lasting(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Await `run()`, again and again if it raises, with growing pauses; returns when it returns.

    Raises MdfeedError as `run` does, out of exception groups too. What `run` has begun it must end itself.
    """
    loop = asyncio.get_running_loop()
    pause_s = FIRST_PAUSE_S
    while True:
        began_s = loop.time()
        try:
            return await run()
        except Exception as error:
            decision = decision_in(error)
            if decision is not None:
                raise decision from error
            if loop.time() - began_s > STABLE_S:
                pause_s = FIRST_PAUSE_S
            faults[name] += 1
            log.exception("%s: a fault of ours; begun anew in %.0f s", name, pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def decision_in(error: BaseException) -> MdfeedError | None:
    """The MdfeedError that `error` is, or that its group holds."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(decision_in, error.exceptions)), None)
    return error if isinstance(error, MdfeedError) else None
