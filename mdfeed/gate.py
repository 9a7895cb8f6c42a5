"""Who may ask over HTTP: credentials, tickets instead of them, and the TLS that protects them.

Answers for: comparing in constant time, the challenge of a 401, a TLS context from files with a clear mistake for each
that cannot be used. Refuses to know: sockets, paths, answers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import ssl

from mdfeed.config import Config
from mdfeed.settings import Auth

TICKET_S = 12 * 3600  # how long a ticket opens; whoever has credentials gets a new one with each page


class Gate:
    """Lets a request in by its Authorization header. Without any credentials configured everybody may come in.

    A browser cannot set that header on a WebSocket, so whoever was let in may have a ticket, which stands for
    credentials until it expires or this process ends. It names nobody and holds no secret.
    """

    def __init__(self, auth: Auth) -> None:
        # Only digests are kept and compared: equal lengths, and no secret in a dump of this object.
        self._key = os.urandom(32)
        self._known: list[bytes] = []
        challenges = []
        self.takes_token = auth.token is not None
        if auth.token is not None:
            self._known.append(self._digest(b"bearer", auth.token.encode()))
            challenges.append('Bearer realm="mdfeed"')
        if auth.user is not None and auth.password is not None:
            self._known.append(self._digest(b"basic", f"{auth.user}:{auth.password}".encode()))
            challenges.append('Basic realm="mdfeed", charset="UTF-8"')
        self.challenge = ", ".join(challenges)
        self._exempt = frozenset({"/health"}) if auth.exempt_health else frozenset()

    @property
    def is_open(self) -> bool:
        """Whether everybody may come in."""
        return not self._known

    def lets_in(self, path: str, authorization: bytes | None) -> bool:
        if self.is_open or path in self._exempt:
            return True
        scheme, _, given = (authorization or b"").partition(b" ")
        scheme, given = scheme.lower(), given.strip(b" ")
        if scheme == b"basic":
            try:
                given = base64.b64decode(given, validate=True)
            except binascii.Error:
                given = b""
        digest = self._digest(scheme, given)
        # All of them are compared, whatever the first said.
        matches = [hmac.compare_digest(digest, known) for known in self._known]
        return any(matches)

    def ticket(self, now_s: float) -> str:
        """A ticket that opens for TICKET_S from `now_s` (UTC) on."""
        expiry = f"{int(now_s) + TICKET_S:x}"
        return f"{expiry}.{self._digest(b'ticket', expiry.encode()).hex()}"

    def honours(self, ticket: bytes | None, now_s: float) -> bool:
        """Whether a ticket is ours and still opens."""
        expiry, _, given = (ticket or b"").partition(b".")
        is_ours = hmac.compare_digest(self._digest(b"ticket", expiry).hex().encode(), given)
        return is_ours and int(expiry, 16) > now_s

    def _digest(self, scheme: bytes, secret: bytes) -> bytes:
        return hashlib.blake2b(scheme + b" " + secret, key=self._key).digest()


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The context of http.tls; None without a certificate. ConfigError, with its place, for a file that is no use."""
    tls = config.http.tls
    if tls.cert is None or tls.key is None:
        return None
    for name, path in (("cert", tls.cert), ("key", tls.key), ("client_ca", tls.client_ca)):
        if path is not None:
            check_readable(config, f"http.tls.{name}", path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The empty passphrase: else OpenSSL would ask for one at the terminal.
        context.load_cert_chain(tls.cert, tls.key, password="")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise config.error("http.tls.key", f"{tls.key} is not the key of {tls.cert}") from None
        at_fault, path = ("cert", tls.cert) if not has_certificate(tls.cert) else ("key", tls.key)
        kind = "certificate" if at_fault == "cert" else "private key without a passphrase"
        raise config.error(f"http.tls.{at_fault}", f"{path}: no usable {kind} in PEM") from None
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except ssl.SSLError:
            raise config.error("http.tls.client_ca", f"{tls.client_ca}: no usable certificate in PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def check_readable(config: Config, name: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise config.error(name, f"{path}: {error.strerror}") from None


def has_certificate(path: str) -> bool:
    try:
        ssl.create_default_context().load_verify_locations(path)
    except (ssl.SSLError, OSError):
        return False
    return True
