"""Any bytes as a capture, in any container: they play, with lines refused and counted, or end in one CaptureError.

Nothing else may come out: no other exception, and no frame that the feed does not get to judge.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdfeed.capture import Session, open_capture
from mdfeed.containers import zstd
from mdfeed.errors import CaptureError
from mdfeed.player import Player

DIFF = b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"pu":0,"b":[],"a":[]}}'
PIECES = [
    *(b"\n", b" ", b"\r\n", b"\0", b"'", b'"', b"{", b"}", b"[" * 2000, b"9" * 30, b"-", b".", b"1e999", b"\xff"),
    b"1700000000000000000 ",
    b"9223372036854775807 ",
    b"170000000000000 ",
    DIFF,
    b'{"lastUpdateId":5,"bids":[["1","2"]],"asks":[]',
    b',"symbol":"BTCUSDT"}',
    b"configuration: x\n",
    b"wss://fstream.binance.com/stream?streams=btcusdt@depth <-> 1700000000.5\n",
    b"https://x/depth?symbol=BTCUSDT -> 1700000000.5: ",
    b"1700000000.25: ",
    b"b'",
    b'{"t":"header","format": 2}\n',
    b'{"t":"connect","conn":"a","ts":1700000000.5,"addr":"wss://h/?streams=btcusdt@depth"}\n',
    b'{"t":"recv","conn":"a","ts":1700000000.75,"data":"{}"}\n',
    b'{"t":"http","conn":"b","ts":1,"url":"https://x?symbol=BTCUSDT","data":"{\\"lastUpdateId\\":5}"}\n',
    b'{"t":"recv","conn":"a","ts":',
    b',"b64":"e30="}\n',
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from(PIECES), st.binary(max_size=20)), max_size=30)
PACKERS = {"plain": bytes, "gzip": gzip.compress, "zstd": zstd.compress}


@given(
    text=TEXTS.map(b"".join),
    packer=st.sampled_from(sorted(PACKERS)),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), max_size=3),
)
@settings(max_examples=800, deadline=None)
@example(b"1700000000000000000 {}\n9999999999999999999 {}\n", "plain", [])
@example(b'{"t":"header","format": 2}\n{"t":"recv","conn":"a","ts":1e999,"data":""}\n', "zstd", [])
def test_any_bytes_play_or_are_a_capture_error(text: bytes, packer: str, damage: list[tuple[int, bytes]]) -> None:
    packed = bytearray(PACKERS[packer](text))
    for place, noise in damage:
        place %= len(packed) + 1
        packed[place : place + len(noise)] = noise
    with tempfile.NamedTemporaryFile() as file:
        file.write(packed)
        file.flush()
        refused = ""
        try:
            player = Player(Session([open_capture(Path(file.name))]), "binance-usdm")
            assert all(0 <= recv_ns < 1 << 63 for recv_ns in player.play())
            player.report()
        except CaptureError as error:
            refused = str(error)
        assert refused == "" or refused.startswith(file.name)
