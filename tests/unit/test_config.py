"""mdfeed.config and mdfeed.keyfile: precedence, places of mistakes, origins, secrets, the shipped file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mdfeed.config import KEYS, SECRET_FILES, Config, default_file, load_config, mask, show_config, value_of
from mdfeed.errors import ConfigError, UsageError

ROOT = Path(__file__).resolve().parents[2]
NINE = """\
symbols: [BTCUSDT, ethusdt]
exchange_ws_url: wss://fstream.binance.com/stream
exchange_rest_url: "https://fapi.binance.com"
redis_url: redis://localhost:6379
order_book_depth: 10
health_port: 8081
shm_name: market_data_shm
reconnect_delay_ms: 500
max_reconnect_delay_ms: 30000
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def writer(text: str | bytes, name: str = "config.yaml") -> str:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    return writer


def load(path: str | None, environ: dict[str, str] | None = None, **options: Any) -> Config:
    return load_config(path, options, environ or {})


def test_defaults_are_those_of_the_contract() -> None:
    config = load(None)
    assert config.symbols == ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
    assert config.exchange_ws_url == "wss://fstream.binance.com/stream"
    assert config.exchange_rest_url == "https://fapi.binance.com"
    assert config.redis_url == "redis://localhost:6379"
    assert (config.order_book_depth, config.health_port, config.shm_name) == (20, 8080, "market_data_shm")
    assert (config.reconnect_delay_ms, config.max_reconnect_delay_ms) == (1000, 60000)
    assert set(config.origin) == set(KEYS)
    assert set(config.origin.values()) == {"default"}


def test_a_file_of_the_earlier_service_works_as_it_is(write: Any) -> None:
    config = load(write(NINE))
    assert config.symbols == ["BTCUSDT", "ETHUSDT"]
    assert (config.order_book_depth, config.health_port, config.reconnect_delay_ms) == (10, 8081, 500)
    assert config.origin["health_port"] == "config.yaml:6"
    assert config.origin["venue"] == "default"


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "book:\n", "book:\n  # max_levels: 5\nhttp:\n"])
def test_an_empty_file_or_section_is_all_defaults(write: Any, text: str) -> None:
    assert load(write(text)) == load(None)


def test_option_beats_environment_beats_file_beats_default(write: Any) -> None:
    path = write("health_port: 1\norder_book_depth: 5\nreconnect_delay_ms: 7\n")
    config = load(path, {"MDFEED_HEALTH_PORT": "2", "MDFEED_ORDER_BOOK_DEPTH": "6"}, health_port="3")
    assert (config.health_port, config.order_book_depth, config.reconnect_delay_ms) == (3, 6, 7)
    origins = [config.origin[key] for key in ("health_port", "order_book_depth", "reconnect_delay_ms", "venue")]
    assert origins == ["option", "environment", "config.yaml:3", "default"]


