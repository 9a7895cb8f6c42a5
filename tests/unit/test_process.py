"""mdfeed.process: prometheus_client's own figures, without what a sandbox hides."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from mdfeed.process import ProcessFigures

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")


def by_name(collector: ProcessFigures | ProcessCollector) -> dict[str, Metric]:
    return {metric.name: metric for metric in collector.collect()}


def test_names_and_values_are_the_librarys() -> None:
    theirs, ours = by_name(ProcessCollector(registry=CollectorRegistry())), by_name(ProcessFigures())
    assert list(theirs) == ["process_virtual_memory_bytes", "process_resident_memory_bytes",
                            "process_start_time_seconds", "process_cpu_seconds",
                            "process_open_fds", "process_max_fds"]  # fmt: skip
    assert list(ours) == list(theirs)
    for name, metric in theirs.items():
        assert (ours[name].type, ours[name].documentation) == (metric.type, metric.documentation)
        (sample,), (expected,) = ours[name].samples, metric.samples
        assert sample.name == expected.name
        assert sample.value == pytest.approx(expected.value, rel=0.05, abs=2.0)


def test_descriptors_are_counted_with_and_without_the_kernels_help(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = ProcessFigures()
    before = figures.count_descriptors()
    with socket.socket(), socket.socket():
        assert figures.count_descriptors() == before + 2
        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", lambda path: os.stat_result((0,) * 10))
            assert figures.count_descriptors() in (before + 2, before + 3)  # listing opens one itself


def test_it_needs_no_more_than_its_own_directory(tmp_path: Path) -> None:
    """ProcSubset=pid leaves /proc/self and takes /proc/stat away; elsewhere there is nothing at all."""
    shutil.copy("/proc/self/stat", tmp_path / "stat")
    (tmp_path / "fd").mkdir()
    (tmp_path / "limits").write_text(
        "Limit  Soft Limit  Hard Limit  Units\nMax open files  unlimited  unlimited  files\n"
    )
    found = by_name(ProcessFigures(tmp_path))
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6
    assert found["process_max_fds"].samples[0].value == float("inf")
    assert by_name(ProcessFigures(tmp_path / "nowhere")) == {}
