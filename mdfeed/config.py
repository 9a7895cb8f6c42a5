"""The configuration: the one way to load the settings, and to show them.

Answers for: precedence (option > environment > file > default), the place of every mistake, the origin of every
effective value, secrets from files and their masking. Refuses to know: which keys exist (settings.py), which venues
exist, and what any key does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import yaml

from mdfeed.errors import ConfigError, UsageError
from mdfeed.keyfile import Given, read_keys, suggest
from mdfeed.settings import (
    CHECKS,
    KEYS,
    NO_FOLDER,
    PATHS,
    SECRET_FILES,
    SECRETS,
    SECTIONS,
    SYNONYMS,
    Config,
    Key,
    no_problem,
)

__all__ = [
    "KEYS",
    "SECRETS",
    "SECRET_FILES",
    "Config",
    "default_file",
    "load_config",
    "mask",
    "show_config",
    "value_of",
]

MAX_SECRET_BYTES = 1 << 16


def load_config(
    path: str | Path | None, options: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """The effective configuration.

    `path` names a YAML file (None: no file), `options` holds values by dotted key (None values are not given),
    `environ` is os.environ unless given. Raises ConfigError for a mistake in file or environment, UsageError for one
    in `options`. Reads files, nothing else.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {key.name: key.default for key in KEYS.values()}
    origin = dict.fromkeys(KEYS, "default")
    layers = [from_environment(environ)]
    if path is not None:
        file = with_synonyms(read_keys(Path(path), KEYS.keys() | SECRET_FILES | SYNONYMS.keys(), environ))
        layers.insert(0, with_paths(with_secrets(file, Path(path).parent), Path(path).parent))
    for layer in layers:
        for name, given in layer.items():
            values[name], origin[name] = convert(KEYS[name], given, ConfigError), given.origin
    for name, value in (options or {}).items():
        if value is not None:
            given = Given(value, "option", lambda at: "option", isinstance(value, str))
            values[name], origin[name] = convert(KEYS[name], given, UsageError), "option"
    config = build(values, origin)
    check_together(config)
    return config


def build(values: Mapping[str, Any], origin: dict[str, str]) -> Config:
    top: dict[str, Any] = {"origin": origin}
    for name, value in values.items():
        *sections, last = name.split(".")
        place = top
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return msgspec.convert(top, Config)


def check_together(config: Config) -> None:
    """What no key can be judged by alone."""
    if config.max_reconnect_delay_ms < config.reconnect_delay_ms:
        raise config.error("max_reconnect_delay_ms", f"is below reconnect_delay_ms ({config.reconnect_delay_ms})")
    if config.book.max_levels < config.book.snapshot_limit:
        raise config.error("book.max_levels", f"is below book.snapshot_limit ({config.book.snapshot_limit})")
    if config.book.snapshot_limit < config.order_book_depth:
        raise config.error("book.snapshot_limit", f"is below order_book_depth ({config.order_book_depth})")
    for one, other in (
        ("http.auth.user", "http.auth.password"),
        ("http.auth.password", "http.auth.user"),
        ("http.tls.cert", "http.tls.key"),
        ("http.tls.key", "http.tls.cert"),
        ("http.tls.client_ca", "http.tls.cert"),
    ):
        if value_of(config, one) is not None and value_of(config, other) is None:
            raise config.error(one, f"needs {other} too")


# ---- environment and secrets


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """MDFEED_<KEY>, MDFEED_<SECTION>_<KEY>; lists are comma separated; an empty variable is not given."""
    given = {}
    for name in (*KEYS, *SECRET_FILES, *SYNONYMS):
        variable = "MDFEED_" + name.replace(".", "_").upper()
        if environ.get(variable):
            given[name] = Given(environ[variable], "environment", lambda at, v=variable: v, True)  # type: ignore[misc]
    return with_secrets(with_synonyms(given), Path())


def with_synonyms(given: dict[str, Given]) -> dict[str, Given]:
    """The same layer with every key under its proper name."""
    for synonym, name in SYNONYMS.items():
        item = given.pop(synonym, None)
        if item is not None and name in given:
            raise ConfigError(f"{item.place(())}: {synonym}: {name} is given too; keep one of them")
        if item is not None:
            given[name] = item
    return given