def test_environment_reaches_sections_and_lists() -> None:
    environ = {
        "MDFEED_HTTP_HOST": "127.0.0.1",
        "MDFEED_BOOK_MAX_LEVELS": "2000",
        "MDFEED_SYMBOLS": "btcusdt, ETHUSDT",
        "MDFEED_REDIS_OUTPUTS": "book,bbo",
        "MDFEED_VENUE": "",
        "MDFEED_SERVE_SYMBOLS": "of another",
    }
    config = load(None, environ)
    assert (config.http.host, config.book.max_levels) == ("127.0.0.1", 2000)
    assert (config.symbols, config.redis.outputs) == (["BTCUSDT", "ETHUSDT"], ["book", "bbo"])
    assert config.venue == "binance-usdm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n", "config.yaml:1:1: a: unknown key"),
        ("\nsymbol: [A]\n", "config.yaml:2:1: symbol: unknown key; did you mean symbols?"),
        ("http:\n  hots: x\n", "config.yaml:2:3: http.hots: unknown key; did you mean http.host?"),
        ("max_level: 1\n", "config.yaml:1:1: max_level: unknown key; did you mean book.max_levels?"),
        ("\n\nsymbols: [A, 1]\n", "config.yaml:3:14: symbols[1]: expected str, got int"),
        ("symbols:\n  - A\n  - on\n", "config.yaml:3:5: symbols[1]: expected str, got bool"),
        ("symbols: []\n", "config.yaml:1:10: symbols: expected list of length >= 1"),
        ("symbols: [A, a]\n", "config.yaml:1:14: symbols[1]: A is listed twice"),
        ("symbols: [A/B]\n", "symbols[0]: expected capital letters, digits or underscores, 39 bytes at most, got "),
        ("symbols: BTCUSDT\n", "config.yaml:1:10: symbols: expected list, got 'BTCUSDT'"),
        ("symbols: [[A]]\n", "symbols[0]: expected str, got list"),
        ("symbols: {A: 1}\n", "config.yaml:1:10: symbols: expected a value, got a mapping"),
        ("health_port: 65536\n", "config.yaml:1:14: health_port: expected int <= 65535, got 65536"),
        ("health_port: -1\n", "health_port: expected int >= 0, got -1"),
        ("health_port: '80'\n", "health_port: expected int, got '80'"),
        ("health_port: 80.0\n", "health_port: expected int, got float"),
        ("health_port: yes\n", "health_port: expected int, got bool"),
        ("health_port:\n", "health_port: expected int, got null"),
        ("health_port: 1\nhealth_port: 1\n", "config.yaml:2:1: health_port: given twice, first in line 1"),
        ("book: 5\n", "config.yaml:1:7: book: expected keys with values, got a single value"),
        ("[1]\n", "config.yaml:1:1: expected keys with values, got a list"),
        ("? [a]\n: 1\n", "config.yaml:1:3: a list: unknown key"),
        ("transport: picow\n", "transport: expected one of picows, websockets, got 'picow'; did you mean picows?"),
        ("redis: {outputs: [book, x]}\n", "config.yaml:1:25: redis.outputs[1]: expected one of market_data, "),
        ("redis: {outputs: [book, book]}\n", "config.yaml:1:25: redis.outputs[1]: book is listed twice"),
        ("venue: Binance\n", "venue: expected str matching regex"),
        ("exchange_ws_url: https://x\n", "exchange_ws_url: expected a URL that starts with ws://, wss://"),
        ("exchange_rest_url: 'https://'\n", "exchange_rest_url: expected https://host[:port]"),
        ("redis_url: redis://h:x\n", "redis_url: not a URL"),
        ("redis_url: 'unix://'\n", "redis_url: expected unix:///path/of/the/socket"),
        ("redis_url: redis+sentinel://a:1,b:x/m\n", "redis_url: Sentinel 2: not a URL: its host or port"),
        ("redis_url: redis+sentinel://a:1,/m\n", "redis_url: Sentinel 2: expected host[:port]"),
        ("redis_url: redis+sentinel://a:1,b:2\n", "redis_url: expected redis+sentinel://host:port,host:port/name-of"),
        ("symbols: [A\n", "config.yaml:2:1: expected ',' or ']', but got"),
        ("a: b: c\n", "config.yaml:1:5: mapping values are not allowed here"),
        ("a: &x 1\nb: *x\n", "config.yaml:2:4: aliases are not supported"),
        ("symbols: !!python/name:os.system\n", "could not determine a constructor"),
        ("shm_name: 2024-13-45\n", "config.yaml:1:11: shm_name: month must be in 1..12; put it in quotes"),
        ("--- 1\n--- 2\n", "but found another document"),
        (b"\xff\xfe\x00", "config.yaml: not a text file in UTF-8"),
        ("shm_name: a\0b\n", "config.yaml: not a text file in UTF-8"),
        ("symbols: " + "[" * 20000, "config.yaml: nested too deeply"),
        ("reconnect_delay_ms: 70000\n", "max_reconnect_delay_ms: is below reconnect_delay_ms (70000)"),
        ("book: {max_levels: 900}\n", "config.yaml:1: book.max_levels: is below book.snapshot_limit (1000)"),
        ("order_book_depth: 2000\n", "book.snapshot_limit: is below order_book_depth (2000)"),
    ],
)
def test_a_mistake_is_named_with_its_place(write: Any, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(text))
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert caught.value.exit_code == 78


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        load(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="Is a directory"):
        load(str(tmp_path))
    (tmp_path / "big").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(str(tmp_path / "big"))


