"""Tables for people: the same cells on a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table whose first `left` columns are aligned to the left, and the others to the right.

    On a terminal, rows with the same first cell are a section, in which it stands once. `style` returns the style of a
    row there.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int
    title: str | None = None
    style: Callable[[Sequence[str]], str] = lambda row: ""

    def markdown(self) -> Iterator[str]:
        yield _line(self.headings)
        yield _line(["---"] * self.left + ["---:"] * (len(self.headings) - self.left))
        yield from map(_line, self.rows)

    def terminal(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if index < self.left else "right")
        grouped = len({row[0] for row in self.rows}) < len(self.rows)
        last = ""
        for row in self.rows:
            if grouped and last and row[0] != last:
                table.add_section()
            table.add_row("" if row[0] == last else row[0], *row[1:], style=self.style(row))
            last = row[0]
        return table


def print_tables(
    markdown: str, tables: Iterable[ResultTable], notes: Iterable[tuple[str, str]] = (), *, always: bool = False
) -> None:
    """Print the tables, and the notes in their styles; where stdout is no terminal, or `always`, the `markdown`."""
    console = Console()
    if always or not console.is_terminal:
        click.echo(markdown, nl=False)
        return
    for table in tables:
        console.print(table.terminal())
    for note, style in notes:
        console.print(note, style=style, highlight=False)


def _line(cells: Sequence[str]) -> str:
    """Return one row. A pipe in a cell, as a command may have, is escaped."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
