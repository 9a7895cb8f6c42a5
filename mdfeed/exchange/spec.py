"""Faults as text: `close:code=1008,at=10s`, `drop:stream=*@depth*,share=0.01`, `rest:status=429,retry_after=3,for=5s`.

The words are the constructors' parameters without their units. Every fault takes at, for, every (durations: `3`, `3s`,
`250ms`, `2m`, `24h`), seed, and stream or path (shell patterns) where it has any use for them.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from mdfeed.errors import UsageError
from mdfeed.exchange import cutting, garbling, refusing, upsets
from mdfeed.exchange.script import Fault

FAULTS: dict[str, Callable[..., Fault]] = {
    "drop": garbling.Drop,
    "silence": garbling.Silence,
    "duplicate": garbling.Duplicate,
    "reorder": garbling.Reorder,
    "delay": garbling.Delay,
    "batch": garbling.Batch,
    "cut": garbling.Cut,
    "garbage": garbling.Garbage,
    "strange": garbling.Strange,
    "meaning": garbling.Meaning,
    "skew": garbling.Skew,
    "close": cutting.Close,
    "day": partial(cutting.Close, code=1001, reason="24 hours"),
    "reset": cutting.Reset,
    "shutdown": cutting.Shutdown,
    "halfopen": cutting.HalfOpen,
    "deaf": cutting.Deaf,
    "nopong": cutting.NoPong,
    "noping": cutting.NoPing,
    "dribble": cutting.Dribble,
    "tls": cutting.Tls,
    "rest": refusing.Refuse,
    "upgrade": partial(refusing.Refuse, upgrades=True),
    "slow": refusing.Slow,
    "stale": refusing.Stale,
    "restart": upsets.Restart,
    "finer": upsets.Finer,
    "delist": upsets.Delist,
    "halt": upsets.Halt,
    "far": upsets.Far,
}
EXAMPLE = "rest:status=429,retry_after=3,at=10s,for=5s"
_HIDDEN = frozenset({"self", "window", "upgrades"})
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def parse(text: str) -> Fault:
    """The fault that `text` describes. Raises UsageError with the place of the mistake."""
    name, colon, rest = text.partition(":")
    make = FAULTS.get(name)
    if make is None:
        raise _wrong(text, 0, f"no fault {name!r}", name, FAULTS)
    words = parameters(name)
    given: dict[str, Any] = {}
    at = len(name) + len(colon)
    for part in rest.split(",") if colon else ():
        word, equals, value = part.partition("=")
        if word not in words:
            raise _wrong(text, at, f"{name} has no {word!r}", word, words)
        if not equals or not value:
            raise _wrong(text, at, f"{word} needs a value, {word}=...")
        parameter, read = words[word]
        if parameter in given:
            raise _wrong(text, at, f"{word} is given twice")
        try:
            given[parameter] = read(value)
        except ValueError as error:
            raise _wrong(text, at + len(word) + 1, f"{word}: {error}") from None
        at += len(part) + 1
    if name == "delist" and "symbol" not in given:
        raise _wrong(text, len(text), "delist needs symbol=...")
    try:
        return make(**given)
    except ValueError as error:
        raise _wrong(text, len(name) + 1, str(error)) from None


def listed() -> str:
    """Every fault with its words, a line each."""
    window = parameters_of(Fault)
    lines = [
        f"{name:10} {' '.join(word for word in parameters(name) if word not in window)}".rstrip() for name in FAULTS
    ]
    return "\n".join([*lines, "", f"and of each: {' '.join(window)}", f"for example: --fault {EXAMPLE}"])


def parameters(name: str) -> dict[str, tuple[str, Callable[[str], Any]]]:
    """{word: (parameter, reader)} of a fault."""
    make = FAULTS[name]
    kind = make.func if isinstance(make, partial) else make
    assert isinstance(kind, type)
    return parameters_of(kind)


def parameters_of(kind: type) -> dict[str, tuple[str, Callable[[str], Any]]]:
    found: dict[str, tuple[str, Callable[[str], Any]]] = {}
    for owner in reversed(kind.__mro__):
        if not issubclass(owner, Fault):
            continue
        for parameter, about in inspect.signature(owner.__init__).parameters.items():
            if parameter not in _HIDDEN:
                found[parameter.removesuffix("_s") if parameter != "bytes_per_s" else "rate"] = (
                    parameter,
                    _reader(parameter, str(about.annotation)),
                )
    return found


def _reader(parameter: str, annotation: str) -> Callable[[str], Any]:
    if parameter.endswith("_s") and parameter != "bytes_per_s":
        return _duration
    if parameter == "share":
        return _share
    if annotation.startswith("int"):
        return _whole
    if annotation.startswith("float"):
        return _number
    return _switch if annotation == "bool" else str


def _duration(text: str) -> float:
    found = re.fullmatch(r"(-?\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration such as 3s or 250ms")
    return float(found[1]) * _SECONDS[found[2]]


def _share(text: str) -> float:
    share = _number(text)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{text} is not between 0 and 1")
    return share


def _number(text: str) -> float:
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text) is None:
        raise ValueError(f"{text!r} is no number")
    return float(text)


def _whole(text: str) -> int:
    if re.fullmatch(r"\d{1,12}", text) is None:
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _switch(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text == "yes"


def _wrong(text: str, at: int, what: str, word: str = "", known: Any = ()) -> UsageError:
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}" if known else ""
    return UsageError(f"--fault {text}: column {at + 1}: {what}{hint}")
