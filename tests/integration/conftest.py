"""Fixtures that the tests of lines, and those of a venue on virtual time, share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mdfeed.dial import TRANSPORTS
from tests.lines import Recorder
from tests.venue_world import VenueWorld


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn."""
    return request.param


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def world_of() -> Iterator[Callable[..., VenueWorld]]:
    """Makes VenueWorlds, and closes them at the end."""
    worlds: list[VenueWorld] = []

    def make(*args: object, **options: object) -> VenueWorld:
        worlds.append(VenueWorld(*args, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
