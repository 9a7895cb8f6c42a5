"""What an examination says: one finding a line, of three levels."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """`check` is what was looked at; `level` one of the three above; `text` one line for people."""

    check: str
    level: str
    text: str
