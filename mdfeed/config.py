"""The configuration: typed keys with their meaning, and the one way to load them.

Answers for: which keys exist, their types, ranges, defaults and descriptions (the structs below are the only truth;
the shipped config.yaml is rendered from them), precedence (option > environment > file > default), the place of every
mistake, the origin of every effective value. Refuses to know: which venues exist, and what any key does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
import yaml
from msgspec import Meta, Struct

from mdfeed.errors import ConfigError, UsageError
from mdfeed.keyfile import Given, read_keys, suggest

MAX_SECRET_BYTES = 1 << 16
# Keys whose value may hold a password. Each has a twin `<key>_file` that names a file holding the value.
SECRETS = frozenset({"redis_url"})

Output = Literal["market_data", "orderbook", "trades", "state", "book", "bbo", "trades_stream", "events"]
OUTPUTS: list[Output] = list(get_args(Output))


class Book(Struct, frozen=True):
    """How much of the venue's book is asked for and kept."""

    snapshot_limit: Annotated[
        int, Meta(description="levels a side that a REST snapshot is asked for", ge=5, le=5000)
    ] = 1000
    max_levels: Annotated[
        int,
        Meta(
            description="levels a side kept of one book; the farthest from the touch are dropped first",
            ge=100,
            le=1_000_000,
        ),
    ] = 10_000
    buffer_mib: Annotated[
        int, Meta(description="MiB, all symbols together, for frames that wait for their snapshot", ge=1, le=1024)
    ] = 64


class Lines(Struct, frozen=True):
    """The WebSocket connections to the venue."""

    max_streams: Annotated[
        int, Meta(description="streams on one connection; more of them open more connections", ge=1, le=1024)
    ] = 200


class Redis(Struct, frozen=True):
    """What is written to Redis."""

    outputs: Annotated[list[Output], Meta(description="what is written; leave out what nobody reads")] = msgspec.field(
        default_factory=lambda: list(OUTPUTS)
    )


class Http(Struct, frozen=True):
    """/health, /ready and /metrics; the port is health_port above."""

    host: Annotated[str, Meta(description="address to listen on; 127.0.0.1 keeps it to this machine", min_length=1)] = (
        "0.0.0.0"
    )


