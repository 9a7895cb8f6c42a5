"""Where publications leave: the base class of sinks, and the registry by URL scheme.

Answers for: what the feed's wiring asks of any sink, and which module serves a scheme. Refuses to know: payloads, and
any far side. A sink is a module in this folder with a `Sink` subclass named in its `SINK` and the schemes it serves in
`SCHEMES`: adding one edits nothing here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, NamedTuple

from mdfeed._encode import Outbox
from mdfeed.errors import ConfigError

OUTAGES_KEPT = 16


class Outage(NamedTuple):
    """What is over: a far side was away ("connected": it is there now), or refused what it was sent ("refused")."""

    kind: str
    for_s: float  # 0 at the first connection
    reason: str
    dropped: int  # publications meanwhile


class Sink(ABC):
    """The far side of an outbox.

    The heart fills `outbox` in C; flush() at the end of each socket read sends what it holds. `on_ready`, set by the
    wiring, is called each time the far side is (again) ready: everything is to be published afresh then. on_again asks
    for the same of a far side that was there all the time and has refused some of it. `outages` that are over wait
    there, oldest first, until the wiring takes them.
    """

    name: str
    outbox: Outbox
    on_ready: Callable[[], None] | None = None
    on_again: Callable[[], None] | None = None
    is_connected: bool = True

    @property
    def trouble(self) -> str:
        """What a far side that is connected refuses; empty when it takes everything."""
        return ""

    @cached_property
    def outages(self) -> deque[Outage]:
        return deque(maxlen=OUTAGES_KEPT)

    @abstractmethod
    async def run(self) -> None:
        """Connect, reconnect, read replies, until cancelled. Never raises for a fault of the far side."""

    @abstractmethod
    def flush(self) -> None:
        """Send all that the outbox holds, in one write. Never blocks, never raises."""

    async def close(self, timeout_s: float) -> None:
        """Send what is left, wait at most `timeout_s` for it to have arrived, and close."""
        self.flush()

    def counters(self) -> dict[str, Any]:
        """published{kind}, dropped{reason}, buffer_bytes, errors{code}, reconnects, last_error (or None)."""
        return {
            "published": getattr(self.outbox, "published", {}),
            "dropped": getattr(self.outbox, "dropped", {}),
            "buffer_bytes": 0,
            "errors": {},
            "reconnects": 0,
            "last_error": None,
        }

    def say_again(self) -> None:
        if self.on_again is not None:
            self.on_again()
        else:
            self.say_ready()

    def say_ready(self) -> None:
        if self.on_ready is not None:
            self.on_ready()


def open(url: str, instruments: object, **options: Any) -> Sink:
    """The sink of a URL (redis, rediss, unix, memory, stdout, null). Nothing connects before run().

    `options` are the sink's own keywords. Raises ConfigError for an unknown scheme or a URL that says nothing.
    """
    scheme = url.partition(":")[0].lower()
    sink: Sink = _module_of(scheme).SINK(url, instruments, **options)
    return sink


def _module_of(scheme: str) -> ModuleType:
    names = [module.name for module in iter_modules(__path__)]
    known: dict[str, str] = {}
    # The module of the same name first, so that the usual case imports one module only.
    for name in sorted(names, key=lambda name: name != scheme):
        module = import_module(f"{__name__}.{name}")
        if scheme in module.SCHEMES:
            return module
        known.update(dict.fromkeys(module.SCHEMES, name))
    near = get_close_matches(scheme, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no sink serves URLs of {scheme!r}{hint} (there are {', '.join(sorted(known))})")
