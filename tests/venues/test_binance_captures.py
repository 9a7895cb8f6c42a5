"""Every line of the real captures decodes to what json and Decimal say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mdfeed._parse import Instruments
from mdfeed.venues._binance_wire import BinanceDecoder
from tests import binance_twin as twin

HFT = [
    ("usdm", "hft/usdm/btcusdt_20230404.gz", "BTCUSDT"),
    ("usdm", "hft/usdm/btcusdt_20240718.gz", "BTCUSDT"),
    ("usdm", "hft/usdm/btcusdt_20240719.gz", "BTCUSDT"),
    ("coinm", "hft/cm/ethusd_perp_20240808.gz", "ETHUSD_PERP"),
    ("spot", "hft/spot/ethusdt_20240808.gz", "ETHUSDT"),
]
CRYPTOFEED = [
    ("usdm", "cryptofeed/BINANCE_FUTURES"),
    ("coinm", "cryptofeed/BINANCE_DELIVERY"),
    ("spot", "cryptofeed/BINANCE"),
]


@pytest.mark.parametrize(("product", "file", "symbol"), HFT, ids=[file for _, file, _ in HFT])
def test_hft_capture_decodes_as_json_and_decimal_do(data_dir: Path, product: str, file: str, symbol: str) -> None:
    instruments = Instruments()
    instruments.add(symbol)
    decoder = BinanceDecoder(instruments, product)
    kinds: Counter[str] = Counter()
    for text in twin.hft_lines(data_dir / file):
        if text.startswith('{"lastUpdateId"'):
            found = decoder.decode_body(text.encode(), symbol)
            expected = twin.describe(text, product) | {"symbol": symbol}
        else:
            found = decoder.decode_frame(text.encode())
            expected = twin.describe(text, product)
        assert found == expected
        kinds[found["kind"]] += 1
    assert kinds["depthUpdate"] > 1000
    assert kinds["bookTicker"] > 1000
    assert kinds["trade"] > 100
    assert "ignored" not in kinds


@pytest.mark.parametrize(("product", "file"), CRYPTOFEED)
def test_cryptofeed_capture_decodes_as_json_and_decimal_do(data_dir: Path, product: str, file: str) -> None:
    frames = list(twin.cryptofeed_lines(data_dir / f"{file}.ws.1.0.gz"))
    bodies = list(twin.cryptofeed_bodies(data_dir / f"{file}.http.0.0.gz"))
    instruments = Instruments()
    for symbol, _ in bodies:
        instruments.add(symbol)
    decoder = BinanceDecoder(instruments, product)
    known = {symbol for symbol, _ in bodies}
    kinds: Counter[str] = Counter()
    for text in frames:
        found = decoder.decode_frame(text.encode())
        expected = twin.describe(text, product)
        if expected["kind"] != "ignored" and expected["symbol"] not in known:
            expected = {"kind": "ignored", "why": "unknown_symbol", "event": expected["kind"]}
        assert found == expected
        kinds[found["kind"]] += 1
    for symbol, text in bodies:
        assert decoder.decode_body(text.encode(), symbol) == twin.describe(text, product) | {"symbol": symbol}
    assert bodies
    assert kinds["depthUpdate"] > 100