def with_secrets(given: dict[str, Given], folder: Path) -> dict[str, Given]:
    """The same layer with each `<key>_file` replaced by what that file holds; relative names start at `folder`."""
    for secret in SECRETS:
        twin = given.pop(f"{secret}_file", None)
        if twin is None:
            continue
        if secret in given:
            raise ConfigError(f"{twin.place(())}: {secret}_file: {secret} is given too; keep one of them")
        if not isinstance(twin.value, str):
            raise ConfigError(f"{twin.place(())}: {secret}_file: expected str, got {type(twin.value).__name__}")
        try:
            with (folder / twin.value).open("rb") as file:
                value = file.read(MAX_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text in UTF-8"
            raise ConfigError(f"{twin.place(())}: {secret}_file: {twin.value}: {reason}") from None
        given[secret] = Given(value, f"{twin.origin} ({twin.value})", twin.place, True)
    return given


def with_paths(given: dict[str, Given], folder: Path) -> dict[str, Given]:
    """The same layer with the names of files made to start at `folder`."""
    return {
        name: replace(item, value=str(folder / item.value))
        if name in PATHS and isinstance(item.value, str) and item.value.lower() != NO_FOLDER
        else item
        for name, item in given.items()
    }


# ---- values


def convert(key: Key, given: Given, error_type: type[ConfigError] | type[UsageError]) -> Any:
    """The typed value, or an error with its place."""
    value = given.value
    inner = get_args(key.type)[0]
    if given.is_text and isinstance(value, str) and get_origin(inner) is list:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if key.name == "symbols" and isinstance(value, list):
        value = [item.upper() if isinstance(item, str) else item for item in value]
    at: tuple[int, ...] = ()
    try:
        typed = msgspec.convert(value, key.type, strict=not given.is_text)
        if problem := CHECKS.get(key.name, no_problem)(typed):
            at, reason = problem
        else:
            return typed
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        at = tuple(int(index) for index in re.findall(r"\[(\d+)\]", path))
        reason = reason_of(text, key, value[at[0]] if at else value)
    name = key.name + "".join(f"[{index}]" for index in at)
    raise error_type(f"{given.place(at)}: {name}: {reason}")


def reason_of(text: str, key: Key, value: Any) -> str:
    """msgspec's sentence in our words, with what was found (unless it may be a secret) and a suggestion."""
    reason = text.replace("`", "").replace("Expected", "expected").replace("array", "list")
    inner = get_args(key.type)[0]
    choices = [str(choice) for choice in get_args(get_args(inner)[0] if get_origin(inner) is list else inner)]
    if reason.startswith("Invalid enum"):
        return f"expected one of {', '.join(choices)}, got {value!r}{suggest(str(value), choices)}"
    if key.name not in SECRETS and not isinstance(value, list):
        if ", got " not in reason:
            return f"{reason}, got {value!r}"
        if isinstance(value, str) and reason.endswith(", got str"):
            return reason.removesuffix("str") + repr(value)
    return reason


# ---- text


def mask(text: str) -> str:
    """`text` with the passwords of its URLs and its secret-looking query values replaced by ***."""
    text = re.sub(r"(://[^\s/?#@:]*):[^\s/?#]*@", r"\1:***@", text)
    text = re.sub(r"\b([\w.%+-]+):[^\s/?#@:]+@(?=[\w\[])", r"\1:***@", text)  # user:password@host alone
    return re.sub(r"(?i)\b((?:\w*_)?(?:password|passwd|token|secret|api_?key|signature)=)[^&\s\"']+", r"\1***", text)


def yaml_text(value: Any) -> str:
    """A value as YAML writes it on one line, secrets masked."""
    text = yaml.safe_dump(mask(value) if isinstance(value, str) else value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def value_of(config: Config, name: str) -> Any:
    """The value of a dotted key."""
    return reduce(getattr, name.split("."), config)


def show_config(config: Config) -> str:
    """The effective values as a YAML file, the origin of each as its comment."""
    effective = {name: value_of(config, name) for name in KEYS}
    for name in SECRETS - {"redis_url"}:
        effective[name] = effective[name] and "***"
    return layout({name: f"  # {config.origin.get(name, 'default')}" for name in KEYS}, effective, is_commented=False)


def default_file() -> str:
    """The commented file that is shipped as config.yaml: every key with its default."""
    head = (
        "# mdfeed: every key with its default. Leave out what should stay so.\n"
        "# An option beats the environment (MDFEED_<KEY>: MDFEED_REDIS_URL, MDFEED_HTTP_HOST...), which beats this\n"
        "# file. ${VAR} is replaced from the environment. Check with `mdfeed config check -c FILE`.\n\n"
    )
    return head + layout(dict.fromkeys(KEYS, ""), {key.name: key.default for key in KEYS.values()}, is_commented=True)


def layout(remarks: Mapping[str, str], values: Mapping[str, Any], is_commented: bool) -> str:
    lines: list[str] = []
    open_sections: list[str] = []
    for name, key in KEYS.items():
        *sections, last = name.split(".")
        for depth, section in enumerate(sections):
            if sections[: depth + 1] != open_sections[: depth + 1]:
                about = SECTIONS[".".join(sections[: depth + 1])]
                indent = "  " * depth
                lines += [""] * (is_commented and depth == 0) + [f"{indent}# {about}"] * is_commented
                lines.append(f"{indent}{section}:")
        open_sections = sections
        indent = "  " * len(sections)
        lines += [f"{indent}# {key.description}"] if is_commented else []
        lines.append(f"{indent}{last}: {yaml_text(values[name])}{remarks[name]}")
        if is_commented and name in SECRETS:
            lines.append(f"{indent}# {last}_file: /run/secrets/{last}  # instead of {last}: a file that holds it")
    return "\n".join(lines) + "\n"
