"""The faults of the matrix, as texts for mdfeed.exchange.spec, and what each may cost.

`costs` names what a fault may do: nothing at all ("nothing": no book may leave PROVED), books ("books": resynced
or stale for a while), or the proof ("proof": the fuse may blow, books stay exact).
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    name: str
    specs: tuple[str, ...]
    costs: str
    lasts_s: float = 2.0
    shows_s: float = 3.0  # so long after its end what it costs may show
    is_long: bool = False  # some wait of half a minute or so is in it
    is_virtual: bool = True  # means something without bytes
    symbol_lost: str = ""  # does not come back, by its nature


def case(name: str, costs: str, *specs: str, **more: object) -> Case:
    return Case(name, specs, costs, **more)  # type: ignore[arg-type]


# {SYM} is replaced by one of the symbols, {sym} by its name in streams.
CASES = (
    case("a few diffs lost", "books", "drop:stream=*@depth*,share=0.1"),
    case("half of all frames lost", "proof", "drop:share=0.5"),
    case("one trade in five lost", "nothing", "drop:stream=*@aggTrade,share=0.2"),
    case("one ticker in five lost", "proof", "drop:stream=*@bookTicker,share=0.2"),
    case("all frames twice", "nothing", "duplicate:by=30ms"),
    case("diffs out of order", "books", "reorder:stream=*@depth*,share=0.1"),
    case("trades out of order", "nothing", "reorder:stream=*@aggTrade,share=0.3"),
    case("all frames late", "nothing", "delay:by=800ms"),
    case("jitter between streams", "nothing", "delay:by=50ms,jitter=400ms"),
    case("tickers behind their diffs", "nothing", "delay:stream=*@bookTicker,by=700ms"),
    case("tickers ahead of their diffs", "nothing", "delay:stream=*@depth*,by=700ms"),
    case("frames in heaps", "nothing", "batch:by=500ms"),
    case("garbage between frames", "nothing", "garbage:share=0.3"),
    case("frames cut off", "proof", "cut:share=0.05"),
    case("garbage for frames", "proof", "garbage:share=0.05,replaces=yes"),
    case("one symbol's diffs silent", "books", "silence:stream={sym}@depth*", lasts_s=7.0, is_long=True),
    case(
        "one symbol's diffs and tickers silent, its trades go on",
        "books",
        "drop:stream={sym}@depth*",
        "drop:stream={sym}@bookTicker",
        lasts_s=12.0,
        is_long=True,
    ),
    case(
        "all diffs and tickers silent, trades go on",
        "books",
        "drop:stream=*@depth*",
        "drop:stream=*@bookTicker",
        lasts_s=12.0,
        is_long=True,
    ),
    case("all diffs silent", "books", "silence", lasts_s=7.0, is_long=True),
    case("all tickers silent", "proof", "silence:stream=*@bookTicker", lasts_s=7.0, is_long=True),
    case("everything silent", "books", "drop", lasts_s=7.0, is_long=True),
    case("half-open", "books", "halfopen", lasts_s=0.1, shows_s=12.0, is_long=True),
    case("clean close", "books", "close:code=1000", lasts_s=0.1),
    case("close 1008", "books", "close:code=1008,reason=Too many requests", lasts_s=0.1),
    case("24 h cut", "books", "day", lasts_s=0.1),
    case("reset", "books", "reset", lasts_s=0.1),
    case("resets again and again", "books", "reset:every=700ms", lasts_s=3.0, is_long=True),
    case("serverShutdown", "books", "shutdown:grace=1s", lasts_s=1.0),
    case("deaf connections", "books", "deaf", "reset", lasts_s=3.0, shows_s=14.0, is_long=True),
    case("no pong", "nothing", "nopong"),
    case("no ping", "nothing", "noping"),
    case("dribble", "nothing", "dribble:piece=1", is_virtual=False),
    case("throttled", "nothing", "dribble:piece=100,rate=200000", is_virtual=False),
    case("upgrades refused", "books", "upgrade:status=403", "reset:every=1s", is_long=True),
    case("upgrades banned", "books", "upgrade:status=418,retry_after=4", "reset", is_long=True),
    case("REST 429", "books", "rest:status=429,retry_after=3", "reset"),
    case("REST 418", "books", "rest:status=418,retry_after=7", "reset", is_long=True),
    case("REST 403 in HTML", "books", "rest:status=403", "reset", is_long=True),
    case("REST 451", "books", "rest:status=451", "reset", is_long=True),
    case("REST 503", "books", "rest:status=503", "reset"),
    case("REST 500 and a reset", "books", "rest:status=500", "reset"),
    case("slow snapshots", "books", "slow:by=3s", "reset"),
    case("too slow snapshots", "books", "slow:by=12s", "reset", is_long=True),
    case("stale snapshots", "books", "stale:age=3s", "drop:stream=*@depth*,share=0.5"),
    case("stale snapshots after a reset", "books", "stale:age=3s", "reset"),
    case("new fields, values, events", "nothing", "strange"),
    case("a longer price fraction", "nothing", "finer:symbol={SYM}", lasts_s=0.5),
    case("a price far outside", "nothing", "far", lasts_s=0.5),
    case("restart, ids start over", "books", "restart", lasts_s=0.1),
    case("ids start over on live books", "books", "restart:cuts=no", lasts_s=0.1),
    case("ids start over, snapshots refused", "books", "restart:cuts=no", "rest:status=503"),
    case("ids start over, the clock is set back", "books", "restart:cuts=no", "skew:by=-1h"),
    case("ids start over as lines break, the clock is set back", "books", "restart", "skew:by=-1h"),
    case("venue clock an hour back", "nothing", "skew:by=-3600s"),
    case("venue clock an hour ahead", "nothing", "skew:by=1h"),
    case("bookTicker means another thing", "proof", "meaning", lasts_s=4.0, is_long=True),
    case("a contract halts", "nothing", "halt:symbol={SYM}", lasts_s=8.0, is_long=True),
    case("a contract halts and the lines are reset", "books", "halt:symbol={SYM}", "reset", lasts_s=8.0, is_long=True),
    case("a symbol delisted", "books", "delist:symbol={SYM}", lasts_s=0.5, shows_s=15.0, symbol_lost="{SYM}"),
)
