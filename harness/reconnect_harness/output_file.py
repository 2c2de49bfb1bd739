"""An option that names a file to write. A file that cannot be written is reported before the command runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class OutputFile(click.Path):
    """The type of an option that names a file to write, or `-` for stdout."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, readable=False, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what was given; fail if it is a folder, or its folder cannot be written."""
        given = super().convert(value, param, ctx)
        folder = Path(os.fsdecode(given)).parent
        if given != "-" and not (folder.is_dir() and os.access(folder, os.W_OK)):
            why = "cannot be written" if folder.is_dir() else "does not exist"
            self.fail(f"{given!r} cannot be made: its folder {str(folder)!r} {why}.", param, ctx)
        return given
