"""Runs in the daemon's place, in the unit's sandbox: tries what the daemon needs, and what an intruder would like.

Writes {"needs": {name: "ok" or the error}, "refused": {name: the error, or "DONE"}} to /var/lib/mdfeed/findings, says
READY and goes on serving one HTTP answer after another on port 8080.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import mmap
import os
import pathlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker, shared_memory

from mdfeed.notify import notify

libc = ctypes.CDLL(None, use_errno=True)
rings: dict[str, shared_memory.SharedMemory] = {}


def must(done: int) -> None:
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def ping(family: int, address: tuple[str, int] | str) -> None:
    with socket.socket(family) as redis:
        redis.connect(address)
        redis.sendall(b"PING\r\n")
        assert redis.recv(64) == b"+PONG\r\n"


def tls_out() -> None:
    context = ssl.create_default_context(cafile="/etc/probe-ca.pem")
    with (
        socket.create_connection(("localhost", 4433)) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass


def write(path: str) -> None:
    pathlib.Path(path).write_text("probe")


def make_ring(name: str, mode: int | None) -> None:
    rings[name] = shared_memory.SharedMemory(name, create=True, size=4096)
    resource_tracker.unregister(f"/{name}", "shared_memory")  # the ring lives as long as the unit, not the tracker
    rings[name].buf[:5] = b"ticks"
    if mode is not None:
        os.chmod(f"/dev/shm/{name}", mode)


def tell_journal() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(b"MESSAGE=probe\nSYMBOL=BTCUSDT\n", "/run/systemd/journal/socket")


def run_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()
    thread.join()


def import_compiled() -> None:
    for name in ("hiredis", "msgspec", "picows", "simdjson", "yaml"):
        importlib.import_module(name)
    importlib.import_module("uvloop").new_event_loop().close()


def open_many() -> None:
    for descriptor in [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]:
        os.close(descriptor)


def list_others() -> None:
    if os.path.exists("/proc/1/cmdline"):
        raise AssertionError("other processes are visible")
    raise PermissionError("other processes are invisible")


NEEDS: dict[str, Callable[[], object]] = {
    "redis by TCP": lambda: ping(socket.AF_INET, ("127.0.0.1", 6379)),
    "redis by socket": lambda: ping(socket.AF_UNIX, "/run/probe-redis/redis.sock"),
    "TLS out": tls_out,
    "names resolved": lambda: socket.getaddrinfo("localhost", 80),
    "state directory": lambda: write("/var/lib/mdfeed/probe"),
    "runtime directory": lambda: write("/run/mdfeed/probe"),
    "ring in /dev/shm": lambda: make_ring("probe_ring", 0o644),
    "ring for its group": lambda: make_ring("probe_group_ring", 0o640),
    "ring for itself": lambda: make_ring("probe_own_ring", None),
    "journal's own socket": tell_journal,
    "threads": run_thread,
    "compiled modules": import_compiled,
    "own process figures": lambda: pathlib.Path("/proc/self/stat").read_text(),
    "1,100 open descriptors": lambda: [
        os.close(each) for each in [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    ],
}
REFUSED: dict[str, Callable[[], object]] = {
    "write the configuration": lambda: write("/etc/mdfeed/config.yaml"),
    "write the program": lambda: write("/opt/mdfeed/venv/bin/mdfeed"),
    "write /usr": lambda: write("/usr/probe"),
    "write a home": lambda: write("/home/probe"),
    "look into /root": lambda: os.listdir("/root"),
    "read the passwords": lambda: pathlib.Path("/etc/shadow").read_text(),
    "see other processes": list_others,
    "become root": lambda: os.setuid(0),
    "bind a low port": lambda: socket.socket().bind(("127.0.0.1", 80)),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "ping packets": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "writable code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "new namespaces": lambda: must(libc.unshare(0x10000000)),
    "mount": lambda: must(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "a set-uid file": lambda: os.chmod("/var/lib/mdfeed/probe", 0o4755),
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "trace a process": lambda: must(libc.ptrace(16, os.getppid(), 0, 0)),
    "kernel settings": lambda: write("/proc/sys/kernel/core_pattern"),
    "memory device": lambda: os.open("/dev/mem", os.O_RDONLY),
    "the kernel's log": lambda: must(libc.klogctl(3, ctypes.create_string_buffer(64), 64)),
}


def attempt(call: Callable[[], object], done: str) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return done


findings = {
    "needs": {name: attempt(call, "ok") for name, call in NEEDS.items()},
    "refused": {name: attempt(call, "DONE") for name, call in REFUSED.items()},
}
pathlib.Path("/var/lib/mdfeed/findings").write_text(json.dumps(findings))
with socket.create_server(("0.0.0.0", 8080)) as server:
    notify("READY=1")
    while True:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            rings["probe_group_ring"].buf[0] += 1  # what a reader of it sees
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\nprobe")