def test_mistakes_in_environment_and_options_name_them() -> None:
    with pytest.raises(ConfigError, match=r"^MDFEED_HEALTH_PORT: health_port: expected int, got 'x'$"):
        load(None, {"MDFEED_HEALTH_PORT": "x"})
    with pytest.raises(UsageError, match=r"^option: symbols\[0\]: expected capital letters"):
        load(None, symbols="A-B")


def test_variables_are_substituted_and_typed(write: Any) -> None:
    path = write(
        "health_port: ${PORT}\nsymbols: ${ALL}\nredis_url: redis://:${PW}@h:${RPORT}/1\nhttp: {host: '${H}'}\n"
    )
    environ = {"PORT": "99", "ALL": "a,B", "PW": "s3", "RPORT": "7", "H": "::1"}
    config = load(path, environ)
    assert (config.health_port, config.symbols, config.redis_url) == (99, ["A", "B"], "redis://:s3@h:7/1")
    with pytest.raises(ConfigError, match=r"^config\.yaml:2:10: symbols: the environment has no variable 'ALL'$"):
        load(path, {key: value for key, value in environ.items() if key != "ALL"})


def test_a_secret_may_come_from_a_file(write: Any, tmp_path: Path) -> None:
    write("redis://:hunter2@h:1\n", "secret")
    config = load(write("redis_url_file: secret\n"))
    assert config.redis_url == "redis://:hunter2@h:1"
    assert config.origin["redis_url"] == "config.yaml:1 (secret)"
    from_environment = load(None, {"MDFEED_REDIS_URL_FILE": str(tmp_path / "secret")})
    assert from_environment.redis_url == config.redis_url
    with pytest.raises(ConfigError, match=r"config\.yaml:1:17: redis_url_file: none: No such file"):
        load(write("redis_url_file: none\n"))
    with pytest.raises(ConfigError, match="redis_url_file: redis_url is given too; keep one of them"):
        load(write("redis_url_file: secret\nredis_url: redis://h\n"))
    assert load(write("redis_url_file: secret\n"), {"MDFEED_REDIS_URL": "redis://e"}).redis_url == "redis://e"


@pytest.mark.parametrize("url", ["redis://:hunter2@h:99999", "http://:hunter2@h", "redis://a:hunter2@h:x", "hunter2"])
def test_no_message_shows_a_secret(write: Any, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(f"redis_url: '{url}'\n"))
    assert "hunter2" not in str(caught.value)


