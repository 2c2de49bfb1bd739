"""`reconnect-proxy serve`: the proxy as a program, from its options to its exit code. `ready` asks a running proxy.

| exit code | when |
| --- | --- |
| 0 | stopped by SIGTERM or SIGINT; `ready`: the proxy is ready |
| 1 | it cannot listen, for instance because the port is in use; `ready`: the proxy is not ready |
| 2 | an option, a variable or the file is wrong |

Every error is one line on stderr.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, get_origin

import click
import uvloop
from pydantic.fields import FieldInfo

from .admin.probe import why_not_ready
from .admin.routes import Admin
from .admin.view import ProxyView
from .config import sources
from .config.model import FORMER_NAMES, Config
from .config.sources import ConfigError, flag_of
from .core.policy import DUPLEX
from .descriptors import take_descriptors
from .observe.logs import logger, start_logging
from .observe.observers import Observers
from .proxy import Proxy
from .serving import (
    STOP_SIGNALS,
    CannotServe,
    Signals,
    first_of,
    listening_on,
    say_nothing_to_reload,
    say_ready,
    say_stopped,
    say_stopping,
    tune_gc,
)
from .suggestions import wrong_command
from .units import format_duration, format_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (those of the process) and return the exit code."""
    try:
        code = commands.main(arguments, prog_name="reconnect-proxy", standalone_mode=False)
    except click.ClickException as error:
        return _complain(wrong_command(error), 2)
    except ConfigError as error:
        return _complain(str(error), 2)
    except CannotServe as error:
        return _complain(str(error), 1)
    except click.Abort:
        return 130
    return int(code or 0)


def _complain(message: str, code: int) -> int:
    # If stderr is full or closed, the exit code must do.
    with suppress(OSError):
        click.echo(f"reconnect-proxy: {' '.join(message.split())}", err=True)
    return code


def _open_standard_streams() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed: otherwise a socket would get its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, no_args_is_help=False)
@click.version_option(package_name="reconnect-proxy", message="%(prog)s %(version)s")
def commands() -> None:
    """A WebSocket proxy whose sessions outlive dropped connections."""


def _flag(option: str, field: FieldInfo) -> click.Option:
    """Return the flag of one field of `Config`. The value stays text; `Config` checks it."""
    extra = field.json_schema_extra
    metavar = str(extra["metavar"]) if isinstance(extra, dict) else ""
    default = "required" if field.is_required() else f"default: {_default_text(option, field, metavar)}"
    text = f"{field.description}  [{default}]"
    flag = flag_of(option)
    if field.annotation is bool:
        return click.Option([f"{flag}/--no-{flag.removeprefix('--')}"], default=None, help=text)
    # Lists may be given several times.
    return click.Option([flag], metavar=metavar, multiple=get_origin(field.annotation) is tuple, help=text)


def _current_name(name: str) -> str:
    """Return the name of a flag, without its dashes, that may be given under a former one."""
    current = FORMER_NAMES.get(name.replace("-", "_"))
    return name if current is None else flag_of(current).removeprefix("--")


def _default_text(option: str, field: FieldInfo, metavar: str) -> str:
    # The default of grace depends on the mode; its help text names the other defaults.
    value: Any = DUPLEX.grace if option == "grace" else field.default
    if value is None or value == ():
        return "off" if metavar.endswith("|off") else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    kind = metavar.removesuffix("|off")
    if kind == "DURATION":
        return format_duration(value)
    return format_size(value) if kind == "SIZE" else str(value)


def configure(config: str | None, **flags: object) -> Config:
    """Return the configuration made of the parsed `flags` of `serve`, the environment, and the file `config`.

    Raises:
        ConfigError: see `sources.load`.

    """
    return sources.check(_gather(config, **flags))


def _gather(config: str | None, **flags: object) -> dict[str, sources.Given]:
    """Return what was given of each option, by a flag, a variable or the file."""
    return sources.gather(
        {option: value for option, value in flags.items() if value not in (None, ())}, os.environ, config
    )


