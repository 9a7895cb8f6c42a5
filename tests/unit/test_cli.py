"""mdfeed.cli: what each command passes on, exit codes, messages, environment twins, what help imports."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

import mdfeed
from mdfeed.cli import address_of, door, names_of, run, speed_of, time_of
from mdfeed.config import default_file
from mdfeed.errors import CaptureError, ConfigError, MdfeedError, UsageError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "rich",
    "redis",
    "picows",
    "websockets",
    "uvloop",
    "prometheus_client",
    "simdjson",
    "asyncio",
    "yaml",
    "msgspec",
)
COMMANDS = [
    [],
    ["serve"],
    ["demo"],
    ["sim"],
    ["replay"],
    ["inspect"],
    ["doctor"],
    ["config"],
    ["config", "check"],
    ["config", "show"],
    ["config", "init"],
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, no MDFEED_ variables, and the root logger left as it was found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    for name in [name for name in os.environ if name.startswith("MDFEED_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Puts a recorder, or a verb that raises, in place of a verb module."""

    def put(name: str, result: int | BaseException = 0) -> list[Any]:
        calls: list[Any] = []

        def record(*args: Any, **kwargs: Any) -> int:
            calls.append((args, kwargs))
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(mdfeed, name, SimpleNamespace(run=record), raising=False)
        return calls

    return put


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    script = "import sys; from mdfeed.cli import run; print(run(sys.argv[1:]), *sys.modules, file=sys.stderr)"
    asked = [sys.executable, "-c", script, *command, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "--help" in done.stdout
    code, *imported = done.stderr.split()
    assert code == "0"
    assert "mdfeed.cli" in imported
    assert set(imported).isdisjoint(HEAVY)


def test_the_commands_are_those_of_the_contract_so_far() -> None:
    assert list(door.commands) == ["serve", "demo", "sim", "replay", "inspect", "doctor", "config"]


def test_serve_passes_the_effective_configuration(verb: Any, tmp_path: Path) -> None:
    calls = verb("serve", 0)
    (tmp_path / "other.yaml").write_text("symbols: [A]\nhealth_port: 1\norder_book_depth: 7\n")
    arguments = ["serve", "-c", "other.yaml", "--symbols", "btcusdt,ETHUSDT", "--http", "[::1]:9", "--venue", "v"]
    assert run([*arguments, "--redis-url", "redis://h:1"]) == 0
    ((config, *_), _) = calls[0]
    assert (config.symbols, config.venue, config.redis_url) == (["BTCUSDT", "ETHUSDT"], "v", "redis://h:1")
    assert (config.http.host, config.health_port, config.order_book_depth) == ("::1", 9, 7)
    assert config.origin["order_book_depth"] == "other.yaml:3"


def test_a_config_yaml_here_is_found_and_twins_beat_the_environment(
    verb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = verb("serve")
    (tmp_path / "config.yaml").write_text("order_book_depth: 7\nhealth_port: 5\n")
    monkeypatch.setenv("MDFEED_SYMBOLS", "A")
    monkeypatch.setenv("MDFEED_SERVE_SYMBOLS", "B")
    monkeypatch.setenv("MDFEED_SERVE_HTTP", ":6")
    assert run(["serve", "-v"]) == 0
    ((config, *_), _) = calls[0]
    assert (config.order_book_depth, config.symbols, config.health_port) == (7, ["B"], 6)
    assert (config.http.host, config.log.level) == ("0.0.0.0", "debug")


def test_demo_sim_replay_inspect_pass_their_options(verb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = tmp_path / "a.gz"
    capture.touch()
    demo, sim, replay, inspect = (verb(name) for name in ("demo", "sim", "replay", "inspect"))
    assert run(["demo"]) == run(["demo", "--seconds", "2.5", "--no-ui", "--symbols", "A,B", "--capture", "a.gz"]) == 0
    assert [args for args, _ in demo] == [(None, True, None, None), (2.5, False, ["A", "B"], Path("a.gz"))]
    assert run(["sim", "--port", "0", "--seed", "9", "--rate", "5", "--fault", "x y", "--fault", "z"]) == 0
    key = tmp_path / "k.pem"
    key.touch()
    assert run(["sim", "--tls"]) == run(["sim", "--tls-cert", "a.gz", "--tls-key", str(key)]) == 0
    assert run(["sim", "--tls-key", str(key)]) == 2
    assert sim[0] == ((0, [], 9, 5.0, None, ["x y", "z"]), {"tls": False, "tls_files": None})
    assert [more for _, more in sim[1:]] == [
        {"tls": True, "tls_files": None},
        {"tls": True, "tls_files": (Path("a.gz"), key)},
    ]
    monkeypatch.setenv("MDFEED_REPLAY_TO", "1721260800")
    monkeypatch.setenv("MDFEED_REPLAY_JSON", "1")
    assert (
        run(["replay", "a.gz", "--from", "2024-07-18", "--sink", "stdout", "--to-update-id", "5", "--speed", "2"]) == 0
    )
    ((files,), options) = replay[0]
    assert files == [Path("a.gz")]
    assert options == {
        "speed": 2.0,
        "start_ns": 1721260800 * 10**9,
        "end_ns": 1721260800 * 10**9,
        "symbols": [],
        "sink": "stdout",
        "json": True,
        "to_update_id": 5,
        "venue": None,
    }
    assert run(["inspect", "btcusdt", "--follow", "--json", "--redis-url", "redis://h"]) == 0
    assert inspect == [((["BTCUSDT"], True, True, False, "redis://h"), {})]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MdfeedError("port taken"), 1, "mdfeed: error: port taken\n"),
        (UsageError("a and b"), 2, "mdfeed: error: a and b\n"),
        (ConfigError("config.yaml:1:1: x"), 78, "mdfeed: error: config.yaml:1:1: x\n"),
        (CaptureError("torn", 5), 1, "mdfeed: error: torn (at byte 5)\n"),
        (ValueError("two\nlines redis://:pw@h"), 1, "mdfeed: error: unexpected ValueError: two lines redis://:***@h"),
        (ExceptionGroup("a", [ExceptionGroup("b", [KeyError("c")])]), 1, "mdfeed: error: unexpected KeyError: 'c'; -"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    verb: Any, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    verb("serve", error)
    assert run(["serve"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert len(err.strip().splitlines()) == bool(message)


def test_a_fault_of_ours_names_its_line(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("c")
    except KeyError as error:
        verb("serve", ExceptionGroup("a", [error]))
    assert run(["serve"]) == 1
    assert re.search(r"unexpected KeyError: 'c' at test_cli\.py:\d+; --debug shows more", capsys.readouterr().err)


def test_a_verbs_status_is_the_exit_code_and_debug_shows_the_traceback(verb: Any) -> None:
    verb("demo", 3)
    assert run(["demo"]) == 3
    verb("demo", MdfeedError("x"))
    with pytest.raises(MdfeedError):
        run(["demo", "--debug"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["serve", "--nosuch"], "No such option"),
        (["serve", "--http", "h"], "'h' is not HOST:PORT (see mdfeed serve --help)"),
        (["serve", "--http", "h:70000"], "'h:70000' is not HOST:PORT"),
        (["serve", "--symbols", "A,,B"], "'A,,B' has an empty name"),
        (["serve", "--symbols", "A/B"], "option: symbols[0]: expected capital letters"),
        (["demo", "--seconds", "0"], "0.0 is not in the range x>0"),
        (["demo", "--capture", "none"], "'none' does not exist"),
        (["replay"], "Missing argument"),
        (["replay", "none"], "'none' does not exist"),
        (["sim", "--port", "65536"], "65536 is not in the range"),
    ],
)
def test_wrong_usage_is_one_line_and_2(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mdfeed: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_no_command_shows_help_on_stderr_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_version_says_the_name_and_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mdfeed ")


def test_config_check_show_init(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["config", "init"]) == 0
    assert capsys.readouterr().out == default_file()
    assert run(["config", "init", "config.yaml"]) == 0
    assert (tmp_path / "config.yaml").read_text() == default_file()
    assert run(["config", "check"]) == 0
    assert capsys.readouterr().out == "config.yaml: ok, 4 symbols of binance-usdm\n"
    assert run(["config", "init", "config.yaml"]) == 1
    assert "config.yaml: File exists; nothing was written" in capsys.readouterr().err
    (tmp_path / "bad.yaml").write_text("redis_url: redis://:pw@h\n\nsymbols: [A, 1]\n")
    assert run(["config", "check", "-c", "bad.yaml"]) == 78
    assert capsys.readouterr().err == "mdfeed: error: bad.yaml:3:14: symbols[1]: expected str, got int\n"
    (tmp_path / "venue.yaml").write_text("symbols: [A]\nvenue: binance-usd\n")
    assert run(["config", "check", "-c", "venue.yaml"]) == 78
    assert "venue.yaml:2: venue: unknown venue 'binance-usd'; did you mean 'binance-usdm'?" in capsys.readouterr().err
    (tmp_path / "good.yaml").write_text("redis_url: redis://:pw@h\n")
    assert run(["config", "show", "-c", "good.yaml"]) == 0
    assert "redis_url: redis://:***@h  # good.yaml:1\n" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error_message() -> None:
    command = f"{sys.executable} -m mdfeed config init | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")


def test_values_of_options() -> None:
    assert names_of(" A, B ") == ["A", "B"]
    assert [address_of(text) for text in ("h:1", ":2", "3", "[::]:4")] == [("h", 1), (None, 2), (None, 3), ("::", 4)]
    assert [speed_of(text) for text in ("max", "1", "0.5")] == [0.0, 1.0, 0.5]
    for text in ("0", "-1", "nan", "inf", "fast", ""):
        with pytest.raises(click.BadParameter):
            speed_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "1721299507",
        "1721299507000",
        "1721299507000000",
        "1721299507000000000",
        "1721299507.0",
        "1721299507000.000000",
        "2024-07-18T10:45:07Z",
        "2024-07-18T10:45:07",
        "2024-07-18 12:45:07+02:00",
    ],
)
def test_times_are_exact_in_every_form(text: str) -> None:
    assert time_of(text) == 1721299507 * 10**9


def test_a_fraction_of_a_time_is_kept_and_nonsense_refused() -> None:
    assert time_of("1721299507.123456789") == 1721299507123456789
    assert time_of("2024-07-18T10:45:07.123456Z") == 1721299507123456000
    for text in ("", "yesterday", "1.2.3", "1721299507000000000.5", "99999999999999999999", "2024-13-01"):
        with pytest.raises(click.BadParameter):
            time_of(text)