class Log(Struct, frozen=True):
    """The log, on stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json", "journal"],
        Meta(
            description="text, json, journal (priority prefixes for systemd), or auto: journal under systemd, else text"
        ),
    ] = "auto"


class Config(Struct, frozen=True):
    """Every key. `origin` holds where each effective value came from: default, file:line, environment or option."""

    symbols: Annotated[list[str], Meta(description="instruments, as the venue spells them", min_length=1)] = (
        msgspec.field(default_factory=lambda: ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"])
    )
    exchange_ws_url: Annotated[
        str, Meta(description="WebSocket of the exchange (ws, wss); each channel is routed from it")
    ] = "wss://fstream.binance.com/stream"
    exchange_rest_url: Annotated[
        str, Meta(description="REST of the exchange (http, https): snapshots, 24 h figures")
    ] = "https://fapi.binance.com"
    redis_url: Annotated[
        str, Meta(description="redis://[user:password@]host:port/db, rediss:// for TLS, or unix:///path")
    ] = "redis://localhost:6379"
    order_book_depth: Annotated[
        int, Meta(description="levels a side published on orderbook:{SYMBOL}", ge=1, le=5000)
    ] = 20
    health_port: Annotated[
        int, Meta(description="TCP port of /health, /ready, /metrics; 0 takes any free one", ge=0, le=65535)
    ] = 8080
    shm_name: Annotated[
        str,
        Meta(
            description="name of the shared-memory ring; accepted, there is no ring yet", min_length=1, max_length=250
        ),
    ] = "market_data_shm"
    reconnect_delay_ms: Annotated[
        int, Meta(description="ms before the first attempt to reconnect", ge=1, le=3_600_000)
    ] = 1000
    max_reconnect_delay_ms: Annotated[
        int, Meta(description="ms between attempts to reconnect, at most", ge=1, le=86_400_000)
    ] = 60_000
    venue: Annotated[str, Meta(description="exchange and its dialect", pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")] = (
        "binance-usdm"
    )
    exchange_routes: Annotated[
        Literal["auto", "split", "single"],
        Meta(description="auto; split: one connection for each of the venue's routes; single: one for all channels"),
    ] = "auto"
    transport: Annotated[
        Literal["picows", "websockets"], Meta(description="WebSocket library: picows (fast) or websockets")
    ] = "picows"
    depth_stream: Annotated[
        Literal["0ms", "100ms", "250ms", "500ms"],
        Meta(description="pace of the depth diffs: 0ms, 100ms, 250ms or 500ms"),
    ] = "100ms"
    book: Book = msgspec.field(default_factory=Book)
    lines: Lines = msgspec.field(default_factory=Lines)
    redis: Redis = msgspec.field(default_factory=Redis)
    http: Http = msgspec.field(default_factory=Http)
    log: Log = msgspec.field(default_factory=Log)
    origin: dict[str, str] = msgspec.field(default_factory=dict)

    def error(self, key: str, reason: str) -> ConfigError:
        """A ConfigError about `key`, with the place its value came from; for those who check what config cannot."""
        return ConfigError(f"{self.origin.get(key, 'default')}: {key}: {reason}")


@dataclass(frozen=True)
class Key:
    """One key, under its dotted name."""

    name: str
    type: Any
    default: Any
    description: str


def keys() -> dict[str, Key]:
    """Every key by its dotted name, in the order of the shipped file."""

    def walk(struct: type[Struct], prefix: str) -> Iterator[Key]:
        for field in msgspec.structs.fields(struct):
            if isinstance(field.type, type) and issubclass(field.type, Struct):
                yield from walk(field.type, f"{prefix}{field.name}.")
            elif field.name != "origin":
                default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
                meta = next(part for part in get_args(field.type)[1:] if isinstance(part, Meta))
                yield Key(prefix + field.name, field.type, default, meta.description or "")

    return {key.name: key for key in walk(Config, "")}


KEYS = keys()
SECRET_FILES = {f"{name}_file" for name in SECRETS}


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
        file = read_keys(Path(path), KEYS.keys() | SECRET_FILES, environ)
        layers.insert(0, with_secrets(file, Path(path).parent))
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
        section, _, last = name.rpartition(".")
        (top.setdefault(section, {}) if section else top)[last] = value
    return msgspec.convert(top, Config)


def check_together(config: Config) -> None:
    """What no key can be judged by alone."""
    if config.max_reconnect_delay_ms < config.reconnect_delay_ms:
        raise config.error("max_reconnect_delay_ms", f"is below reconnect_delay_ms ({config.reconnect_delay_ms})")
    if config.book.max_levels < config.book.snapshot_limit:
        raise config.error("book.max_levels", f"is below book.snapshot_limit ({config.book.snapshot_limit})")
    if config.book.snapshot_limit < config.order_book_depth:
        raise config.error("book.snapshot_limit", f"is below order_book_depth ({config.order_book_depth})")


# ---- environment and secrets


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """MDFEED_<KEY>, MDFEED_<SECTION>_<KEY>; lists are comma separated; an empty variable is not given."""
    given = {}
    for name in (*KEYS, *SECRET_FILES):
        variable = "MDFEED_" + name.replace(".", "_").upper()
        if environ.get(variable):
            given[name] = Given(environ[variable], "environment", lambda at, v=variable: v, True)  # type: ignore[misc]
    return with_secrets(given, Path())


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


Problem = tuple[tuple[int, ...], str] | None


def no_problem(value: Any) -> Problem:
    return None


def check_symbols(symbols: list[str]) -> Problem:
    for index, symbol in enumerate(symbols):
        if not re.fullmatch(r"[A-Z0-9_]{1,39}", symbol):
            return (index,), f"expected 1 to 39 letters, digits or underscores, got {symbol!r}"
        if symbol in symbols[:index]:
            return (index,), f"{symbol} is listed twice"
    return None


def check_outputs(outputs: list[str]) -> Problem:
    twice = next((index for index, output in enumerate(outputs) if output in outputs[:index]), None)
    return None if twice is None else ((twice,), f"{outputs[twice]} is listed twice")


def url_check(*schemes: str) -> Callable[[str], Problem]:
    def check(url: str) -> Problem:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return (), "not a URL: its host or port cannot be read (write @ : / in a password as %40 %3A %2F)"
        if parts.scheme not in schemes:
            return (), f"expected a URL that starts with {', '.join(f'{scheme}://' for scheme in schemes)}"
        if parts.scheme == "unix":
            return None if parts.path.strip("/") else ((), "expected unix:///path/of/the/socket")
        if not parts.hostname or port == 0 or re.search(r"\s", url):
            return (), f"expected {parts.scheme}://host[:port]"
        return None

    return check


CHECKS: dict[str, Callable[[Any], Problem]] = {
    "symbols": check_symbols,
    "redis.outputs": check_outputs,
    "exchange_ws_url": url_check("ws", "wss"),
    "exchange_rest_url": url_check("http", "https"),
    "redis_url": url_check("redis", "rediss", "unix"),
}


# ---- text


def mask(text: str) -> str:
    """`text` with the passwords of its URLs and its secret-looking query values replaced by ***."""
    text = re.sub(r"(://[^\s/?#@:]*):[^\s/?#]*@", r"\1:***@", text)
    return re.sub(r"(?i)\b((?:password|passwd|token|secret|api_?key|signature)=)[^&\s\"']+", r"\1***", text)


def yaml_text(value: Any) -> str:
    """A value as YAML writes it on one line, secrets masked."""
    text = yaml.safe_dump(mask(value) if isinstance(value, str) else value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def show_config(config: Config) -> str:
    """The effective values as a YAML file, the origin of each as its comment."""
    effective = {}
    for name in KEYS:
        section, dot, last = name.partition(".")
        effective[name] = getattr(getattr(config, section), last) if dot else getattr(config, name)
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
    sections = {field.name: field.type for field in msgspec.structs.fields(Config)}
    lines: list[str] = []
    open_section = ""
    for name, key in KEYS.items():
        section, dot, last = name.rpartition(".")
        indent = "  " if dot else ""
        if section != open_section:
            lines += ["", f"# {sections[section].__doc__}"] if is_commented else []
            lines.append(f"{section}:")
            open_section = section
        lines += [f"{indent}# {key.description}"] if is_commented else []
        lines.append(f"{indent}{last}: {yaml_text(values[name])}{remarks[name]}")
        if is_commented and name in SECRETS:
            lines.append(f"{indent}# {last}_file: /run/secrets/{last}  # instead of {last}: a file that holds it")
    return "\n".join(lines) + "\n"
