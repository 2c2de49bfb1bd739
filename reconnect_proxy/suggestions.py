"""What a user probably meant by a word that is not known: an option, a scenario, a key of a file."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X? ` if `word` is close to one of the `known` words, else nothing."""
    close = get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]}? " if close else ""


def wrong_command(error: click.ClickException) -> str:
    """Return the message of click. If the command is missing or unknown, name the commands."""
    # Here, because programs that only read scenarios do not need it.
    import click

    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or not isinstance(context.command, click.Group):
        return error.format_message()
    return f"{error.format_message()} There are {', '.join(sorted(context.command.commands))}; see --help"
