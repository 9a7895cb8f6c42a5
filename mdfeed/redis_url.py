"""What a Redis URL says: where, as whom, which database, with which TLS.

Answers for: redis://, rediss:// and unix:// URLs with the options that redis-py has for them, the same with Sentinels
(redis+sentinel://, rediss+sentinel://), and a label without secrets. Refuses to know: sockets. No error text and no
repr holds a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from mdfeed.errors import ConfigError

if TYPE_CHECKING:
    import ssl

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
SENTINEL_PORT = 26379
TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class RedisUrl:
    """`path` is the unix socket's, else None; `tls` holds the ssl_* options of a rediss:// URL, else None.

    With `sentinels`, (host, port) each, `master` is the name to ask them for; host and port are nobody's then.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: dict[str, str] | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Where it is, for log lines; no secret."""
        if self.sentinels:
            place = f"{self.master}@{','.join(_joined(*address) for address in self.sentinels)}"
        else:
            place = f"unix:{self.path}" if self.path else _joined(self.host, self.port)
        return f"{place}/{self.db}" if self.db else place

    @property
    def hosts(self) -> list[str]:
        """Every host that the URL names; none of a unix socket."""
        return [host for host, _ in self.sentinels] or ([] if self.path else [self.host])

    @property
    def client_login(self) -> dict[str, Any]:
        """Database, user and password as the keywords of a redis-py client."""
        return {"db": self.db, "username": self.username, "password": self.password}

    @property
    def client_tls(self) -> dict[str, Any]:
        """`tls` as the keywords of a redis-py client."""
        if self.tls is None:
            return {}
        check = _truth("ssl_check_hostname", self.tls, default=True) and self.tls.get("ssl_cert_reqs") != "none"
        return {"ssl": True, **self.tls, "ssl_check_hostname": check}

    def tls_context(self) -> ssl.SSLContext | None:
        """A context as the options say; None without TLS. ConfigError for a certificate that can't be read."""
        if self.tls is None:
            return None
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.tls.get("ssl_ca_certs"))
            if certificate := self.tls.get("ssl_certfile"):
                context.load_cert_chain(certificate, self.tls.get("ssl_keyfile"))
        except OSError as error:
            raise ConfigError(f"redis_url: a certificate or key can't be read: {error}") from None
        requirement = self.tls.get("ssl_cert_reqs", "required")
        context.check_hostname = requirement == "required" and _truth("ssl_check_hostname", self.tls, default=True)
        context.verify_mode = ssl.VerifyMode[f"CERT_{requirement.upper()}"]
        return context


def parse_redis_url(url: str) -> RedisUrl:
    """Read `redis://[[user]:password@]host[:port][/db]`, `rediss://...?ssl_...`, `unix://[...@]/path?db=n`, and
    `redis+sentinel://[[user]:password@]host[:port],.../master[/db][?sentinel_username=...&sentinel_password=...]`.

    User and password are percent-decoded. Raises ConfigError, without the URL in it, for anything else.
    """
    if url.partition(":")[0].endswith("+sentinel"):
        return _parse_sentinel_url(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("redis_url: not a URL: host or port can't be read") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigError(f"redis_url: {parts.scheme!r} is none of redis, rediss, unix")
    is_tls = parts.scheme == "rediss"
    options = _options(parts, ("db", *TLS_OPTIONS) if is_tls else ("db",))
    is_unix = parts.scheme == "unix"
    if is_unix and not parts.path:
        raise ConfigError("redis_url: a unix URL needs the path of a socket, unix:///path")
    db = options.pop("db", "") or ("" if is_unix else parts.path.strip("/")) or "0"
    return RedisUrl(
        host=unquote(parts.hostname or "localhost"),
        port=port or 6379,
        path=unquote(parts.path) if is_unix else None,
        db=_database(db),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=options if is_tls else None,
    )


def _parse_sentinel_url(url: str) -> RedisUrl:
    # urlsplit knows of one host; the others are taken out by hand.
    scheme, _, rest = url.partition("://")
    authority = re.match(r"[^/?#]*", rest)[0]  # type: ignore[index]
    login, _, places = authority.rpartition("@")
    parts = urlsplit(f"{scheme}://{rest[len(authority) :]}")
    is_tls = parts.scheme == "rediss+sentinel"
    if not is_tls and parts.scheme != "redis+sentinel":
        raise ConfigError(f"redis_url: {parts.scheme!r} is none of redis+sentinel, rediss+sentinel")
    options = _options(parts, ("db", *SENTINEL_OPTIONS, *(TLS_OPTIONS if is_tls else ())))
    master, _, path_db = parts.path.strip("/").partition("/")
    if not master:
        raise ConfigError("redis_url: the name of the master is missing, redis+sentinel://host:port,host:port/NAME")
    username, has_password, password = login.partition(":")
    user, secret = (options.pop(name, "") or None for name in SENTINEL_OPTIONS)
    return RedisUrl(
        db=_database(options.pop("db", "") or path_db or "0"),
        username=unquote(username) or None,
        password=unquote(password) if has_password and password else None,
        tls=options if is_tls else None,
        sentinels=tuple(_sentinel(index, place) for index, place in enumerate(places.split(","), 1)),
        master=unquote(master),
        sentinel_username=user,
        sentinel_password=secret,
    )


def _sentinel(index: int, place: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]@]+))(?::(\d{1,5}))?", place)
    port = int(found[3] or SENTINEL_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise ConfigError(f"redis_url: Sentinel {index} is not host[:port] (separate them by commas)")
    return unquote(found[1] or found[2]), port


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _database(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(f"redis_url: a database is a number, not {text!r}")
    return int(text)


def _options(parts: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in known:
            raise ConfigError(f"redis_url: no option {name!r} in a {parts.scheme} URL (there are {', '.join(known)})")
    if options.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise ConfigError("redis_url: ssl_cert_reqs is none, optional or required")
    _truth("ssl_check_hostname", options, default=True)
    return options


def _truth(name: str, options: dict[str, str], *, default: bool) -> bool:
    value = options.get(name)
    if value is None:
        return default
    if value.lower() not in TRUTH:
        raise ConfigError(f"redis_url: {name} is true or false")
    return TRUTH[value.lower()]
