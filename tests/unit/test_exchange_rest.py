"""HTTP and WS-API answers, their weights, and the limits that end in 429 and 418; on a clock that stands still."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from mdfeed.exchange.market import START_NS, Market
from mdfeed.exchange.rest import Desk
from mdfeed.exchange.weight import Scales


class Counter:
    """A desk over 30 s of market, and the clock it reads."""

    def __init__(self) -> None:
        self.market = Market(["BTCUSDT", "SYM001USDT"], seed=2, rate=300)
        self.market.want("btcusdt@aggTrade")
        self.now_ns = START_NS + 30 * 10**9
        self.aggs = [
            json.loads(said.frame)["data"] for said in self.market.step(self.now_ns) if b"@aggTrade" in said.frame
        ]
        self.scales = Scales()
        self.desk = Desk(self.market, lambda: self.now_ns, self.scales)

    def get(self, path: str, status: int = 200, method: str = "GET") -> Any:
        answer = self.desk.answer(method, f"/fapi/v1/{path}", "1.2.3.4")
        assert answer.status == status, answer.body
        self.headers = answer.headers
        return json.loads(answer.body) if answer.body else None

    def used(self) -> int:
        return int(self.headers["X-MBX-USED-WEIGHT-1M"])


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.mark.parametrize(("limit", "weight"), [(5, 2), (10, 2), (20, 2), (50, 2), (100, 5), (500, 10), (1000, 20)])
def test_depth(counter: Counter, limit: int, weight: int) -> None:
    body = counter.get(f"depth?symbol=BTCUSDT&limit={limit}")
    assert counter.used() == weight
    assert list(body) == ["lastUpdateId", "E", "T", "bids", "asks"]
    true = counter.market.truth("BTCUSDT").book_at(body["lastUpdateId"])
    for side in ("bids", "asks"):
        assert [tuple(row) for row in body[side]] == true.levels(side, limit)
        assert len(body[side]) == limit


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("depth?symbol=NOPE", 400, -1121),
        ("depth?symbol=btcusdt", 400, -1121),
        ("depth", 400, -1102),
        ("depth?symbol=BTCUSDT&limit=7", 400, -4021),
        ("depth?symbol=BTCUSDT&limit=5001", 400, -4021),
        ("depth?symbol=BTCUSDT&limit=x", 400, -1102),
        ("klines?symbol=BTCUSDT", 400, -1120),
        ("klines?symbol=BTCUSDT&interval=1m&limit=1501", 400, -1130),
        ("aggTrades?symbol=BTCUSDT&limit=0", 400, -1130),
        ("ticker/24hr?symbol=NOPE", 400, -1121),
        ("order", 404, -5000),
    ],
)
def test_errors_are_json_with_the_venues_codes(counter: Counter, path: str, status: int, code: int) -> None:
    body = counter.get(path, status)
    assert body["code"] == code
    assert body["msg"]


def test_other_methods_are_invalid(counter: Counter) -> None:
    assert counter.get("time", 404, "POST")["code"] == -5000


def test_time_ping_and_exchange_info(counter: Counter) -> None:
    assert counter.get("ping") == {}
    assert counter.get("time") == {"serverTime": counter.now_ns // 10**6}
    info = counter.get("exchangeInfo")
    assert counter.used() == 3
    btc, other = info["symbols"]
    assert (btc["symbol"], btc["status"], btc["pricePrecision"]) == ("BTCUSDT", "TRADING", 2)
    filters = {row["filterType"]: row for row in btc["filters"]}
    assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.10", "0.001")
    tick = Decimal(next(row["tickSize"] for row in other["filters"] if "tickSize" in row))
    for price, _ in counter.get("depth?symbol=SYM001USDT&limit=100")["bids"]:
        assert Decimal(price) % tick == 0


def test_day_equals_its_klines(counter: Counter) -> None:
    day = counter.get("ticker/24hr?symbol=BTCUSDT")
    rows = counter.get(f"klines?symbol=BTCUSDT&interval=1m&limit=1500&startTime={day['openTime']}")
    assert counter.used() == 1 + 10
    assert len(rows) == 1440
    assert [row[0] for row in rows] == [day["openTime"] + 60_000 * minute for minute in range(1440)]
    assert sum(Decimal(row[5]) for row in rows) == Decimal(day["volume"])
    assert sum(Decimal(row[7]) for row in rows) == Decimal(day["quoteVolume"])
    assert sum(row[8] for row in rows) == day["count"] == day["lastId"] - day["firstId"] + 1
    assert max(Decimal(row[2]) for row in rows) == Decimal(day["highPrice"])
    assert min(Decimal(row[3]) for row in rows) == Decimal(day["lowPrice"])
    assert (rows[0][1], rows[-1][4]) == (day["openPrice"], day["lastPrice"])
    hours = counter.get(f"klines?symbol=BTCUSDT&interval=1h&startTime={rows[0][0]}")
    minutes = [row for row in rows if row[0] // 3_600_000 == hours[1][0] // 3_600_000]
    assert len(minutes) == 60
    assert Decimal(hours[1][5]) == sum(Decimal(row[5]) for row in minutes)
    assert (hours[1][1], hours[1][4]) == (minutes[0][1], minutes[-1][4])
    assert len(counter.get("ticker/24hr")) == 2


def test_agg_trades_are_those_of_the_stream(counter: Counter) -> None:
    first = counter.aggs[3]
    found = counter.get(f"aggTrades?symbol=BTCUSDT&fromId={first['a']}&limit=10")
    assert counter.used() == 20
    keys = ("a", "p", "q", "nq", "f", "l", "T", "m")
    assert found == [{key: agg[key] for key in keys} for agg in counter.aggs[3:13]]
    assert counter.get("aggTrades?symbol=BTCUSDT&limit=5")[-1]["a"] >= counter.aggs[-1]["a"]


def test_weight_ends_in_429_then_418_and_starts_anew(counter: Counter) -> None:
    for _ in range(120):
        counter.get("depth?symbol=BTCUSDT&limit=1000")
    assert counter.used() == 2400
    for _ in range(10):
        assert counter.get("time", 429)["code"] == -1003
        assert int(counter.headers["Retry-After"]) == 60 - counter.now_ns // 10**9 % 60
    assert "banned until" in counter.get("time", 418)["msg"]
    assert counter.headers["Retry-After"] == "120"
    counter.now_ns += 119 * 10**9
    counter.get("time", 418)
    assert counter.headers["Retry-After"] == "1"
    counter.now_ns += 10**9
    counter.get("time")
    assert counter.used() == 1


def test_weight_is_by_peer_and_minute(counter: Counter) -> None:
    counter.get("depth?symbol=BTCUSDT&limit=1000")
    counter.desk.answer("GET", "/fapi/v1/time", "5.6.7.8")
    assert counter.scales.used("1.2.3.4", counter.now_ns // 10**6) == 20
    assert counter.scales.used("5.6.7.8", counter.now_ns // 10**6) == 1
    counter.now_ns += 60 * 10**9
    counter.get("time")
    assert counter.used() == 1


def test_ws_api(counter: Counter) -> None:
    def call(document: Any) -> Any:
        return json.loads(counter.desk.call(document if isinstance(document, str) else json.dumps(document), "peer"))

    good = call({"id": "x-1", "method": "depth", "params": {"symbol": "BTCUSDT", "limit": 5}})
    assert (good["id"], good["status"], good["rateLimits"][0]["count"]) == ("x-1", 200, 2)
    assert good["result"] == counter.get("depth?symbol=BTCUSDT&limit=5")
    bad = call({"id": 2, "method": "depth", "params": {"symbol": "NOPE"}})
    assert (bad["status"], bad["error"]["code"]) == (400, -1121)
    assert call({"id": 3, "method": "order.place"})["status"] == 400
    assert call("{")["error"]["code"] == -1135
    assert call("[]")["status"] == 400
    assert call({"id": 4, "method": "depth", "params": [1]})["error"]["code"] == -1102
