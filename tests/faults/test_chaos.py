"""A few kills of Redis and of the daemon; `python -m tests.faults.chaos` does a hundred of each."""

from __future__ import annotations

import pytest

from tests.faults import chaos


@pytest.mark.parametrize(("transport", "lines"), [("picows", 1), ("websockets", 2)])
async def test_kills_of_redis_and_of_the_daemon(tmp_path, transport, lines):
    # More than the promised second: this machine is shared with other tests.
    figures = await chaos.run(tmp_path, 3, seed=7, transport=transport, lines=lines, slack_s=4.0)
    print(figures)
    assert figures.redis_kills == figures.daemon_kills == 3
    assert figures.consumer is not None
    assert figures.consumer.books > 100
