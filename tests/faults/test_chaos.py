"""A few kills of Redis and of the daemon; `python -m tests.faults.chaos` does a hundred of each."""

from __future__ import annotations

from tests.faults import chaos


async def test_kills_of_redis_and_of_the_daemon(tmp_path):
    # Half a second more than the promise: this machine is shared with other tests.
    figures = await chaos.run(tmp_path, 4, seed=7, slack_s=0.5)
    print(figures)
    assert figures.redis_kills == figures.daemon_kills == 4
    assert figures.consumer is not None
    assert figures.consumer.books > 100
