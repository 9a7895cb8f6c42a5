"""The judge of memory and descriptors can fail."""

from __future__ import annotations

import os

from tests.faults.growth import ROOM_FDS, Growth


def test_memory_that_grows_is_found():
    growth = Growth(room_mib=4.0)
    growth.look(0.1)
    kept = bytearray(os.urandom(1)) * (int(growth.warm_mib * 0.08 + 16) << 20)
    assert "memory grows" in growth.verdict()
    assert kept


def test_descriptors_that_grow_are_found():
    growth = Growth(room_mib=1000.0)
    growth.look(0.1)
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(ROOM_FDS)]
    assert growth.verdict() == ""
    kept.append(os.open("/dev/null", os.O_RDONLY))
    assert "descriptors grow" in growth.verdict()
    for descriptor in kept:
        os.close(descriptor)
