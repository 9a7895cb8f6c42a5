"""What led to a wrong book, on disk: the symbol's last frames and the difference, in a file that `replay` reads.

Answers for the number and the size of the files, and for a whole file or none. Knows no venue and judges nothing: what
it writes, the heart has testified.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from mdfeed._feed import Feed
from mdfeed._recall import Evidence

log = logging.getLogger(__name__)

FILES_MOST = 20
POLL_S = 0.5
NAMES = ("bid_price", "bid_qty", "ask_price", "ask_qty")


class Forensics:
    """Writes each testimony of `feed` to a file in `folder`, which is made; the newest `most` files are kept.

    `written` counts files, `failed` those that could not be written.
    """

    def __init__(self, feed: Feed, folder: Path, *, most: int = FILES_MOST) -> None:
        self.written = 0
        self.failed = 0
        self._feed = feed
        self._folder = folder
        self._most = most

    async def run(self) -> None:
        """Serves until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.write_all()

    async def write_all(self) -> None:
        """Write what has been testified so far. A disk that refuses is logged, nothing more."""
        while self._feed.testimonies:
            testimony = self._feed.testimonies.popleft()
            try:
                path = await asyncio.to_thread(self._write, testimony)
            except OSError as error:
                self.failed += 1
                log.warning("forensics of %s: %s", testimony.symbol, error)
                continue
            self.written += 1
            log.warning("%s contradicted at id %d: %s", testimony.symbol, testimony.mismatch[0], path)

    def _write(self, testimony: Evidence) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        when = datetime.fromtimestamp(testimony.at_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%S.%f")
        symbol = re.sub(r"[^A-Za-z0-9_]", "_", testimony.symbol)
        path = self._folder / f"{when}Z_{symbol}.gz"
        aside = self._folder / ".new.gz"
        with gzip.open(aside, "wb", compresslevel=6) as file:
            for recv_ns, frame in testimony.frames:
                file.write(b"%d %s\n" % (recv_ns, frame.replace(b"\n", b" ")))
            file.write(b"%d %s\n" % (testimony.at_ns, finding_of(testimony)))
        aside.replace(path)
        for old in sorted(self._folder.glob("*Z_*.gz"))[: -self._most]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
        return path


def finding_of(testimony: Evidence) -> bytes:
    """The difference as one JSON object, of an event type that no feed reads."""
    update_id, ours, theirs = testimony.mismatch
    price_digits, qty_digits = testimony.digits
    digits = (price_digits, qty_digits, price_digits, qty_digits)

    def top(values: tuple[int, int, int, int]) -> dict[str, str]:
        pairs = zip(NAMES, values, digits, strict=True)
        return {name: format(Decimal(value).scaleb(-places), "f") for name, value, places in pairs}

    last_id, bids, asks = testimony.book
    return json.dumps(
        {
            "e": "mdfeedFinding",
            "s": testimony.symbol,
            "update_id": update_id,
            "book": top(ours),
            "bookTicker": top(theirs),
            "last_update_id": last_id,
            "bids": [[format(price, "f"), format(qty, "f")] for price, qty in bids],
            "asks": [[format(price, "f"), format(qty, "f")] for price, qty in asks],
        }
    ).encode()
