"""Frames to measure with: real BTCUSDT ones when the captures are there, else self-made ones of the same shape.

Refuses to know what is measured with them. The real ones are the 2024-07-18 and 2024-07-19 captures: 9,017 diffs of
which the mean has 44 levels, with their bookTickers and trades between them.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MDFEED_DATA") or ROOT.parent / "shared" / "data")
REAL = ("hft/usdm/btcusdt_20240718.gz", "hft/usdm/btcusdt_20240719.gz")


@dataclass(frozen=True)
class Frames:
    """One session: a REST snapshot, then frames as they came. Diffs that the snapshot makes stale are left out."""

    name: str
    symbol: str
    snapshot: bytes
    all: tuple[bytes, ...]

    @property
    def diffs(self) -> tuple[bytes, ...]:
        return tuple(frame for frame in self.all if b'"depthUpdate"' in frame)

    @property
    def levels(self) -> int:
        """Rows of both sides of all diffs."""
        datas = [json.loads(frame)["data"] for frame in self.diffs]
        return sum(len(data["b"]) + len(data["a"]) for data in datas)

    @property
    def last_id(self) -> int:
        return int(json.loads(self.diffs[-1])["data"]["u"])

    def head(self, n: int) -> Frames:
        return Frames(self.name, self.symbol, self.snapshot, self.all[:n])


def load_frames(n: int | None = None) -> Frames:
    """Real frames, or self-made ones where there are none; `n` of them at most."""
    if all((DATA / name).exists() for name in REAL):
        return load_real(n)
    return make_frames(n or 20_000)


def load_real(n: int | None = None) -> Frames:
    snapshot = b""
    last_id = 0
    frames: list[bytes] = []
    before: list[bytes] = []
    for name in REAL:
        with gzip.open(DATA / name) as file:
            for line in file:
                payload = line.split(b" ", 1)[1].rstrip()
                if payload.startswith(b'{"lastUpdateId"'):
                    snapshot = payload
                    last_id = json.loads(payload)["lastUpdateId"]
                    frames = [frame for frame in before if json.loads(frame)["data"].get("u", 0) > last_id]
                elif not snapshot:
                    before.append(payload)
                elif len(frames) > 100 or json.loads(payload)["data"].get("u", last_id + 1) > last_id:
                    frames.append(payload)
    return Frames("real BTCUSDT 2024-07-18/19", "BTCUSDT", snapshot, tuple(islice(frames, n)))


def make_frames(n: int, *, levels: int = 68, seed: int = 1) -> Frames:
    """A random walk of 0.1 ticks around 61,800 with 1,000 levels a side: `levels` rows a diff, a third of them
    deletes, a bookTicker after each diff and a trade after every fourth."""
    rng = random.Random(seed)
    mid = 618_000
    sides = ({mid - i: 1 + i % 5000 for i in range(1, 1001)}, {mid + i: 1 + i % 5000 for i in range(1, 1001)})
    last_id = 1_000_000
    ms = 1_721_347_200_000

    def rows(side: dict[int, int], prices: list[int]) -> str:
        return ",".join(f'["{p // 10}.{p % 10}","{side[p] / 1000:.3f}"]' for p in prices)

    best_first = [sorted(side, reverse=index == 0) for index, side in enumerate(sides)]
    snapshot = f'{{"lastUpdateId":{last_id},"E":{ms},"T":{ms},"bids":[{rows(sides[0], best_first[0])}],'
    snapshot += f'"asks":[{rows(sides[1], best_first[1])}]}}'
    frames: list[bytes] = []
    while len(frames) < n:
        ms += 50
        mid += rng.choice((-2, -1, 0, 0, 1, 2))
        texts = []
        for sign, side in zip((-1, 1), sides, strict=True):
            changed = {price: 0 for price in side if (price - mid) * sign <= 0}  # what the market has moved through
            changed[mid + sign] = rng.randint(1, 9000)
            while len(changed) < levels // 2:
                price = mid + sign * (1 + int(rng.expovariate(1 / 120)))
                changed.setdefault(
                    price, 0 if price in side and price != mid + sign and rng.random() < 0.4 else rng.randint(1, 9000)
                )
            side.update(changed)
            texts.append(rows(side, sorted(changed)))
            for price in [price for price, qty in changed.items() if not qty]:
                del side[price]
        prev_id, last_id = last_id, last_id + rng.randint(1, 400)
        frames.append(
            b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":%d,"T":%d,"s":"BTCUSDT","U":%d,"u":%d,"pu":%d,"b":[%s],"a":[%s]}}'
            % (ms, ms, prev_id + 1, last_id, prev_id, texts[0].encode(), texts[1].encode())
        )
        bid, ask = max(sides[0]), min(sides[1])
        frames.append(
            b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":%d,"s":"BTCUSDT","b":"%.1f","B":"%.3f","a":"%.1f","A":"%.3f","T":%d,"E":%d}}'
            % (last_id, bid / 10, sides[0][bid] / 1000, ask / 10, sides[1][ask] / 1000, ms, ms)
        )
        if rng.random() < 0.25:
            frames.append(
                b'{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"T":%d,"s":"BTCUSDT","t":%d,"p":"%.1f","q":"0.010","X":"MARKET","m":%s}}'
                % (ms, ms, last_id, ask / 10, rng.choice((b"true", b"false")))
            )
    return Frames(f"self-made, seed {seed}", "BTCUSDT", snapshot.encode(), tuple(frames[:n]))
