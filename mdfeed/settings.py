"""The settings: every key with its type, range, default and description, and what is checked of single values.

Answers for: which keys exist (the structs below are the only truth; the shipped config.yaml is rendered from them).
Refuses to know: files, environment, options (config.py), and what any key does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from mdfeed.errors import ConfigError

# Of a symbol, as the decoder and the outputs keep it.
MAX_SYMBOL_BYTES = 39
LEAST_PERIOD_US = 100
# Keys whose value may hold a password. Each has a twin `<key>_file` that names a file holding the value.
SECRETS = frozenset({"redis_url", "http.auth.token", "http.auth.password"})
# Other names of keys, in file and environment.
SYNONYMS = {"lines": "lines.redundancy", "max_streams_per_line": "lines.max_streams"}
# Keys that name a file or a folder; relative names start at the folder of the configuration file.
NO_FOLDER = "none"  # in the place of a folder: nothing is kept
PATHS = frozenset({"state_dir", "http.tls.cert", "http.tls.key", "http.tls.client_ca"})

Output = Literal["market_data", "orderbook", "trades", "state", "book", "bbo", "trades_stream", "events"]
OUTPUTS: list[Output] = list(get_args(Output))
Word = Annotated[str, Meta(min_length=1)]


class Book(Struct, frozen=True):
    """How much of the venue's book is asked for and kept."""

    snapshot_limit: Annotated[
        int,
        Meta(
            description="levels a side of a full REST snapshot: 5, 10, 20, 50, 100, 500, 1000; Spot also 5000",
            ge=5,
            le=5000,
        ),
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
    audit_s: Annotated[
        int,
        Meta(
            description="s after which a good book is compared with a new snapshot; more where the weight does not "
            "suffice",
            ge=10,
            le=86_400,
        ),
    ] = 300


class Lines(Struct, frozen=True):
    """The WebSocket connections to the venue."""

    max_streams: Annotated[
        int, Meta(description="streams on one connection (also max_streams_per_line, at the top)", ge=1, le=1024)
    ] = 200
    redundancy: Annotated[
        int, Meta(description="connections that carry the same: 2 survives a loss (also `lines: 2`)", ge=1, le=2)
    ] = 1
    max_age_h: Annotated[
        float,
        Meta(description="hours after which a connection has been replaced; the venue ends it after 24", gt=0, le=24),
    ] = 23.0
    max_connects: Annotated[
        int,
        Meta(description="connects in five minutes, all lines together; the venue allows an address 300", ge=5, le=300),
    ] = 300


class Rest(Struct, frozen=True):
    """Requests to the venue: snapshots, 24 h figures, missed trades."""

    weight_share: Annotated[
        float,
        Meta(
            description="share of the venue's request weight that is used at most; less when others ask from this "
            "address too",
            ge=0.05,
            le=0.95,
        ),
    ] = 0.9


class Redis(Struct, frozen=True):
    """What is written to Redis."""

    outputs: Annotated[list[Output], Meta(description="what is written; leave out what nobody reads")] = msgspec.field(
        default_factory=lambda: list(OUTPUTS)
    )
    leases: Annotated[
        bool,
        Meta(description="hold mdfeed:lease:{SYMBOL}, so that never two daemons publish one symbol; needs EVAL"),
    ] = True
    trades_maxlen: Annotated[
        int, Meta(description="entries kept in each stream mdfeed:trades:{SYMBOL}, about", ge=1, le=10_000_000)
    ] = 10_000
    events_maxlen: Annotated[
        int, Meta(description="entries kept in the stream mdfeed:events, about", ge=1, le=10_000_000)
    ] = 10_000


class Auth(Struct, frozen=True):
    """Who may ask: a bearer token, or user and password (basic auth), or either; null: everybody."""

    token: Annotated[Word | None, Meta(description="bearer token")] = None
    user: Annotated[Word | None, Meta(description="user name of basic auth, with password")] = None
    password: Annotated[Word | None, Meta(description="password of basic auth")] = None
    exempt_health: Annotated[bool, Meta(description="/health answers without credentials, for probes")] = False


class Tls(Struct, frozen=True):
    """https instead of http; null: no TLS."""

    cert: Annotated[Word | None, Meta(description="file with the certificate chain, PEM")] = None
    key: Annotated[Word | None, Meta(description="file with its private key, PEM, without a passphrase")] = None
    client_ca: Annotated[
        Word | None, Meta(description="file with the authorities whose client certificates are demanded, PEM")
    ] = None


class Http(Struct, frozen=True):
    """/health, /ready, /metrics, the page and the gateway API; the port is health_port above."""

    host: Annotated[str, Meta(description="address to listen on; 127.0.0.1 keeps it to this machine", min_length=1)] = (
        "0.0.0.0"
    )
    origins: Annotated[
        list[str],
        Meta(description="other origins (https://host[:port]) whose pages may open /ws; the daemon's own always may"),
    ] = msgspec.field(default_factory=list)
    auth: Auth = msgspec.field(default_factory=Auth)
    tls: Tls = msgspec.field(default_factory=Tls)


class Forensics(Struct, frozen=True):
    """Files about contradicted books, in the state folder: the last frames and the difference, for mdfeed replay."""

    recall_mib: Annotated[
        int, Meta(description="MiB of the newest frames that are remembered for them; 0: no files", ge=0, le=256)
    ] = 4
    keep: Annotated[int, Meta(description="files kept; the oldest go first", ge=1, le=10_000)] = 20


class Latency(Struct, frozen=True):
    """What is paid for speed."""

    keep_warm_us: Annotated[
        int,
        Meta(
            description="us between made-up frames that keep the feed's code in the processor's caches while the venue "
            "says little; 0: none; costs processor time (docs/OPERATIONS.md)",
            ge=0,
            le=1_000_000,
        ),
    ] = 0


class Metrics(Struct, frozen=True):
    """What /metrics says."""

    legacy_names: Annotated[
        bool, Meta(description="also the ten names of the earlier service (docs/OPERATIONS.md)")
    ] = False


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
        str,
        Meta(
            description="redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path, or "
            "redis+sentinel://[user:password@]host:port,host:port/master/db (docs/OPERATIONS.md)"
        ),
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
    state_dir: Annotated[
        Word | None,
        Meta(
            description="folder of what is kept over a restart (request weight, a ban) and of forensic files; null: "
            "$STATE_DIRECTORY (systemd), else $XDG_STATE_HOME/mdfeed, else ~/.local/state/mdfeed; none: nothing is kept"
        ),
    ] = None
    book: Book = msgspec.field(default_factory=Book)
    lines: Lines = msgspec.field(default_factory=Lines)
    rest: Rest = msgspec.field(default_factory=Rest)
    redis: Redis = msgspec.field(default_factory=Redis)
    http: Http = msgspec.field(default_factory=Http)
    latency: Latency = msgspec.field(default_factory=Latency)
    metrics: Metrics = msgspec.field(default_factory=Metrics)
    forensics: Forensics = msgspec.field(default_factory=Forensics)
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


def sections(struct: type[Struct] = Config, prefix: str = "") -> dict[str, str]:
    found = {}
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            found[prefix + field.name] = field.type.__doc__ or ""
            found |= sections(field.type, f"{prefix}{field.name}.")
    return found


KEYS = keys()
# What each section is about, by its dotted name.
SECTIONS = sections()
SECRET_FILES = {f"{name}_file" for name in SECRETS}


# ---- what a single value must be

Problem = tuple[tuple[int, ...], str] | None


def no_problem(value: Any) -> Problem:
    return None


def check_symbols(symbols: list[str]) -> Problem:
    for index, symbol in enumerate(symbols):
        # Some are not ASCII: 币安人生USDT.
        if not re.fullmatch(r"\w+", symbol) or symbol != symbol.upper() or len(symbol.encode()) > MAX_SYMBOL_BYTES:
            return (index,), f"expected capital letters, digits or underscores, 39 bytes at most, got {symbol!r}"
        if symbol in symbols[:index]:
            return (index,), f"{symbol} is listed twice"
    return None


def check_outputs(outputs: list[str]) -> Problem:
    twice = next((index for index, output in enumerate(outputs) if output in outputs[:index]), None)
    return None if twice is None else ((twice,), f"{outputs[twice]} is listed twice")


def check_keep_warm(period_us: int) -> Problem:
    return ((), f"expected 0, or at least {LEAST_PERIOD_US}") if 0 < period_us < LEAST_PERIOD_US else None


def check_origins(origins: list[str]) -> Problem:
    for index, origin in enumerate(origins):
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?", origin):
            return (index,), f"expected http(s)://host[:port] in lower case, without a path, got {origin!r}"
    return None


def check_token(token: str | None) -> Problem:
    """What a header can carry (RFC 6750), and long enough not to be guessed."""
    if token is None or re.fullmatch(r"[A-Za-z0-9._~+/-]{16,1024}=*", token):
        return None
    return (), "expected at least 16 letters, digits or characters of -._~+/"


def check_user(user: str | None) -> Problem:
    return ((), "a user name cannot have a colon (RFC 7617)") if user and ":" in user else None


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


def check_redis_url(url: str) -> Problem:
    if not re.match(r"rediss?\+sentinel://", url):
        return url_check("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")(url)
    authority, _, rest = url.partition("://")[2].partition("/")
    for index, place in enumerate(authority.rpartition("@")[2].split(","), 1):
        if problem := url_check("redis")(f"redis://{place}"):
            return (), f"Sentinel {index}: {problem[1].replace('redis://', '')}"
    if re.search(r"\s", url) or not re.match(r"[^/?#]+(/\d*)?/?($|[?#])", rest):
        return (), "expected redis+sentinel://host:port,host:port/name-of-the-master[/db]"
    return None


CHECKS: dict[str, Callable[[Any], Problem]] = {
    "symbols": check_symbols,
    "redis.outputs": check_outputs,
    "latency.keep_warm_us": check_keep_warm,
    "http.origins": check_origins,
    "http.auth.token": check_token,
    "http.auth.user": check_user,
    "exchange_ws_url": url_check("ws", "wss"),
    "exchange_rest_url": url_check("http", "https"),
    "redis_url": check_redis_url,
}
