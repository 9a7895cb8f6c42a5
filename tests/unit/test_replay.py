"""The verb `replay` on self-made captures: containers, windows, stops, symbols, pace, sinks, exit status."""

from __future__ import annotations

import gzip
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mdfeed.capture import Session, open_capture
from mdfeed.errors import CaptureError, UsageError
from mdfeed.replay import find_venue, run
from tests.oracle import compute
from tests.sessions import START_NS, STEP_NS, make_session, write_capture

TIMES = ("elapsed_s", "messages_per_s", "latency_us", "files")


@pytest.fixture
def play(capsys: pytest.CaptureFixture[str]):
    def play_json(*paths: Path, code: int = 0, **options: Any) -> dict[str, Any]:
        got = run(list(paths), json=True, **options)
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert got == code, document
        return document

    return play_json


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in TIMES}


def test_document(tmp_path: Path, play) -> None:
    path = write_capture(tmp_path / "c", make_session())
    document = play(path)
    book = compute([path]).books["BTCUSDT"]
    row = document["books"]["BTCUSDT"]
    assert list(document) == [
        "files", "venue", "messages", "by_type", "decode_errors", "trades", "books", "elapsed_s", "messages_per_s",
        "latency_us",
    ]  # fmt: skip
    assert list(row) == [
        "state", "last_update_id", "applied", "stale", "gaps", "resyncs", "crossed", "bids", "asks", "best_bid",
        "best_ask", "sha256", "proof",
    ]  # fmt: skip
    assert row["sha256"] == book.digest()
    assert (row["state"], row["applied"], row["stale"]) == ("PROVED", 389, 11)
    assert row["proof"] == {"match": 388, "mismatch": 0, "unjudged": 1}
    assert document["by_type"]["depthUpdate"] == 400
    assert document["messages"] == sum(document["by_type"].values())
    assert set(document["latency_us"]) == {"p50", "p99", "p99_9", "max"}
    assert document["latency_us"]["p50"] <= document["latency_us"]["p99"] <= document["latency_us"]["max"]
    assert document["messages_per_s"] > 0


def test_container_stamps_line_ends_and_cuts_into_files_change_nothing(tmp_path: Path, play) -> None:
    rows = make_session()
    plain = write_capture(tmp_path / "plain", rows)
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    cut = len(rows) // 3
    pieces = [write_capture(tmp_path / "b", rows[cut:]), write_capture(tmp_path / "a", rows[:cut])]
    expected = timeless(play(plain))
    assert timeless(play(packed)) == expected
    assert timeless(play(write_capture(tmp_path / "us", rows, unit_ns=1000))) == expected
    assert timeless(play(write_capture(tmp_path / "crlf", rows, end=b"\r\n"))) == expected
    assert timeless(play(*pieces)) == expected


def test_several_symbols_and_a_choice_of_them(tmp_path: Path, play) -> None:
    path = write_capture(tmp_path / "c", make_session(200, symbols=("BTCUSDT", "ETHUSDT", "BNBUSDT")))
    outcome = compute([path])
    document = play(path)
    assert {symbol: row["sha256"] for symbol, row in document["books"].items()} == {
        symbol: book.digest() for symbol, book in outcome.books.items()
    }
    one = play(path, symbols=["ETHUSDT"])
    assert list(one["books"]) == ["ETHUSDT"]
    assert one["books"]["ETHUSDT"] == document["books"]["ETHUSDT"]
    assert one["trades"] == {"ETHUSDT": document["trades"]["ETHUSDT"]}
    assert one["messages"] < document["messages"]