def _run(**flags: Any) -> int:
    _open_standard_streams()
    with _ready_for_signals():
        # Hooks may be in the working directory. Installed modules are found first.
        sys.path.append("")
        given = _gather(**flags)
        settings = sources.check(given)
        start_logging(settings.log_format, settings.log_level)
        if flags.get("admin_token") is not None:
            remedy = "--admin-token-file or RECONNECT_PROXY_ADMIN_TOKEN"
            logger.warning("admin token visible", extra={"fields": {"where": "the command line", "remedy": remedy}})
        take_descriptors(settings)
        tune_gc()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if settings.workers > 1:
                # One process does not need this module.
                from .workers.supervisor import supervise

                return runner.run(supervise(settings, {option: each.value for option, each in given.items()}))
            return runner.run(serve(settings))


@contextmanager
def _ready_for_signals() -> Iterator[None]:
    """Exit with 0 at a stop signal until `serve` handles the signals itself.

    SIGHUP does nothing, because no certificates are loaded yet. By default it would end the process.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    def go_on(number: int, frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, leave) for number in STOP_SIGNALS}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, go_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


serve_command = click.Command(
    "serve",
    callback=_run,
    params=[
        *(_flag(option, field) for option, field in Config.model_fields.items()),
        click.Option(
            ["--config"],
            metavar="FILE",
            help='A TOML file of these options: `retry-for = "30s"`, at the top or in [reconnect-proxy].',
        ),
    ],
    context_settings={"token_normalize_func": _current_name},
    short_help="Run the proxy until a stop signal.",
    help="Run the proxy until SIGTERM or SIGINT, which end it after the drain time. A second one ends it at once. "
    "SIGHUP reads the certificates again. "
    "Every option may also be given as a variable (RECONNECT_PROXY_RETRY_FOR=30s) or in the file of --config. A flag "
    "overrides a variable, and a variable overrides the file.",
)
commands.add_command(serve_command)


@commands.command()
@click.option("--admin", metavar="HOST:PORT", help="The admin listener of the proxy.  [default: RECONNECT_PROXY_ADMIN]")
@click.option("--config", metavar="FILE", help="The TOML file with which the proxy was started.")
def ready(admin: str | None, config: str | None) -> int:
    """Ask a running proxy for /readyz. Exit with 0 if it is ready, with 1 and the reason if not.

    Its admin listener is given as for `serve`: by the flag, the variable or the file.
    """
    # The upstream may have been given to `serve` only, and is not used here.
    settings = configure(config, admin=admin, upstream=["ws://127.0.0.1:1"])
    if settings.admin is None:
        raise ConfigError("no admin listener to ask: give --admin HOST:PORT, or RECONNECT_PROXY_ADMIN")
    reason = why_not_ready(settings.admin)
    return 0 if reason is None else _complain(f"not ready: {reason}", 1)


async def serve(config: Config) -> int:
    """Run a proxy with `config` in the running loop until a stop signal arrives; return the exit code.

    Raises:
        CannotListen: the address of the proxy or of the admin listener cannot be bound.

    """
    with Signals() as signals, Observers() as observe:
        async with AsyncExitStack() as stack:
            proxy = Proxy(config, observe=observe)
            signals.on_hangup = lambda: _reload(proxy)
            with listening_on(config.listen, "--listen"):
                await stack.enter_async_context(proxy)
            observe.watch(proxy)
            view = ProxyView(proxy)
            admin = Admin(config.admin, view, observe.metrics, observe, config.bearer) if config.admin else None
            if admin and config.admin:
                with listening_on(config.admin, "--admin"):
                    await stack.enter_async_context(admin)
            say_ready(proxy.url, config, admin.url if admin else None)
            await signals.stop()
            say_stopping(config, len(proxy.contexts))
            await first_of(proxy.drain(config.drain), signals.stop())
            # Before the admin listener ends: until then it answers that this proxy is not ready.
            say_stopped(await proxy.stop())
    return 0


def _reload(proxy: Proxy) -> None:
    """Read the certificates again. A proxy without TLS logs that there are none."""
    if proxy.tls.listener is None and proxy.tls.upstream is None:
        say_nothing_to_reload()
    proxy.reload_tls()


if __name__ == "__main__":
    sys.exit(main())
