"""A YAML file as dotted keys, each with its place.

Answers for: line and column of every key and value, unknown and repeated keys, `${VAR}`, and a clear ConfigError for
whatever else is wrong with the file. Refuses to know: what the keys mean and which types they have.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mdfeed.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Given:
    """What one layer says of one key.

    `origin` is short ("config.yaml:3", "environment"); `place(at)` is where a mistake is, `at` being list indices.
    `is_text`: it came as text (environment, option, ${VAR}), so "8080" may be an int.
    """

    value: Any
    origin: str
    place: Callable[[tuple[int, ...]], str]
    is_text: bool


def read_keys(path: Path, known: Collection[str], environ: Mapping[str, str]) -> dict[str, Given]:
    """The keys of the file under their dotted names; `known` are all that may occur. An empty file has none."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `mdfeed config init` prints a commented file") from None
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB: not a configuration")
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        if root is None or root.tag == NULL:
            return {}
        return dict(Walk(path, known, environ, loader).mapping(root, ""))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None


class Loader(yaml.SafeLoader):
    """YAML without aliases: nothing here needs them, and they can blow a small file up or tie it in a knot."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases are not supported", mark)
        return super().compose_node(parent, index)


class Walk:
    """From YAML nodes to values, the place of each kept."""

    def __init__(self, path: Path, known: Collection[str], environ: Mapping[str, str], loader: Loader) -> None:
        self.path = path
        self.known = known
        self.sections = {name.rpartition(".")[0] for name in known} - {""}
        self.environ = environ
        self.loader = loader

    def place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def mapping(self, node: yaml.Node, prefix: str) -> Iterator[tuple[str, Given]]:
        if node.tag == NULL:
            return  # a section whose keys are all commented out
        if not isinstance(node, yaml.MappingNode):
            reason = f"expected keys with values, got {kind_of(node)}"
            raise ConfigError(f"{self.place(node)}: " + (f"{prefix[:-1]}: {reason}" if prefix else reason))
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            name = prefix + (key_node.value if isinstance(key_node, yaml.ScalarNode) else kind_of(key_node))
            if name in seen:
                raise ConfigError(f"{self.place(key_node)}: {name}: given twice, first in line {seen[name]}")
            seen[name] = key_node.start_mark.line + 1
            # A section's name may be a key as well: then a single value is that key's.
            is_value = isinstance(value_node, yaml.ScalarNode) and value_node.tag != NULL and name in self.known
            if name in self.sections and not is_value:
                yield from self.mapping(value_node, name + ".")
            elif name in self.known:
                yield name, self.given(name, value_node)
            else:
                raise ConfigError(f"{self.place(key_node)}: {name}: unknown key{suggest(name, self.known)}")

    def given(self, name: str, node: yaml.Node) -> Given:
        def place(at: tuple[int, ...]) -> str:
            found = node
            for index in at:
                found = found.value[index] if isinstance(found, yaml.SequenceNode) else found
            return self.place(found)

        value, is_text = self.value(name, node)
        return Given(value, f"{self.path}:{node.start_mark.line + 1}", place, is_text)

    def value(self, name: str, node: yaml.Node) -> tuple[Any, bool]:
        """The value, and whether some of it came from the environment."""
        if isinstance(node, yaml.SequenceNode):
            items = [self.value(name, item) for item in node.value]
            return [value for value, _ in items], any(is_text for _, is_text in items)
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"{self.place(node)}: {name}: expected a value, got {kind_of(node)}")
        if "${" in node.value:
            return self.substitute(name, node), True
        try:
            return self.loader.construct_object(node), False
        except ValueError as error:  # such as the date 2024-13-45
            raise ConfigError(f"{self.place(node)}: {name}: {error}; put it in quotes") from None

    def substitute(self, name: str, node: yaml.ScalarNode) -> str:
        def value_of(match: re.Match[str]) -> str:
            if match[1] not in self.environ:
                raise ConfigError(f"{self.place(node)}: {name}: the environment has no variable {match[1]!r}")
            return self.environ[match[1]]

        return re.sub(r"\$\{([^}]*)\}", value_of, node.value)


def kind_of(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a single value"


def suggest(name: str, names: Collection[str]) -> str:
    """`; did you mean ...?` for a key or a value; empty when nothing is near. Sections are looked through too."""
    whole = {candidate.rpartition(".")[2]: candidate for candidate in names}
    close = difflib.get_close_matches(name.rpartition(".")[2], whole, 1, 0.6)
    return f"; did you mean {whole[close[0]]}?" if close else ""
