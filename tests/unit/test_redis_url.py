from __future__ import annotations

from typing import Any

import pytest

from mdfeed.errors import ConfigError
from mdfeed.redis_url import parse_redis_url


@pytest.mark.parametrize(
    ("url", "expected", "label"),
    [
        ("redis://localhost:6379", {}, "localhost:6379"),
        ("redis://", {}, "localhost:6379"),
        ("redis://r.example:7000/3", {"host": "r.example", "port": 7000, "db": 3}, "r.example:7000/3"),
        ("redis://r.example/3?db=4", {"host": "r.example", "db": 4}, "r.example:6379/4"),
        ("redis://:p%40ss@[::1]:1/", {"host": "::1", "port": 1, "password": "p@ss"}, "[::1]:1"),
        ("redis://fe%3Aed:p%2Fw@h", {"host": "h", "username": "fe:ed", "password": "p/w"}, "h:6379"),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}, "unix:/run/redis.sock/2"),
        ("unix://u:secret@/s%20x", {"path": "/s x", "username": "u", "password": "secret"}, "unix:/s x"),
        ("rediss://h?ssl_ca_certs=/ca.pem", {"host": "h", "tls": {"ssl_ca_certs": "/ca.pem"}}, "h:6379"),
        (
            "redis+sentinel://u:p%2Cw@a:1,[::1]:2,b/main/3?sentinel_username=s&sentinel_password=o%26k",
            {
                "username": "u",
                "password": "p,w",
                "sentinels": (("a", 1), ("::1", 2), ("b", 26379)),
                "master": "main",
                "db": 3,
                "sentinel_username": "s",
                "sentinel_password": "o&k",
            },
            "main@a:1,[::1]:2,b:26379/3",
        ),
        (
            "rediss+sentinel://a/main?ssl_cert_reqs=none",
            {"sentinels": (("a", 26379),), "master": "main", "tls": {"ssl_cert_reqs": "none"}},
            "main@a:26379",
        ),
    ],
)
def test_urls_are_read_as_redis_py_reads_them(url: str, expected: dict[str, Any], label: str) -> None:
    parsed = parse_redis_url(url)
    defaults = {"host": "localhost", "port": 6379, "path": None, "db": 0, "username": None, "password": None}
    for name, value in {**defaults, "tls": None, **expected}.items():
        assert getattr(parsed, name) == value, name
    assert parsed.label == label
    for password in (parsed.password, parsed.sentinel_password):
        assert password is None or password not in repr(parsed) + label


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://u:secret@h", "'http' is none of"),
        ("redis://u:secret@h:port", "host or port"),
        ("redis://u:secret@h/x", "a database is a number"),
        ("redis://u:secret@h?ssl_ca_certs=/x", "no option 'ssl_ca_certs'"),
        ("redis://h?password=secret", "no option 'password'"),
        ("rediss://u:secret@h?ssl_check_hostname=maybe", "true or false"),
        ("rediss://u:secret@h?ssl_cert_reqs=some", "none, optional or required"),
        ("unix://u:secret@", "needs the path"),
        ("redis+sentinel://u:secret@a:1,b:2", "name of the master is missing"),
        ("redis+sentinel://u:secret@a:1,b:x/main", "Sentinel 2 is not host"),
        ("redis+sentinel://u:secret@a:1,b:65536/main", "Sentinel 2 is not host"),
        ("redis+sentinel://u:secret@a:1,/main", "Sentinel 2 is not host"),
        ("redis+sentinel://u:secret@a/main/x", "a database is a number"),
        ("redis+sentinel://a/main?ssl_cert_reqs=none", "no option 'ssl_cert_reqs'"),
        ("http+sentinel://u:secret@a/main", "is none of"),
    ],
)
def test_what_cannot_be_meant_is_an_error_without_the_secret(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse_redis_url(url)
    assert "secret" not in str(caught.value)


def test_tls_options_reach_the_context() -> None:
    assert parse_redis_url("redis://h").tls_context() is None
    strict = parse_redis_url("rediss://h").tls_context()
    assert strict is not None
    assert strict.check_hostname
    loose = parse_redis_url("rediss://h?ssl_check_hostname=false").tls_context()
    assert loose is not None
    assert not loose.check_hostname
    assert loose.verify_mode.name == "CERT_REQUIRED"
    blind = parse_redis_url("rediss://h?ssl_cert_reqs=none").tls_context()
    assert blind is not None
    assert blind.verify_mode.name == "CERT_NONE"
    with pytest.raises(ConfigError, match="can't be read"):
        parse_redis_url("rediss://h?ssl_ca_certs=/absent.pem").tls_context()
