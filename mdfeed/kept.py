"""What is kept over a restart: in which folder, a venue's request weight and ban, and the symbols that it has listed.

Answers for a file that is whole or the one before, for two daemons that share it (they share the address as well), and
for never handing one venue's word to another: the file is named by the venue's host and port. Knows no request.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from mdfeed.config import Config
from mdfeed.refusals import LONGEST_RETRY_AFTER_S
from mdfeed.settings import NO_FOLDER

log = logging.getLogger(__name__)

LOCK_TRIES, LOCK_S = 20, 0.001  # another daemon holds it for one small write


def state_folder(configured: str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where state is kept: as configured, else systemd's $STATE_DIRECTORY, else the user's own; None: nowhere."""
    if configured is not None:
        return None if configured.lower() == NO_FOLDER else Path(configured)
    if of_systemd := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(of_systemd)
    of_user = environ.get("XDG_STATE_HOME", "")
    try:
        # A relative one is to be ignored, says the XDG specification.
        return (Path(of_user) if os.path.isabs(of_user) else Path.home() / ".local/state") / "mdfeed"
    except RuntimeError:  # a user without a home
        return None


def open_folder(config: Config) -> Path | None:
    """The folder, made if need be. ConfigError for a configured one that cannot be; a default one is done without."""
    folder = state_folder(config.state_dir)
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if config.state_dir is not None:
            raise config.error("state_dir", f"{folder}: {error.strerror}") from error
        log.warning("nothing is kept over a restart, and no forensic file: %s: %s", folder, error.strerror)
        return None
    return folder


def file_of(folder: Path, rest_url: str, kind: str = "weight") -> Path:
    """The file of one venue's host and port."""
    parts = urlsplit(rest_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return folder / f"{kind}-{re.sub(r'[^a-z0-9.-]', '_', (parts.hostname or '').lower())}-{port}.json"


class Kept(NamedTuple):
    """`minute` is the venue's, `used` its weight; `blocked_until` UTC ns, 0 for none, and why."""

    minute: int
    used: int
    blocked_until: int = 0
    reason: str = ""
    text: str = ""


class WeightFile:
    """One address's weight and ban. `save` never undoes a longer ban that another daemon has met meanwhile."""

    def __init__(self, path: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self._now_ns = now_ns
        self._is_failing = False

    def load(self) -> Kept | None:
        """What is kept, a ban that is over left out; None when nothing is, or nothing that can be read."""
        try:
            kept = self._read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is not a state of the request weight, ignored: %r", self.path, error)
            return None
        return kept

    def save(self, ours: Kept) -> Kept | None:
        """Keep `ours`; what is kept now, which may hold another daemon's longer ban. None when it could not be."""
        try:
            with _locked(self.path.parent):
                try:
                    merged = _merged(ours, self._read())
                except (FileNotFoundError, ValueError, KeyError, TypeError):
                    merged = ours
                _replace(self.path, merged._asdict())
        except OSError as error:
            if not self._is_failing:
                log.warning("the request weight is not kept over a restart, until it can be: %s", error)
            self._is_failing = True
            return None
        if self._is_failing:
            log.info("the request weight is kept again")
        self._is_failing = False
        return merged

    def _read(self) -> Kept:
        said = json.loads(self.path.read_bytes())
        minute, used, until = int(said["minute"]), int(said["used"]), int(said["blocked_until"])
        if min(minute, used, until) < 0:
            raise ValueError("negative")
        left_s = (until - self._now_ns()) / 1e9
        if not 0 < left_s <= LONGEST_RETRY_AFTER_S:
            return Kept(minute, used)
        return Kept(minute, used, until, str(said["reason"]), str(said["text"]))


class ListedFile:
    """Symbols that a venue has listed while they were followed: one that it lists no more is told from a typo."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.symbols = self._read()

    def _read(self) -> set[str]:
        try:
            said = json.loads(self._path.read_bytes()) if self._path is not None else []
            return {symbol for symbol in said if isinstance(symbol, str)}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s is no list of symbols, ignored: %r", self._path, error)
            return set()

    def add(self, symbols: set[str]) -> None:
        """Remember these too. A disk that refuses is logged, nothing more."""
        if symbols <= self.symbols:
            return
        self.symbols |= symbols
        if self._path is None:
            return
        try:
            with _locked(self._path.parent):
                self.symbols |= self._read()
                _replace(self._path, sorted(self.symbols))
        except OSError as error:
            log.warning("the symbols that the venue lists are not kept: %s", error)


def _replace(path: Path, value: object) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(value))
    aside.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The folder itself is locked, so that no further file lies in it. Ends with the process at the latest.
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for tries_left in reversed(range(LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not tries_left:
                    raise
                time.sleep(LOCK_S)
        yield
    finally:
        os.close(descriptor)


def _merged(ours: Kept, theirs: Kept) -> Kept:
    minute, used = ours.minute, ours.used
    if theirs.minute == minute:
        used = max(used, theirs.used)  # the venue counts the address: the highest is the newest
    ban = theirs if theirs.blocked_until > ours.blocked_until else ours
    return Kept(minute, used, ban.blocked_until, ban.reason, ban.text)
