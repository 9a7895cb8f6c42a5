"""mdfeed.lasting, and a daemon in which every task has a bug."""

from __future__ import annotations

import asyncio

import pytest

from mdfeed import lasting as module
from mdfeed.errors import ConfigError, SinkError
from mdfeed.lasting import faults, lasting


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.004)
    faults.clear()


async def test_a_fault_is_written_down_and_the_task_begun_anew(caplog):
    runs = []

    async def run():
        runs.append(len(runs))
        if len(runs) < 4:
            raise RuntimeError("for the test")

    await lasting("a task", run)
    assert runs == [0, 1, 2, 3]
    assert faults == {"a task": 3}
    assert caplog.text.count("a task: a fault of ours; begun anew") == 3
    assert 'RuntimeError("for the test")' in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        SinkError("theirs"),
        ExceptionGroup("one", [ValueError(), ExceptionGroup("two", [SinkError("theirs")])]),
    ],
    ids=["plain", "in groups"],
)
async def test_a_decision_passes(error):
    async def run():
        raise error

    with pytest.raises(SinkError, match="theirs"):
        await lasting("a task", run)
    assert not faults


async def test_cancelling_ends_it_in_its_pause_too(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 60.0)

    async def run():
        raise RuntimeError

    task = asyncio.create_task(lasting("a task", run))
    while not faults:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_pauses_grow_and_start_over_after_a_stable_while(monkeypatch):
    pauses, sleep = [], asyncio.sleep

    async def note(seconds):
        pauses.append(seconds)
        await sleep(0)

    async def run():
        if len(pauses) == 5:
            monkeypatch.setattr(module, "STABLE_S", 0.0)
        if len(pauses) == 6:
            raise ConfigError("enough")
        raise RuntimeError

    monkeypatch.setattr(module.asyncio, "sleep", note)
    with pytest.raises(ConfigError):
        await lasting("a task", run)
    assert pauses == [0.001, 0.002, 0.004, 0.004, 0.004, 0.001]