def test_window_before_it_books_are_built_and_nothing_is_counted(tmp_path: Path, play) -> None:
    rows = make_session()
    path = write_capture(tmp_path / "c", rows)
    start_ns, end_ns = START_NS + 100 * STEP_NS, START_NS + 300 * STEP_NS
    document = play(path, start_ns=start_ns, end_ns=end_ns)
    inside = [row for row in rows if start_ns <= row[0] < end_ns]
    until_end = write_capture(tmp_path / "head", [row for row in rows if row[0] < end_ns])
    book = compute([until_end]).books["BTCUSDT"]
    row = document["books"]["BTCUSDT"]
    assert document["messages"] == len(inside) == sum(document["by_type"].values())
    assert (row["sha256"], row["last_update_id"]) == (book.digest(), book.last_id)
    assert (row["applied"], row["stale"]) == (200, 0)
    trades = [json.loads(payload)["data"] for _, payload in inside if b"@trade" in payload]
    assert document["trades"]["BTCUSDT"]["count"] == len(trades)
    assert Decimal(document["trades"]["BTCUSDT"]["qty"]) == sum(Decimal(trade["q"]) for trade in trades)


def test_stop_at_an_id_between_and_at_diffs(tmp_path: Path, play) -> None:
    path = write_capture(tmp_path / "c", make_session())
    ids = [u for u, _ in compute([path]).books["BTCUSDT"].verdicts]
    for stop in (ids[50], ids[51] - 1, ids[51]):
        row = play(path, to_update_id=stop)["books"]["BTCUSDT"]
        book = compute([path], to_update_id=stop).books["BTCUSDT"]
        assert row["last_update_id"] == book.last_id <= stop
        assert row["sha256"] == book.digest()
        assert row["state"] == "PROVED"


def test_gap_is_lossy_and_heals_with_the_next_snapshot(tmp_path: Path, play) -> None:
    rows = make_session()
    diffs = [i for i, (_, payload) in enumerate(rows) if b"depthUpdate" in payload]
    broken = write_capture(tmp_path / "c", [row for i, row in enumerate(rows) if i != diffs[100]])
    row = play(broken, code=3)["books"]["BTCUSDT"]
    book = compute([broken]).books["BTCUSDT"]
    assert (row["state"], row["gaps"], row["resyncs"], row["applied"]) == ("SUSPECT", 1, 1, 89)
    assert row["sha256"] == book.digest()
    at = diffs[200] + 1
    fix = make_session(201)
    state = compute([write_capture(tmp_path / "head", fix)]).books["BTCUSDT"]
    sides = [
        ",".join(f'["{price}","{qty}"]' for price, qty in sorted(side.items(), reverse=side is state.bids))
        for side in (state.bids, state.asks)
    ]
    body = f'{{"lastUpdateId":{state.last_id},"bids":[{sides[0]}],"asks":[{sides[1]}]}}'.encode()
    healed = [row for i, row in enumerate(rows) if i != diffs[100]]
    healed.insert(at - 1, (rows[at - 1][0], body))
    row = play(write_capture(tmp_path / "healed", healed), code=3)["books"]["BTCUSDT"]
    assert (row["state"], row["gaps"], row["resyncs"]) == ("PROVED", 1, 1)
    assert row["sha256"] == compute([write_capture(tmp_path / "whole", rows)]).books["BTCUSDT"].digest()


def test_contradicted_book_is_lossy(tmp_path: Path, play) -> None:
    rows = make_session()
    tickers = [i for i, (_, payload) in enumerate(rows) if b"bookTicker" in payload]
    at = tickers[200]
    head, _, tail = rows[at][1].partition(b'"B":"0.')
    rows[at] = (rows[at][0], head + b'"B":"1.' + tail)
    row = play(write_capture(tmp_path / "c", rows), code=3)["books"]["BTCUSDT"]
    assert (row["state"], row["resyncs"], row["proof"]["mismatch"], row["gaps"]) == ("SUSPECT", 1, 1, 0)


