"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def row(cells: Sequence[str]) -> str:
    """Return one row. A pipe in a cell, as a command may have, is escaped."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> Iterator[str]:
    """Yield the lines of a table whose first `left` columns are aligned to the left, and the others to the right."""
    yield row(headings)
    yield row(["---"] * left + ["---:"] * (len(headings) - left))
    yield from map(row, rows)
