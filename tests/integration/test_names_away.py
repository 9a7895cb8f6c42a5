"""No name server answers: the daemon still ends within 5 s and with 0, whatever its resolver's threads are at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

NAMESPACES = ["unshare", "--mount", "--net"]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0
    or not Path("/etc/resolv.conf").exists()
    or subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root, and the right to make namespaces",
)

# The machine's resolver asks 127.0.0.1, where somebody listens and never says anything, or nobody does. The daemon is
# stopped while it asks for the exchange's name (that of the defaults; no packet can leave the namespace).
SCRIPT = """
import json, os, socket, subprocess, sys, time
mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == "mute":
    mute.bind(("127.0.0.1", 53))
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind("notify")
ends = []
for after_s in (0.0, 0.0, 0.0, 1.5):
    command = [sys.executable, "-m", "mdfeed", "serve", "--http", "127.0.0.1:0"]
    environment = os.environ | {"NOTIFY_SOCKET": os.path.abspath("notify")}
    daemon = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while b"READY=1" not in manager.recv(4096):
        pass
    time.sleep(after_s)
    daemon.terminate()
    begun = time.monotonic()
    said = daemon.communicate()[1].decode()
    ends.append([daemon.returncode, time.monotonic() - begun, said])
print(json.dumps(ends))
"""


@pytest.mark.parametrize("server", ["mute", "absent"])
def test_ends_in_order_while_a_name_is_asked_for(tmp_path: Path, server: str) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    prepared = (
        "ip link set lo up\n"
        f'mount --bind {tmp_path}/resolv.conf "$(realpath /etc/resolv.conf)"\n'
        f'mount --bind {tmp_path}/nsswitch.conf "$(realpath /etc/nsswitch.conf)"\n'
        f'exec "{sys.executable}" -c "$SCRIPT" {server}\n'
    )
    done = subprocess.run(
        [*NAMESPACES, "sh", "-ec", prepared],
        env=os.environ | {"SCRIPT": SCRIPT, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    for code, took_s, said in json.loads(done.stdout):
        assert code == 0, said
        assert took_s < 5, said
        assert "mdfeed.service: stopped" in said
