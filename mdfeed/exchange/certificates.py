"""Certificates of the simulated exchange: a good one, and those that a client must refuse.

Made by the openssl command at each start, self-signed: a client trusts the one file that holds them (by
SSL_CERT_FILE, say), so that it refuses an expired one because it is expired, and a foreign one because of its host. One
is not in that file.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mdfeed.errors import MdfeedError

FOREIGN = "elsewhere.invalid"
_PAST = ("-not_before", "20190101000000Z", "-not_after", "20200101000000Z")


class Certificates:
    """`good` is what a handshake gets, `bad` what it gets instead by kind; `bundle` the file to trust."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", own: tuple[Path, Path] | None = None) -> None:
        """Make them in `folder`. `own`: (certificate chain, key) in the place of a made good one.

        Raises MdfeedError without openssl, and for a file of `own` that cannot be loaded.
        """
        names = f"IP:{host},DNS:localhost"
        made = own or _make(folder, "good", names, ("-days", "30"))
        expired = _make(folder, "expired", names, ("-days", "-1"), _PAST)
        foreign = _make(folder, "foreign", f"DNS:{FOREIGN}", ("-days", "30"))
        self.bundle = folder / "trust.pem"
        self.bundle.write_text("".join(cert.read_text() for cert, _ in (made, expired, foreign)))
        self.good = _context(*made)
        untrusted = _make(folder, "untrusted", names, ("-days", "30"))
        self.bad = {
            "untrusted": _context(*untrusted),
            "expired": _context(*expired),
            "foreign": _context(*foreign),
        }


def _make(folder: Path, name: str, names: str, *validity: Sequence[str]) -> tuple[Path, Path]:
    """A self-signed certificate and its key; the first of `validity` that this openssl knows."""
    cert, key, asked, about = (folder / f"{name}{end}" for end in (".pem", ".key", ".req", ".ext"))
    about.write_text(f"subjectAltName={names}\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _run("req", "-new", *curve, "-subj", f"/CN=mdfeed sim {name}", "-keyout", str(key), "-out", str(asked))
    for last, words in enumerate(validity, 1 - len(validity)):
        try:
            _run(*("x509", "-req", "-in", str(asked), "-signkey", str(key), "-extfile", str(about)), *words,
                 *("-out", str(cert)))  # fmt: skip
            break
        except MdfeedError:
            if not last:
                raise
    return cert, key


def _run(*words: str) -> None:
    try:
        subprocess.run(["openssl", *words], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MdfeedError("a certificate is made by the openssl command, which is not there") from None
    except subprocess.CalledProcessError as error:
        raise MdfeedError(f"openssl {words[0]}: {error.stderr.strip()[:200]}") from error


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise MdfeedError(f"{cert}, {key}: {error}") from error
    return context
