"""The house keeps its own rules: imports go down only, files stay small, nothing is left undocumented."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from mdfeed.cli import door
from mdfeed.config import KEYS, load_config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mdfeed"
SOURCES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pyi"))
# Top-level modules by floor (docs/ARCHITECTURE.md). A package counts whole. A new module is given a floor here.
FLOORS = [
    "_types errors settings config keyfile",
    "_pulse _text _ladder _grid _audit _rows _book _parse _payload _encode _resp _recent _valve _window _stats",
    "venues",
    "_fuse _races _slots _proof _publish _sync _tape _recall _trust _seat _track _feed _seeds",
    "_clock _line lasting refusals connects kept dial session stream layout lines clock roster governor rest snapshots"
    " upkeep ws_api redis_url sentinel findings redis_checks sinks capture containers player exchange embedded"
    " httphead httpline gate handshakes http api metrics process rates view viewers page glance exposition"
    " upkeep_metrics legacy_metrics logs rehearsal notify lease readiness service figures"
    " backfill forensics resume departed journal redis_link",
    "serve replay inspect doctor sim demo",
    "cli __main__ __init__",
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
VERBS, VENUES, HEART = 5, 2, 3
# Modules and C headers that wait, tell the time or reach outside: nothing up to the heart may know them.
WORLD = {
    *("asyncio", "concurrent", "ctypes", "http", "multiprocessing", "picows", "redis", "select", "selectors", "signal"),
    *("socket", "ssl", "subprocess", "threading", "time", "urllib.request", "uvloop", "websockets", "posix"),
    *("libc.time", "libc.signal"),
}
WORLD_HEADERS = re.compile(r"extern\s+from\s+[\"']<?(time|signal|pthread|unistd|poll|sys/\w+|netinet/\w+)\.h")


def is_compiled(path: Path) -> bool:
    return path.suffix in (".pyx", ".pxd")


def module_of(path: Path) -> str:
    """`venues.binance` for mdfeed/venues/binance.py; `venues` for its __init__; `__init__` for the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports or cimports; `from a import b` gives both `a` and `a.b`."""
    source = path.read_text()
    package = ["mdfeed", *path.relative_to(PACKAGE).parts[:-1]]
    if not is_compiled(path):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
        return
    for match in re.finditer(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n#]*)", source, re.MULTILINE):
        base = match[1]
        if base.startswith("."):
            level = len(base) - len(base.lstrip("."))
            base = ".".join([*package[: len(package) - level + 1], base.lstrip(".")]).rstrip(".")
        yield base
        yield from (f"{base}.{name}" for name in re.findall(r"(?:^|[,(])\s*(\w+)", match[2]))
    for match in re.finditer(r"^[ \t]*c?import[ \t]+([^\n#]+)", source, re.MULTILINE):
        yield from re.findall(r"(?:^|,)\s*([\w.]+)", match[1])


def house_imports(path: Path) -> set[str]:
    """The modules of the house, without `mdfeed.`, that a file imports."""
    known = {module_of(source) for source in SOURCES}
    names = {name.removeprefix("mdfeed.") for name in imports_of(path) if name.startswith("mdfeed.")}
    return (names & known) - {module_of(path)}


def floor_of(module: str) -> int:
    top = module.partition(".")[0]
    assert top in FLOOR_OF, f"mdfeed/{top} has no floor: give it one in FLOORS"
    return FLOOR_OF[top]


def family_of(module: str) -> str:
    return module.rpartition(".")[2].strip("_").partition("_")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    module = module_of(path)
    floor, imported = floor_of(module), house_imports(path)
    above = {name for name in imported if floor_of(name) > floor}
    assert not above, f"floor {floor} imports from above"
    if floor == VERBS:
        assert not {name for name in imported if floor_of(name) == VERBS}, "verbs do not import verbs"
    package, _, name = module.partition(".")
    if package in ("venues", "sinks") and name:
        # Parts of its own are no other venue: binance may use _binance_wire, redis may use redis_url.
        others = {
            other for other in imported if other.startswith(f"{package}.") and family_of(other) != family_of(module)
        }
        assert not others, f"{package} do not import {package}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_up_to_the_heart_knows_the_world(path: Path) -> None:
    if floor_of(module_of(path)) > HEART:
        return
    known = {name for name in imports_of(path) if {name, name.partition(".")[0]} & WORLD}
    assert not known
    assert not (is_compiled(path) and WORLD_HEADERS.search(path.read_text()))


def test_the_import_reader_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    (tmp_path / "a.pyx").write_text(
        "from mdfeed._x cimport (\n    A, B as C\n)\ncimport libc.time, posix.time as t\nfrom ._y import D  # e\n"
        "def f():\n    import socket\n"
    )
    (tmp_path / "b.py").write_text("import a.b, c\nfrom . import d\nfrom mdfeed.e import f\ndef g():\n    import h\n")
    cython, python = set(imports_of(tmp_path / "a.pyx")), set(imports_of(tmp_path / "b.py"))
    assert {"mdfeed._x.A", "mdfeed._x.B", "libc.time", "posix.time", "mdfeed._y.D", "socket"} <= cython
    assert {"a.b", "c", "mdfeed.d", "mdfeed.e.f", "h"} <= python


def test_files_are_small() -> None:
    suffixes = (".py", ".pyx", ".pxd", ".pyi", ".h", ".hpp", ".cpp", ".sh", ".html", ".css", ".js")
    folders = [ROOT / name for name in ("mdfeed", "tests", "bench", "scripts")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in suffixes]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert len(lengths) > 50
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_file_or_class_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "core", "common", "manager", "handler", "engine"}
    assert [str(path) for path in SOURCES if path.stem.strip("_") in vague] == []
    classes = {
        name for path in SOURCES for name in re.findall(r"^\s*(?:cdef )?class (\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(classes) > 20
    assert {name for name in classes if re.search(r"(Manager|Handler|Engine|Client)$", name)} == set()


def test_every_module_says_what_it_answers_for() -> None:
    modules = [path for path in SOURCES if path.suffix in (".py", ".pyx")]
    silent = []
    for path in modules:
        if path.suffix == ".py":
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
        else:
            found = re.match(r'(?:#[^\n]*\n|\s)*"""(.+?)"""', path.read_text(), re.DOTALL)
            text = found[1] if found else ""
        if len(text) < 20:
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert [str(path.relative_to(ROOT)) for path in SOURCES if marks.search(path.read_text())] == []


def test_every_compiled_module_has_a_stub() -> None:
    compiled = [path for path in SOURCES if path.suffix == ".pyx"]
    assert len(compiled) >= 5
    assert [path.name for path in compiled if not path.with_suffix(".pyi").exists()] == []


def test_nothing_generated_is_tracked() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    written = [name for name in tracked if not name.startswith("mdfeed/static/")]
    assert [name for name in written if re.search(r"\.(so|o|a|pyc|html|egg-info)$", name)] == []
    sources = {name.removesuffix(".pyx") for name in tracked if name.endswith(".pyx")}
    assert [name for name in tracked if re.sub(r"\.(c|cpp)$", "", name) in sources and not name.endswith(".pyx")] == []


def commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def test_every_command_and_option_has_its_help() -> None:
    for name, command in commands(door, "mdfeed"):
        assert len(command.help or "") > 10, name
        options = [param for param in command.params if isinstance(param, click.Option)]
        assert [option.name for option in options if not option.help] == [], name


def test_every_command_is_in_the_readme() -> None:
    names = [name for name, _ in commands(door, "mdfeed")]
    assert len(names) >= 8
    lines = (ROOT / "README.md").read_text().splitlines()

    def is_documented(name: str) -> bool:
        """On one line: `mdfeed serve`; for the commands of a group, the group and the command's own name."""
        group, _, last = name.rpartition(" ")
        return any(name in line or (group != "mdfeed" and group in line and f"`{last}`" in line) for line in lines)

    assert [name for name in names if not is_documented(name)] == []


def test_every_config_key_is_in_the_shipped_file_with_its_default() -> None:
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text())

    def walk(mapping: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
        for name, value in mapping.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    assert dict(walk(shipped)) == {name: key.default for name, key in KEYS.items()}
    assert load_config(ROOT / "config.yaml", {}, {}).symbols == KEYS["symbols"].default


def test_every_row_of_the_threat_model_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "SECURITY.md").read_text()
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))
    assert len(named) > 30
    assert {
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).exists() or not re.search(rf"def {name}\(", (ROOT / file).read_text())
    } == set()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "shown by" not in line]
    first = next(index for index, row in enumerate(rows) if row.startswith("| a frame that is not JSON"))
    threats = rows[first:]
    assert [row for row in threats if "::" not in row] == []