def test_show_masks_secrets_gives_origins_and_is_the_same_config_again(write: Any) -> None:
    text = show_config(load(write("redis_url: redis://u:hunter2@h:1\nlog: {level: debug}\n")))
    assert "hunter2" not in text
    assert "redis_url: redis://u:***@h:1  # config.yaml:1\n" in text
    assert "  level: debug  # config.yaml:2\n" in text
    again = load(write(text))
    assert (again.log.level, again.symbols) == ("debug", load(None).symbols)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:p@h/0", "redis://:***@h/0"),
        ("to rediss://user:p:w@h:1, then", "to rediss://user:***@h:1, then"),
        ("wss://h/stream?streams=a@depth@100ms/b@aggTrade", "wss://h/stream?streams=a@depth@100ms/b@aggTrade"),
        ("redis://h?password=x&db=1", "redis://h?password=***&db=1"),
        ("apiKey=abc token=d", "apiKey=*** token=***"),
        ("redis+sentinel://u:p@a:1,b/m?sentinel_password=x", "redis+sentinel://u:***@a:1,b/m?sentinel_password=***"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_the_shipped_file_is_rendered_from_the_structs() -> None:
    shipped = (ROOT / "config.yaml").read_text()
    assert shipped == default_file(), "run: python -m mdfeed config init > config.yaml"


def test_the_shipped_file_has_every_key_commented_and_no_other(write: Any) -> None:
    shipped = default_file()

    def names(mapping: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for name, value in mapping.items():
            if isinstance(value, dict):
                yield from names(value, f"{prefix}{name}.")
            else:
                yield prefix + name

    assert set(names(yaml.safe_load(shipped))) == set(KEYS)
    assert all(f"# {name.rpartition('.')[2]}:" in shipped for name in SECRET_FILES)
    assert all(len(key.description) > 10 for key in KEYS.values())
    config = load(write(shipped))
    assert {name: key.default for name, key in KEYS.items()} == {name: value_of(config, name) for name in KEYS}


TOKEN = "abcdefgh12345678"


def test_credentials_and_certificates(write: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    name = write("http:\n  auth: {token_file: token, user: ops, password: '${PW}'}\n  tls: {cert: c.pem, key: k.pem}\n")
    config = load(name, {"PW": "hunter22"})
    assert (config.http.auth.token, config.http.auth.user, config.http.auth.password) == (TOKEN, "ops", "hunter22")
    assert not config.http.auth.exempt_health
    assert config.http.tls.cert == "c.pem"
    assert load(str(tmp_path / name), {"PW": "hunter22"}).http.tls.cert == str(tmp_path / "c.pem")
    shown = show_config(config)
    assert "hunter22" not in shown
    assert TOKEN not in shown
    assert shown.count("'***'") == 2
    assert load(None, {"MDFEED_HTTP_AUTH_TOKEN": TOKEN}).http.auth.token == TOKEN


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http: {auth: {token: secret}}", "1:22: http.auth.token: expected at least 16 letters"),
        ("http: {auth: {token: ''}}", "1:22: http.auth.token: expected str of length >= 1"),
        ("http: {auth: {user: u}}", "1: http.auth.user: needs http.auth.password too"),
        ("http: {auth: {password: hunter22}}", "1: http.auth.password: needs http.auth.user too"),
        ("http: {auth: {user: 'a:b', password: p}}", "1:21: http.auth.user: a user name cannot have a colon"),
        ("http: {auth: {tokn: x}}", "1:15: http.auth.tokn: unknown key; did you mean http.auth.token?"),
        ("http: {tls: {cert: a}}", "1: http.tls.cert: needs http.tls.key too"),
        ("http: {tls: {client_ca: a}}", "1: http.tls.client_ca: needs http.tls.cert too"),
    ],
)
def test_half_credentials_are_none(write: Any, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(text))
    assert str(caught.value).startswith(f"config.yaml:{reason}")
    assert "hunter22" not in str(caught.value)


@given(st.one_of(st.binary(max_size=200), st.text(alphabet="symbols:[]{}&*!-?|>'\"#%@`${}\n \t01", max_size=80)))
def test_any_bytes_load_or_are_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: bytes | str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        config = load_config(path, {}, {})
    except ConfigError as error:
        message = str(error)
    else:
        message = f"any.yaml: {config.symbols}"
    assert re.search(r"any\.yaml", message)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "environ", "values"),
    [
        ("lines: 2\nmax_streams_per_line: 50", {}, (2, 50)),
        ("lines:\n  redundancy: 2\nmax_streams_per_line: 50", {}, (2, 50)),
        ("lines:\n", {}, (1, 200)),
        ("lines: ${N}", {"N": "2"}, (2, 200)),
        ("lines: 2", {"MDFEED_LINES": "1", "MDFEED_MAX_STREAMS_PER_LINE": "7"}, (1, 7)),
    ],
)
def test_other_names_of_keys(tmp_path, text, environ, values):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    config = load_config(path, None, environ)
    assert (config.lines.redundancy, config.lines.max_streams) == values
    shown = show_config(config)
    assert "max_streams_per_line" not in shown
    assert f"  redundancy: {values[0]}" in shown


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        (
            "lines:\n  max_streams: 5\nmax_streams_per_line: 6",
            {},
            r":3:23: max_streams_per_line: lines\.max_streams is given",
        ),
        ("lines: 3", {}, r":1:8: lines\.redundancy: .*<= 2"),
        ("lines: true", {}, r":1:8: lines\.redundancy: expected int"),
        ("lines: [2]", {}, r":1:8: lines: expected keys with values, got a list"),
        ("http: 2", {}, r":1:7: http: expected keys with values, got a single value"),
        ("max_stream_per_line: 2", {}, "did you mean max_streams_per_line"),
        (
            "",
            {"MDFEED_LINES": "2", "MDFEED_LINES_REDUNDANCY": "2"},
            r"MDFEED_LINES: lines: lines\.redundancy is given too",
        ),
    ],
)
def test_another_name_of_a_key_is_judged_where_it_stands(tmp_path, text, environ, said):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(path, None, environ)
