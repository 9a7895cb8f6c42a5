"""Logging set-up: one handler on stderr, four formats, repeats folded, secrets masked.

Answers for: how a record becomes a line. Refuses to know: what is worth a record (state changes are; frames are not).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TextIO

from mdfeed.config import mask

FOLD_S = 10.0
# Different messages remembered by the fold; the oldest go first.
FOLD_KEYS = 1024
MEASURE = re.compile(r"\d+\.\d+|\d{4,}")
# syslog priorities as journald reads them from `<N>`.
PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def set_up_logging(
    level: str, format: str, stream: TextIO | None = None, environ: Mapping[str, str] | None = None
) -> None:
    """Make the root logger write to `stream` (stderr) as config keys log.level and log.format say."""
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    if format == "auto":
        format = "journal" if is_journal(stream, environ) else "text"
    handler = FoldedStream(stream)
    handler.setFormatter({"text": TextFormatter, "json": JsonFormatter, "journal": JournalFormatter}[format]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Two lines a request or connection, and nothing that our own records do not say.
    for quiet in ("asyncio", "websockets", "picows"):
        logging.getLogger(quiet).setLevel(max(logging.WARNING, root.level))


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether $JOURNAL_STREAM names this very stream (systemd.exec(5)): device and inode, both decimal."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def say_folded() -> None:
    """Say the repeats whose time is over; whoever runs for long calls it now and then."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, FoldedStream):
            handler.say_ended(time.time())


class FoldedStream(logging.StreamHandler[TextIO]):
    """Writes to a stream what the fold lets through, and what it has held back once that is over."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.fold = Fold()
        self.addFilter(self.fold)

    def emit(self, record: logging.LogRecord) -> None:
        self.say_ended(record.created)
        super().emit(record)

    def say_ended(self, now: float) -> None:
        with self.lock or nullcontext():
            for record in self.fold.ended(now):
                super().emit(record)

    def close(self) -> None:
        """Nothing is held back at the end of the process."""
        if not self.stream.closed:
            self.say_ended(float("inf"))
        super().close()


class Fold(logging.Filter):
    """Lets a message through once in FOLD_S seconds. How many were held back is said by the next one through, or, where
    none comes, by `ended`.

    Messages are the same when logger, level and text are, ids and measures (long or broken numbers) left aside: line 1
    is not line 2, but one gap is like the next. Time is the record's own.
    """

    def __init__(self) -> None:
        super().__init__()
        # Of each message: when it was last said, how many were held back since, and the last of them.
        self.seen: dict[tuple[str, int, str], tuple[float, int, str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        key = (record.name, record.levelno, MEASURE.sub("#", text))
        since, held, _ = self.seen.pop(key, (0.0, 0, ""))
        # A clock that steps back must not silence a message for as long as it stepped.
        if since and 0 <= record.created - since < FOLD_S:
            self.seen[key] = (since, held + 1, text)
            return False
        if held:
            record.msg, record.args = f"{text} (x{held + 1} in {record.created - since:.0f} s)", None
        self.seen[key] = (record.created, 0, text)
        if len(self.seen) > FOLD_KEYS:
            del self.seen[next(iter(self.seen))]
        return True

    def ended(self, now: float) -> Iterator[logging.LogRecord]:
        """One record for each message that was held back and whose FOLD_S are over. They begin anew for it."""
        for key, (since, held, text) in list(self.seen.items()):
            if held and now - since >= FOLD_S:
                name, level, _ = key
                said = text if held == 1 else f"{text} (x{held} in {min(now - since, FOLD_S):.0f} s)"
                self.seen[key] = (now, 0, text)
                yield logging.LogRecord(name, level, "", 0, said, None, None)


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z warning mdfeed.feed: text`; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{utc_text(record)} {record.levelname.lower()} {record.name}: {self.body(record)}"

    def body(self, record: logging.LogRecord) -> str:
        """Message and traceback, masked. Line ends in a message (from the far side, say) cannot forge a record."""
        text = mask(record.getMessage()).replace("\n", "\\n").replace("\r", "\\r")
        return f"{text}\n{mask(self.formatException(record.exc_info))}" if record.exc_info else text


class JsonFormatter(TextFormatter):
    """One JSON object a line: time, level, logger, message, and traceback when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": utc_text(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class JournalFormatter(TextFormatter):
    """`<N>logger: text`, each line with its priority; the journal has the time."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in f"{record.name}: {self.body(record)}".splitlines())


def utc_text(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
