"""What a Redis URL says: where, as whom, which database, with which TLS.

Answers for: redis://, rediss:// and unix:// URLs with the options that redis-py has for them, and a label without
secrets. Refuses to know: sockets. No error text and no repr holds a password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from mdfeed.errors import ConfigError

if TYPE_CHECKING:
    import ssl

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class RedisUrl:
    """`path` is the unix socket's, else None; `tls` holds the ssl_* options of a rediss:// URL, else None."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: dict[str, str] | None = None

    @property
    def label(self) -> str:
        """Where it is, for log lines; no secret."""
        place = (
            f"unix:{self.path}" if self.path else f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        )
        return f"{place}/{self.db}" if self.db else place

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
    """Read `redis://[[user]:password@]host[:port][/db]`, `rediss://...?ssl_...`, `unix://[...@]/path?db=n`.

    User and password are percent-decoded. Raises ConfigError, without the URL in it, for anything else.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("redis_url: not a URL: host or port can't be read") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigError(f"redis_url: {parts.scheme!r} is none of redis, rediss, unix")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    is_tls = parts.scheme == "rediss"
    for name in options:
        if name != "db" and not (is_tls and name in TLS_OPTIONS):
            known = ["db", *TLS_OPTIONS] if is_tls else ["db"]
            raise ConfigError(f"redis_url: no option {name!r} in a {parts.scheme} URL (there are {', '.join(known)})")
    is_unix = parts.scheme == "unix"
    if is_unix and not parts.path:
        raise ConfigError("redis_url: a unix URL needs the path of a socket, unix:///path")
    db = options.pop("db", "") or ("" if is_unix else parts.path.strip("/")) or "0"
    if not db.isdecimal():
        raise ConfigError(f"redis_url: a database is a number, not {db!r}")
    if options.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise ConfigError("redis_url: ssl_cert_reqs is none, optional or required")
    _truth("ssl_check_hostname", options, default=True)
    return RedisUrl(
        host=unquote(parts.hostname or "localhost"),
        port=port or 6379,
        path=unquote(parts.path) if is_unix else None,
        db=int(db),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=options if is_tls else None,
    )


def _truth(name: str, options: dict[str, str], *, default: bool) -> bool:
    value = options.get(name)
    if value is None:
        return default
    if value.lower() not in TRUTH:
        raise ConfigError(f"redis_url: {name} is true or false")
    return TRUTH[value.lower()]
