"""process_* for /metrics, under the names that every Prometheus client library gives them.

prometheus_client's own collector wants the boot time from /proc/stat, which the service's sandbox hides
(ProcSubset=pid), and then says nothing at all; it also lists every descriptor, 0.4 ms with a thousand connections.
Where there is no /proc there are no figures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# proc_pid_stat(5), counted from the state, which is what follows the command's closing parenthesis.
UTIME, STIME, STARTTIME, VSIZE, RSS = 11, 12, 19, 20, 21


class ProcessFigures(Collector):
    """`proc` is this process's own directory."""

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self.proc = proc
        self.tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self.page_bytes = os.sysconf("SC_PAGE_SIZE")
        # The start is told in ticks since boot, so the wall clock at boot is what makes it a time; taken once, or each
        # step of the clock would look like a restart.
        self.booted_s = time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def collect(self) -> Iterator[Metric]:
        try:
            fields = (self.proc / "stat").read_bytes().rpartition(b")")[2].split()
            limits = (self.proc / "limits").read_bytes()
            open_fds = self.count_descriptors()
        except OSError:
            return
        started_s = self.booted_s + int(fields[STARTTIME]) * self.tick_s
        spent_s = (int(fields[UTIME]) + int(fields[STIME])) * self.tick_s
        yield gauge("virtual_memory_bytes", "Virtual memory size in bytes.", int(fields[VSIZE]))
        yield gauge("resident_memory_bytes", "Resident memory size in bytes.", int(fields[RSS]) * self.page_bytes)
        yield gauge("start_time_seconds", "Start time of the process since unix epoch in seconds.", started_s)
        yield CounterMetricFamily(
            "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", value=spent_s
        )
        yield gauge("open_fds", "Number of open file descriptors.", open_fds)
        for line in limits.splitlines():
            if line.startswith(b"Max open files"):
                soft = line.split()[3]
                most = float("inf") if soft == b"unlimited" else float(soft)
                yield gauge("max_fds", "Maximum number of open file descriptors.", most)

    def count_descriptors(self) -> int:
        """Linux 6.2 and later tell the number as the directory's size; before, all are listed."""
        return os.stat(self.proc / "fd").st_size or len(os.listdir(self.proc / "fd"))


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"process_{name}", text, value=value)
