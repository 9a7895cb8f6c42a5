"""docs/PROTOCOL.md says what is truly said: its HTTP and WebSocket examples have the fields of real answers."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest

from mdfeed.api import PREFIX
from tests.conftest import ROOT
from tests.http_rig import rig_of
from tests.page_client import look_on

EXAMPLES = [
    json.loads(line)
    for block in re.findall(r"```json\n(.*?)```", (ROOT / "docs/PROTOCOL.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]
# Their fields depend on what there is, and in the rig there is no line and no sink.
OPEN = {"dropped", "lines", "sinks"}


def shape(value: Any) -> Any:
    """Names and nesting of a value; lists by their first element, values left out."""
    if isinstance(value, Mapping):
        return {name: None if name in OPEN else shape(part) for name, part in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [shape(value[0])]
    return None


def get(port: int, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


@pytest.mark.parametrize(
    "path",
    [
        *("/health", "/ready", f"{PREFIX}/symbols", f"{PREFIX}/orderbook/BTCUSDT", f"{PREFIX}/ticker/BTCUSDT"),
        *(f"{PREFIX}/trades/BTCUSDT", f"{PREFIX}/trades/BTCUST"),
    ],
)
async def test_an_answer_is_as_documented(path: str) -> None:
    async with rig_of() as rig:
        said = await asyncio.to_thread(get, rig.port, path)
    assert shape(said) in [shape(example) for example in EXAMPLES], said


async def test_messages_are_as_documented() -> None:
    documented = {example["type"]: example for example in EXAMPLES if "type" in example}
    assert set(documented) == {"hello", "book", "symbols", "health", "unknown"}
    async with rig_of() as rig, look_on(rig) as page:
        await page.send('{"subscribe": ["BTCUSDT", "BTCUST"]}')
        said: dict[str, Any] = {}
        async with asyncio.timeout(20):
            while said.keys() != documented.keys():
                message = json.loads(await page.recv())
                said.setdefault(message["type"], message)
    for kind, example in documented.items():
        assert shape(said[kind]) == shape(example), kind
        assert list(said[kind]) == list(example), kind
