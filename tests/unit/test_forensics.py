"""Forensic files: what is in them, how many, and that `replay` reads them."""

from __future__ import annotations

import asyncio
import gzip
import json
from decimal import Decimal

from click.testing import CliRunner

from mdfeed import venues
from mdfeed._feed import Feed
from mdfeed._recall import Evidence
from mdfeed.cli import door
from mdfeed.forensics import Forensics


def make_testimony(number: int = 0) -> Evidence:
    frames = [
        (
            1_790_000_000_000_000_000 + i,
            b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":%d,"s":"BTCUSDT","b":"1.5","B":"2","a":"1.6",'
            b'"A":"3","T":1790000000000,"E":1790000000000}}' % (100 + i),
        )
        for i in range(5)
    ]
    book = (105, [(Decimal("1.4"), Decimal("2"))], [(Decimal("1.6"), Decimal("3"))])
    at_ns = 1_790_000_000_000_000_009 + number * 10**9
    return Evidence("BTCUSDT", at_ns, (104, (14, 2, 16, 3), (15, 2, 16, 3)), (1, 0), book, frames)


def feed_with(*testimonies: Evidence) -> Feed:
    feed = Feed(venues.get("binance-usdm"))
    feed.testimonies.extend(testimonies)
    return feed


async def test_a_file_holds_the_frames_and_the_difference(tmp_path):
    forensics = Forensics(feed_with(make_testimony()), tmp_path / "forensics")
    await forensics.write_all()
    [path] = (tmp_path / "forensics").iterdir()
    assert path.name == "20260921T141320.000000Z_BTCUSDT.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert len(lines) == 6
    finding = json.loads(lines[-1].split(b" ", 1)[1])
    assert finding["update_id"] == 104
    assert finding["book"] == {"bid_price": "1.4", "bid_qty": "2", "ask_price": "1.6", "ask_qty": "3"}
    assert finding["bookTicker"]["bid_price"] == "1.5"
    assert finding["bids"] == [["1.4", "2"]]


def test_replay_reads_it(tmp_path):
    asyncio.run(Forensics(feed_with(make_testimony()), tmp_path).write_all())
    [path] = tmp_path.iterdir()
    result = CliRunner().invoke(door, ["replay", str(path), "--venue", "binance-usdm", "--json"])
    said = json.loads(result.stdout)
    assert said["by_type"]["bookTicker"] == 5
    assert said["decode_errors"] == 0


async def test_only_the_newest_are_kept(tmp_path):
    forensics = Forensics(feed_with(), tmp_path, most=3)
    for number in range(7):
        forensics._feed.testimonies.append(make_testimony(number))
        await forensics.write_all()
    assert forensics.written == 7
    assert sorted(path.name[9:15] for path in tmp_path.iterdir()) == ["141324", "141325", "141326"]


async def test_a_disk_that_refuses_is_counted(tmp_path):
    (tmp_path / "file").write_text("")
    forensics = Forensics(feed_with(make_testimony()), tmp_path / "file")
    await forensics.write_all()
    assert (forensics.written, forensics.failed) == (0, 1)
