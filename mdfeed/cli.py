"""The door: parses the command line, calls one function of one verb, turns errors into exit codes.

Answers for: options, their environment twins (MDFEED_<COMMAND>_<OPTION>), messages on stderr, exit codes (CONTRACT 2).
Refuses to know: what the verbs do. Whatever is not needed to print help is imported inside the commands.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from mdfeed.errors import MdfeedError

if TYPE_CHECKING:
    from mdfeed.config import Config

DEFAULT_FILE = "config.yaml"
INTERRUPTED = 130
Command = TypeVar("Command", bound=Callable[..., Any])


class Door(click.Group):
    """Commands in the order of their definition, which is that of the contract."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


def names_of(text: str) -> list[str]:
    """`A,B`: a list of names; what a name may look like is the configuration's to say."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"{text!r} has an empty name")
    return names


def address_of(text: str) -> tuple[str | None, int]:
    """`HOST:PORT`, `:PORT`, `PORT` or `[v6]:PORT` -> (host or None, port)."""
    match = re.fullmatch(r"(?:(?:\[([^\]]+)\]|([^:\[\]]*)):)?(\d{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return match[1] or match[2] or None, int(match[3])


def speed_of(text: str) -> float:
    """A factor of the captured pace, or max, which is 0."""
    match = re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text)
    if text != "max" and (match is None or float(text) == 0):
        raise click.BadParameter(f"{text!r} is neither a positive number nor max")
    return 0.0 if match is None else float(text)


def time_of(text: str) -> int:
    """ISO 8601 (UTC unless it says otherwise), or a number since the epoch in s, ms, us or ns -> UTC ns."""
    from datetime import UTC, datetime, timedelta

    if match := re.fullmatch(r"(\d{1,19})(?:\.(\d{1,9}))?", text):
        whole, fraction = match[1], match[2] or ""
        # 10 digits are seconds until the year 2286, 13 ms, 16 us, 19 ns.
        unit_digits = next((digits for most, digits in ((11, 9), (14, 6), (17, 3)) if len(whole) <= most), 0)
        if len(fraction) <= unit_digits:
            return int(whole + fraction.ljust(unit_digits, "0"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither ISO 8601 nor a number of s, ms, us or ns since 1970") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def remember(context: click.Context, param: click.Parameter, value: Any) -> None:
    """-v, -q and --debug mean the same before and after the command."""
    if value:
        context.ensure_object(dict)[param.name] = value


def common(command: Command) -> Command:
    for flags, text in (
        (("-v", "--verbose"), "Log more."),
        (("-q", "--quiet"), "Log warnings and errors only."),
        (("--debug",), "Log everything; show tracebacks."),
    ):
        option = click.option(
            *flags, is_flag=True, expose_value=False, allow_from_autoenv=False, callback=remember, help=text
        )
        command = option(command)
    return command


def show_version(context: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from mdfeed.metrics import package_version

        click.echo(f"mdfeed {package_version()}")
        context.exit()


config_option = click.option(
    "-c", "--config", type=click.Path(path_type=Path), help=f"Configuration file; {DEFAULT_FILE} if there is one here."
)
symbols_option = click.option("--symbols", type=names_of, metavar="A,B", help="Instruments, comma separated.")


@click.group(cls=Door, context_settings={"auto_envvar_prefix": "MDFEED", "help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show the version."
)
@common
def door() -> None:
    """Exact order books from exchange WebSocket streams to Redis.

    Every option of a command has an environment twin MDFEED_<COMMAND>_<OPTION>.
    """


@door.command()
@config_option
@symbols_option
@click.option("--venue", help="Exchange and dialect, such as binance-usdm.")
@click.option("--redis-url", help="redis://, rediss:// or unix:// URL.")
@click.option("--http", type=address_of, metavar="HOST:PORT", help="Address of /health, /ready and /metrics.")
@click.option("--takeover", is_flag=True, help="Take over from another daemon that publishes the same symbols.")
@common
@click.pass_context
def serve(context: click.Context, config: Path | None, symbols: list[str] | None, venue: str | None,
          redis_url: str | None, http: tuple[str | None, int] | None, takeover: bool) -> int:  # fmt: skip
    """Run the daemon: exchange to Redis, until interrupted."""
    # Until the daemon has handlers of its own, which takes a second on a busy machine, nothing has begun.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    host, port = http or (None, None)
    options = {"symbols": symbols, "venue": venue, "redis_url": redis_url, "http.host": host, "health_port": port}
    effective = effective_config(context, config, options)
    from mdfeed import serve as verb

    return verb.run(effective, lambda: effective_config(context, config, options), takeover)


@door.command()
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End by itself after so long.")
@click.option("--no-ui", is_flag=True, help="No live view; the summary only.")
@symbols_option
@click.option("--capture", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Play this capture.")
@common
@click.pass_context
def demo(context: click.Context, seconds: float | None, no_ui: bool, symbols: list[str] | None,
         capture: Path | None) -> int:  # fmt: skip
    """Run the daemon with an embedded Redis and a simulated exchange."""
    log_plainly(context, "info" if no_ui else "warning")
    from mdfeed import demo as verb

    return verb.run(seconds, not no_ui, symbols, capture)


@door.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9443, show_default=True, help="0 takes any free one.")
@symbols_option
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same market.")
@click.option(
    "--rate", type=click.FloatRange(min=0), default=50.0, show_default=True, help="Orders a second and symbol."
)
@click.option("--capture", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Play this capture.")
@click.option(
    "--fault", "faults", multiple=True, envvar="MDFEED_SIM_FAULT", metavar="SPEC",
    help="A fault to inject: drop, silence, close, reset, tls, rest, delist..., as in rest:status=429,for=5s. "
    "`--fault help` lists all with their words.",
)  # fmt: skip
@click.option("--tls", is_flag=True, envvar="MDFEED_SIM_TLS", help="wss and https; the file to trust is printed.")
@click.option(
    "--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Chain, in place of a made one."
)
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The chain's key.")
@common
@click.pass_context
def sim(context: click.Context, port: int, symbols: list[str] | None, seed: int, rate: float, capture: Path | None,
        faults: Sequence[str], tls: bool, tls_cert: Path | None, tls_key: Path | None) -> int:  # fmt: skip
    """Run a simulated exchange on the loopback interface."""
    log_plainly(context, "info")
    from mdfeed import sim as verb

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key need each other")
    files = (tls_cert, tls_key) if tls_cert and tls_key else None
    return verb.run(port, symbols or [], seed, rate, capture, list(faults), tls=tls or bool(files), tls_files=files)


@door.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--speed", type=speed_of, metavar="N|max", default="max", show_default=True, help="1 is the captured pace."
)
@click.option(
    "--from", "start_ns", type=time_of, metavar="T", envvar="MDFEED_REPLAY_FROM", help="Leave out what is before."
)
@click.option("--to", "end_ns", type=time_of, metavar="T", envvar="MDFEED_REPLAY_TO", help="Leave out what is after.")
@symbols_option
@click.option("--sink", default="null", show_default=True, metavar="null|stdout|redis://...", help="Where it goes.")
@click.option("--to-update-id", type=click.IntRange(min=0), metavar="N", help="Stop each book at this id.")
@click.option("--venue", help="The dialect, when the frames alone do not tell.")
@click.option("--json", "as_json", is_flag=True, envvar="MDFEED_REPLAY_JSON", help="One JSON document on stdout.")
@common
@click.pass_context
def replay(context: click.Context, files: Sequence[Path], speed: float, start_ns: int | None, end_ns: int | None,
           symbols: list[str] | None, sink: str, to_update_id: int | None, venue: str | None,
           as_json: bool) -> int:  # fmt: skip
    """Play captured FILES, together one session, through the same feed."""
    log_plainly(context, "warning")
    from mdfeed import replay as verb

    return verb.run(
        list(files), speed=speed, start_ns=start_ns, end_ns=end_ns, symbols=symbols or [], sink=sink, json=as_json,
        to_update_id=to_update_id, venue=venue,
    )  # fmt: skip


@door.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
@config_option
@click.option("--redis-url", help="redis://, rediss:// or unix:// URL.")
@click.option("--follow", is_flag=True, help="Print changes as they are published, until interrupted.")
@click.option("--clients", is_flag=True, help="Who is connected, and what is subscribed to.")
@click.option("--json", "as_json", is_flag=True, envvar="MDFEED_INSPECT_JSON", help="One JSON document on stdout.")
@common
@click.pass_context
def inspect(context: click.Context, symbols: Sequence[str], config: Path | None, redis_url: str | None, follow: bool,
            clients: bool, as_json: bool) -> int:  # fmt: skip
    """Show what is in Redis: prices, ages, states, books, trades."""
    effective = effective_config(context, config, {"redis_url": redis_url})
    from mdfeed import inspect as verb

    return verb.run([symbol.upper() for symbol in symbols], follow, as_json, clients, effective.redis_url)


@door.command()
@config_option
@click.option("--redis-url", help="redis://, rediss:// or unix:// URL.")
@click.option(
    "--within", "within_s", type=click.FloatRange(min=0.1), default=10.0, show_default=True, metavar="SECONDS",
    help="How long a stream may take for its first message.", envvar="MDFEED_DOCTOR_WITHIN",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, envvar="MDFEED_DOCTOR_JSON", help="One JSON document on stdout.")
@common
@click.pass_context
def doctor(context: click.Context, config: Path | None, redis_url: str | None, within_s: float, as_json: bool) -> int:
    """Examine configuration, Redis, exchange, ports and unit; exit 3 for warnings, 1 for errors."""
    log_plainly(context, "error")
    from mdfeed import doctor as verb

    return verb.run(found_config(config), {"redis_url": redis_url}, as_json, within_s)


@door.group(cls=Door)
@common
def config() -> None:
    """Check, show or make a configuration."""


@config.command("check")
@config_option
@common
@click.pass_context
def config_check(context: click.Context, config: Path | None) -> None:
    """Validate; exit 78 with the place of the first mistake."""
    from mdfeed import venues
    from mdfeed.gate import tls_context

    effective = effective_config(context, config, {})
    venues.of(effective)
    tls_context(effective)
    path = found_config(config)
    click.echo(f"{path or 'no file, defaults'}: ok, {len(effective.symbols)} symbols of {effective.venue}")


@config.command("show")
@config_option
@common
@click.pass_context
def config_show(context: click.Context, config: Path | None) -> None:
    """Print the effective values with their origin, secrets masked."""
    from mdfeed.config import show_config

    click.echo(show_config(effective_config(context, config, {})), nl=False)


@config.command("init")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@common
def config_init(file: Path | None) -> None:
    """Write a commented file with every key, to stdout or to FILE, which must not exist."""
    from mdfeed.config import default_file

    if file is None:
        click.echo(default_file(), nl=False)
        return
    try:
        with file.open("x") as out:
            out.write(default_file())
    except OSError as error:
        raise MdfeedError(f"{file}: {error.strerror}; nothing was written") from None


def found_config(path: Path | None) -> Path | None:
    return path if path is not None else Path(DEFAULT_FILE) if Path(DEFAULT_FILE).exists() else None


def effective_config(context: click.Context, path: Path | None, options: dict[str, Any]) -> Config:
    """The configuration of this command, and logging set up by it."""
    from mdfeed.config import load_config
    from mdfeed.logs import set_up_logging

    effective = load_config(found_config(path), {**options, "log.level": asked_level(context)})
    set_up_logging(effective.log.level, effective.log.format)
    return effective


def log_plainly(context: click.Context, level: str) -> None:
    """Logging of the commands that have no configuration file."""
    from mdfeed.logs import set_up_logging

    set_up_logging(asked_level(context) or level, "auto")


def asked_level(context: click.Context) -> str | None:
    asked = context.ensure_object(dict)
    if asked.get("debug"):
        return "debug"
    return "warning" if asked.get("quiet") else "debug" if asked.get("verbose") else None


def run(arguments: Sequence[str]) -> int:
    """One command line to its exit code; every message that ends a command is written here."""
    is_debug = "--debug" in arguments
    try:
        result = door.main(list(arguments), prog_name="mdfeed", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        text, code = error.format_message(), error.exit_code
        if isinstance(error, click.UsageError) and error.ctx is not None:
            text += f" (see {error.ctx.command_path} --help)"
    except MdfeedError as error:
        if is_debug:
            raise
        text, code = str(error), error.exit_code
    except BrokenPipeError:
        # The reader of our output left, as `head` does. Python flushes stdout at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if is_debug:
            raise
        text, code = f"unexpected {cause_of(error)}; --debug shows more", 1
    from mdfeed.config import mask

    print(f"mdfeed: error: {mask(' '.join(text.split()))}", file=sys.stderr)
    return code


def cause_of(error: BaseException) -> str:
    """The exception behind groups of one, and the line that raised it: what a bug report needs at the least."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}: {error}{place}"


def leave(code: int) -> NoReturn:
    """End the process at once, with all that was said written."""
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main() -> None:
    code = run(sys.argv[1:])
    if "uvloop" in sys.modules:
        # An ordinary exit waits for libuv's threads. One that asks a name server which is away takes ten seconds and
        # more, cannot be stopped, and then reports to a loop that is gone: SIGSEGV.
        leave(code)
    sys.exit(code)
