"""What mdfeed.serve sets for its process, in processes of their own: a hard limit never rises again."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from mdfeed.serve import DESCRIPTORS
from tests.conftest import ROOT

SCRIPT = """
import resource, sys
from mdfeed.serve import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_descriptor_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (256, 2048, 2048),
        (256, DESCRIPTORS + 100, DESCRIPTORS),
        (DESCRIPTORS + 50, DESCRIPTORS + 100, DESCRIPTORS + 50),
    ],
    ids=["as the hard one allows", "as wanted", "a higher one stays"],
)
def test_the_soft_limit_of_descriptors_is_raised(soft: int, hard: int, then: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < hard:
        pytest.skip(f"the hard limit here is {most}, {hard} is needed")
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(then), str(hard)]


def test_the_collector_does_not_go_through_what_stands() -> None:
    script = (
        "import gc; from mdfeed.serve import exempt_from_collection; exempt_from_collection(); "
        "print(gc.get_freeze_count(), len(gc.get_objects()))"
    )
    command = [sys.executable, "-c", script]
    frozen, watched = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert int(frozen) > 10_000
    assert int(watched) < 100
