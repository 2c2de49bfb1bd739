"""The options that several commands of `reconnect-harness` have, each described once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

#: What a click decorator of an option is.
Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def sut(*, kinds: str = "PRESET|COMMAND|URL|direct") -> Option:
    """Return `--sut`, which a command gets as `system`: one system under test, of the `kinds` that it can be."""
    return click.option(
        "--sut", "system", metavar=kinds, help="The system under test.  [default: reconnect-proxy serve]"
    )


def suts(default: tuple[str, ...], *, kinds: str = "PRESET|COMMAND|URL|direct") -> Option:
    """Return `--sut` where it may be given several times; a command gets them as `systems`."""
    return click.option(
        "--sut",
        "systems",
        metavar=kinds,
        multiple=True,
        default=default,
        show_default=True,
        help="A system under test; may be given several times.",
    )


def toxiproxy(default: str | None = None, more: str = "") -> Option:
    """Return `--toxiproxy`, with a `default` where it is not the first that is found, and `more` to be said of it."""
    return click.option(
        "--toxiproxy",
        metavar="URL|BINARY|docker[:IMAGE]|embedded",
        default=default,
        show_default=True,
        help=f"Which Toxiproxy to use.{more}",
    )


def seed() -> Option:
    """Return the option that a command gets as `seed`. The name that pytest's has is taken too, as it is by `out`."""
    return click.option(
        "--seed",
        "--scenario-seed",
        "seed",
        type=int,
        default=1,
        show_default=True,
        help="What random parts are drawn from; the same one makes the same run.",
    )


def out(default: Path, what: str) -> Option:
    """Return the option that a command gets as `out`, a folder; `what` says what will lie there."""
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
    """Return a callback that reads what was given as `parse` does (one value, several, or none); 0 is too little."""

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
