from __future__ import annotations

import asyncio
import contextlib
import io
import json

import pytest

from mdfeed import sinks
from mdfeed._encode import CHANNELS, Collector, Encoder, Market
from mdfeed.errors import ConfigError
from mdfeed.sinks.memory import MemorySink
from mdfeed.sinks.null import NullSink
from mdfeed.sinks.stdout import StdoutSink

BTC = Market("BTCUSDT", 0, 2, 3)


def say(outbox: sinks.Outbox) -> None:
    outbox.put_book(BTC, [(6180020, 2507)], [(6180030, 5)], seq=1)
    outbox.put_trade(BTC, 1, 6180020, 5)
    outbox.put_event(b'{"event":"gap"}')
    outbox.withdraw(BTC)


@pytest.mark.parametrize(("url", "kind"), [("memory:", MemorySink), ("stdout:", StdoutSink), ("null:", NullSink)])
def test_a_scheme_opens_its_sink(url: str, kind: type[sinks.Sink]) -> None:
    sink = sinks.open(url, None, epoch=1)
    assert isinstance(sink, kind)
    assert sink.name == url[:-1]


def test_an_unknown_scheme_is_a_config_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="'redi'; did you mean 'redis'"):
        sinks.open("redi://localhost", None)
    with pytest.raises(ConfigError, match=r"memory, null, redis, redis\+sentinel, rediss"):
        sinks.open("amqp://guest:secret@localhost", None)


def test_every_module_of_the_folder_is_a_sink() -> None:
    for scheme in ("redis", "rediss", "unix", "memory", "stdout", "null"):
        module = sinks._module_of(scheme)
        assert issubclass(module.SINK, sinks.Sink)
        assert scheme in module.SCHEMES


@pytest.mark.parametrize("url", ["memory:", "null:"])
async def test_ready_is_said_once_the_sink_runs(url: str) -> None:
    sink = sinks.open(url, None)
    said = asyncio.Event()
    sink.on_ready = said.set
    task = asyncio.create_task(sink.run())
    await asyncio.wait_for(said.wait(), 5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_memory_hands_on_what_was_flushed_in_order_and_ends_when_closed() -> None:
    sink, expected = MemorySink(epoch=7), Collector(epoch=7)
    say(sink.outbox)
    say(expected)
    reader = asyncio.create_task(asyncio.wait_for(_all(sink), 5))
    await asyncio.sleep(0)
    sink.flush()
    await sink.close(1)
    assert await reader == expected.take()
    assert sink.counters()["published"] == expected.published


async def _all(sink: MemorySink) -> list[tuple[str, str, bytes]]:
    return [item async for item in sink]


def test_memory_is_bounded_before_and_after_the_flush() -> None:
    sink = MemorySink(outputs=["trades"], maxlen=3)
    for batch in range(2):
        for trade_id in range(5):
            sink.outbox.put_trade(BTC, batch * 10 + trade_id, 1, 1)
        sink.flush()
    counters = sink.counters()
    assert counters["dropped"]["full"] == 7
    taken = sink.take()
    assert [json.loads(payload)["trade_id"] for _, _, payload in taken] == [12, 13, 14]
    assert counters["buffer_bytes"] == sum(len(payload) for _, _, payload in taken)


def test_stdout_prints_json_lines() -> None:
    out, expected = io.BytesIO(), Collector(epoch=7)
    sink = StdoutSink(epoch=7, out=out)
    say(sink.outbox)
    say(expected)
    sink.flush()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines == [
        {"channel": CHANNELS[kind] + symbol, "payload": json.loads(payload or "null")}
        for kind, symbol, payload in expected.take()
    ]


class ClosedPipe(io.BytesIO):
    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")


def test_stdout_without_a_reader_drops_and_does_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    sink = StdoutSink(out=ClosedPipe())
    for _ in range(3):
        say(sink.outbox)
        sink.flush()
    assert not sink.is_connected
    assert sink.counters()["dropped"]["disconnected"] > 0
    assert len(caplog.records) == 1
    assert isinstance(sink.outbox, Encoder)