def test_bad_frames_garbage_and_tears_are_lossy_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_session(50)
    path = write_capture(tmp_path / "c", rows[:50])
    with path.open("ab") as file:
        file.write(b"%d no json\n" % (START_NS + 10**9))
        file.write(b'%d {"lastUpdateId":7,"bids":"x"}\n' % (START_NS + 10**9))
        file.write(b"garbage\n" + b"%d %s" % rows[50])
        size = file.tell()
        file.write(b"\n%d {" % rows[51][0])
    assert run([path], json=True) == 3
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["decode_errors"] == 3
    assert f"{path}: 1 lines are no records (line 53)" in shown.err
    assert f"{path}: line 55 is cut off at byte {size + 1}; read up to there" in shown.err
    assert len(shown.err.splitlines()) == 2


def test_summary_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_capture(tmp_path / "c", make_session())
    assert run([path]) == 0
    shown = capsys.readouterr()
    assert "BTCUSDT PROVED at" in shown.out
    assert compute([path]).books["BTCUSDT"].digest() in shown.out
    assert shown.err == ""


def test_stdout_sink_publishes_the_same_at_any_speed_and_the_summary_goes_aside(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_capture(tmp_path / "c", make_session(100))
    shown = []
    for speed in (0.0, 40.0):
        started = time.monotonic()
        assert run([path], sink="stdout", speed=speed) == 0
        elapsed_s = time.monotonic() - started
        shown.append(capfd.readouterr())
    assert elapsed_s >= 99 * STEP_NS / 1e9 / 40.0
    lines = [json.loads(line) for line in shown[0].out.splitlines()]
    books = [line["payload"] for line in lines if line["channel"] == "orderbook:BTCUSDT"]
    assert len(books) == 90  # the join, then each live diff
    assert books[-1]["last_update_id"] == compute([path]).books["BTCUSDT"].last_id
    assert "BTCUSDT PROVED" in shown[0].err
    assert shown[0].out == shown[1].out


def test_usage_errors_name_the_option(tmp_path: Path) -> None:
    path = write_capture(tmp_path / "c", make_session(20))
    for options, says in (
        ({"json": True, "sink": "stdout"}, "--sink stdout"),
        ({"sink": "kafka://x"}, "no such sink"),
        ({"venue": "nasdaq"}, "--venue"),
    ):
        with pytest.raises(UsageError, match=says):
            run([path], **options)  # type: ignore[arg-type]
    foreign = write_capture(tmp_path / "f", [(START_NS, b'{"channel":"l2Book","data":{"coin":"BTC"}}')])
    with pytest.raises(UsageError, match="--venue"):
        run([foreign])


def test_unreadable_file_says_which_and_where(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"id,price\n1,2\n")
    with pytest.raises(CaptureError, match=r"c: not a capture.*\(at byte 0\)"):
        run([tmp_path / "c"])


@pytest.mark.parametrize(
    ("frame", "venue"),
    [
        (
            b'{"stream":"x@depth","data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"pu":0,"b":[],"a":[]}}',
            "binance-usdm",
        ),
        (
            b'{"stream":"x@depth","data":{"e":"depthUpdate","s":"BTCUSDT","ps":"BTCUSDT","st":1,"U":1,"u":2,"pu":0}}',
            "binance-usdm",
        ),
        (
            b'{"stream":"btcusd_perp@depth","data":{"e":"depthUpdate","s":"BTCUSD_PERP","ps":"BTCUSD","U":1,"u":2,"pu":0}}',
            "binance-coinm",
        ),
        (b'{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}', "binance-spot"),
        (b'{"stream":"x@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"1","A":"1"}}', "binance-spot"),
        (b'{"stream":"x@bookTicker","data":{"e":"bookTicker","u":1,"s":"BTCUSDT"}}', "binance-usdm"),
        (
            b'{"stream": "x@depth", "data": {"e": "depthUpdate", "s": "BTCUSDT", "U": 1, "u": 2, "pu": 0}}',
            "binance-usdm",
        ),
        (b'{"stream": "x@bookTicker", "data": {"u": 1, "s": "BTCUSDT", "b": "1", "B": "1"}}', "binance-spot"),
    ],
)
def test_venue_by_frames(tmp_path: Path, frame: bytes, venue: str) -> None:
    aside = b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":1}}'
    path = write_capture(tmp_path / "c", [(START_NS, aside), (START_NS, frame)])
    assert find_venue([open_capture(path)]) == venue


def test_another_venue_that_speaks_alike_is_not_taken_for_ours(tmp_path: Path) -> None:
    frame = (
        b'{"time":1,"channel":"spot.order_book_update","event":"update","result":{"e":"depthUpdate","s":"A_B","U":1}}'
    )
    with pytest.raises(UsageError, match="--venue"):
        run([write_capture(tmp_path / "c", [(START_NS, frame)])])


def test_all_market_streams_do_not_decide_about_later_frames(tmp_path: Path, play) -> None:
    def order(symbol: str) -> bytes:
        data = {"e": "forceOrder", "E": 1, "o": {"s": symbol, "S": "SELL"}}
        return json.dumps({"stream": "!forceOrder@arr", "data": data}, separators=(",", ":")).encode()

    rows = [(START_NS + n, order(symbol)) for n, symbol in enumerate(("ETHUSDT", "BTCUSDT", "ETHUSDT", "BTCUSDT"))]
    path = write_capture(tmp_path / "c", rows)
    document = play(path, venue="binance-usdm", symbols=["btcusdt"])
    assert (document["messages"], document["by_type"]) == (2, {"forceOrder": 2})


def test_a_symbol_need_not_be_ascii(tmp_path: Path, play) -> None:
    rows = [
        (at, text.replace(b"BTC", "币安人生".encode()).replace(b"btc", "币安人生".encode()))
        for at, text in make_session(60)
    ]
    plain, other = write_capture(tmp_path / "p", make_session(60)), write_capture(tmp_path / "o", rows)
    book = play(other, symbols=["币安人生usdt"])["books"]["币安人生USDT"]
    assert book == play(plain)["books"]["BTCUSDT"]
    assert book["state"] == "PROVED"


def test_venue_by_address_and_two_venues_are_refused(tmp_path: Path) -> None:
    paths = []
    for host, venue in (
        ("fstream.binance.com", "usdm"),
        ("dstream.binance.com", "coinm"),
        ("stream.binance.com:9443", "spot"),
    ):
        path = tmp_path / venue
        path.write_text(f"wss://{host}/stream?streams=a@trade <-> 1700000000.5\n")
        assert find_venue([open_capture(path)]) == f"binance-{venue}"
        paths.append(path)
    with pytest.raises(UsageError, match="two venues"):
        find_venue(Session(map(open_capture, paths)).captures)


def test_lost_line_in_a_capture_leaves_the_book_stale_until_its_diffs_chain_again(tmp_path: Path, play) -> None:
    url = "wss://fstream.binance.com/stream?streams=btcusdt@depth/btcusdt@bookTicker"
    rows = make_session(100)

    def write(path: Path, cut_at: int) -> Path:
        lines = [f"{url} <-> {START_NS / 1e9:.6f}\n"]
        for i, (recv_ns, payload) in enumerate(rows):
            if i == cut_at:
                lines.append(f"{url} <-> {recv_ns / 1e9:.6f}\n")
            rest = (
                "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000 -> "
                if b"lastUpdateId" in payload
                else ""
            )
            lines.append(f"{rest}{recv_ns / 1e9:.6f}: {payload.decode()}\n")
        path.write_text("".join(lines))
        return path

    row = play(write(tmp_path / "whole", 100))["books"]["BTCUSDT"]
    assert row["state"] == "PROVED"
    assert row["sha256"] == compute([write_capture(tmp_path / "c", rows)]).books["BTCUSDT"].digest()
    at_end = play(write(tmp_path / "end", len(rows) - 1))["books"]["BTCUSDT"]
    assert at_end["state"] == "STALE"
    assert at_end["gaps"] == 0
