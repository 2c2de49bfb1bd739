"""Options of several commands of `reconnect-harness`, each described once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from reconnect_harness.profile import Profile

#: A decorator that adds an option.
OptionDecorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def sut(*, kinds: str = "PRESET|COMMAND|URL|direct") -> OptionDecorator:
    """Return `--sut`, one system under test, which a command gets as `system`; `kinds` is for the help."""
    return click.option(
        "--sut", "system", metavar=kinds, help="The system under test.  [default: reconnect-proxy serve]"
    )


def suts(default: tuple[str, ...], *, kinds: str = "PRESET|COMMAND|URL|direct") -> OptionDecorator:
    """Return `--sut` for several systems under test, which a command gets as `systems`."""
    return click.option(
        "--sut",
        "systems",
        metavar=kinds,
        multiple=True,
        default=default,
        show_default=True,
        help="A system under test; may be given several times.",
    )


def profile() -> OptionDecorator:
    """Return `--profile`, which a command gets as a `Profile`, or None."""
    return click.option(
        "--profile",
        type=click.Choice([str(profile) for profile in Profile]),
        callback=lambda context, option, given: given and Profile(given),
        help="What the system under test claims, and is judged by.  [default: that of a preset; else everything]",
    )


def toxiproxy(default: str | None = None, more: str = "") -> OptionDecorator:
    """Return `--toxiproxy`. Without a `default` the first one that is found is used; `more` is added to the help."""
    return click.option(
        "--toxiproxy",
        metavar="URL|BINARY|docker[:IMAGE]|embedded",
        default=default,
        show_default=True,
        help=f"Which Toxiproxy to use.{more}",
    )


def seed() -> OptionDecorator:
    """Return `--seed`. The name of pytest's option is accepted too, as it is for `--out`."""
    return click.option(
        "--seed",
        "--scenario-seed",
        "seed",
        type=int,
        default=1,
        show_default=True,
        help="What random parts are drawn from; the same seed makes the same run.",
    )


def out(default: Path, what: str) -> OptionDecorator:
    """Return `--out`, a folder; `what` is the help."""
    return click.option(
        "--out",
        "--scenario-out",
        "out",
        type=click.Path(path_type=Path, file_okay=False),
        default=default,
        show_default=True,
        help=what,
    )


def positive(parse: Callable[[str], float]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that parses one value, several, or none, and refuses 0."""

    def read(text: str) -> float:
        try:
            number = parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if not number:
            raise click.BadParameter(f"{text!r} is too little: it must be more than 0")
        return number

    def callback(context: click.Context, option: click.Parameter, given: Any) -> Any:
        return tuple(map(read, given)) if isinstance(given, tuple) else given and read(given)

    return callback
