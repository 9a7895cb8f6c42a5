"""Self-made USD-M sessions: a snapshot, diffs, bookTickers and trades of one truth, stamped like a recorder does."""

from __future__ import annotations

import random
from pathlib import Path

START_NS = 1_700_000_000_000_000_000
STEP_NS = 20_000_000

Row = tuple[int, bytes]


def make_session(n: int = 400, *, symbols: tuple[str, ...] = ("BTCUSDT",), seed: int = 1) -> list[Row]:
    """`n` rounds of 20 ms, each a diff and a bookTicker of every symbol and now and then a trade; one snapshot after
    ten rounds, which makes the diffs before it stale. Chains are whole, tops agree."""
    rng = random.Random(seed)
    rows: list[Row] = []
    books = {
        symbol: ({1000 - i: 5 + i for i in range(1, 40)}, {1000 + i: 5 + i for i in range(1, 40)}) for symbol in symbols
    }
    last_ids = {symbol: 1000 * (1 + i) for i, symbol in enumerate(symbols)}
    for step in range(n):
        now_ns = START_NS + step * STEP_NS + 17
        for symbol, (bids, asks) in books.items():
            stream = symbol.lower().encode()
            texts = []
            for side, sign in ((bids, -1), (asks, 1)):
                changed = {1000 + sign * rng.randint(1, 60): rng.choice((0, rng.randint(1, 900))) for _ in range(3)}
                changed[1000 + sign] = rng.randint(1, 900)  # the touch stands
                side.update(changed)
                texts.append(
                    b",".join(
                        b'["%d.%d","%d.%03d"]' % (p // 10, p % 10, q // 1000, q % 1000) for p, q in changed.items()
                    )
                )
                for price in [price for price, qty in side.items() if not qty]:
                    del side[price]
            prev_id = last_ids[symbol]
            last_ids[symbol] = last_id = prev_id + rng.randint(1, 9) * len(symbols)
            rows.append(
                (
                    now_ns,
                    b'{"stream":"%s@depth","data":{"e":"depthUpdate","E":%d,"T":%d,"s":"%s","U":%d,"u":%d,"pu":%d,"b":[%s],"a":[%s]}}'
                    % (
                        stream,
                        now_ns // 10**6,
                        now_ns // 10**6,
                        symbol.encode(),
                        prev_id + 1,
                        last_id,
                        prev_id,
                        *texts,
                    ),
                )
            )
            bid, ask = max(bids), min(asks)
            rows.append(
                (
                    now_ns + 1000,
                    b'{"stream":"%s@bookTicker","data":{"e":"bookTicker","u":%d,"s":"%s","b":"%d.%d","B":"0.%03d","a":"%d.%d","A":"0.%03d","T":1,"E":1}}'
                    % (
                        stream,
                        last_id,
                        symbol.encode(),
                        bid // 10,
                        bid % 10,
                        bids[bid],
                        ask // 10,
                        ask % 10,
                        asks[ask],
                    ),
                )
            )
            if rng.random() < 0.3:
                rows.append(
                    (
                        now_ns + 2000,
                        b'{"stream":"%s@trade","data":{"e":"trade","E":1,"T":%d,"s":"%s","t":%d,"p":"%d.%d","q":"0.%03d","X":"MARKET","m":true}}'
                        % (
                            stream,
                            now_ns // 10**6,
                            symbol.encode(),
                            step + 1,
                            ask // 10,
                            ask % 10,
                            rng.randint(1, 900),
                        ),
                    )
                )
            if step == 10:
                sides = [
                    b",".join(
                        b'["%d.%d","0.%03d"]' % (p // 10, p % 10, side[p]) for p in sorted(side, reverse=side is bids)
                    )
                    for side in (bids, asks)
                ]
                name = b',"symbol":"%s"' % symbol.encode() if len(symbols) > 1 else b""
                rows.append((now_ns + 3000, b'{"lastUpdateId":%d,"bids":[%s],"asks":[%s]%s}' % (last_id, *sides, name)))
    return rows


def write_capture(path: Path, rows: list[Row], *, end: bytes = b"\n", unit_ns: int = 1) -> Path:
    path.write_bytes(b"".join(b"%d %s%s" % (recv_ns // unit_ns, payload, end) for recv_ns, payload in rows))
    return path
