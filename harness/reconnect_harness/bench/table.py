"""A run as tables: the same ones for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from reconnect_harness.bench.bench import Report
from reconnect_harness.bench.budgets import Outcome, Verdict
from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import QUANTILES, Figure, Limit
from reconnect_harness.sut.base import DIRECT, OWN

#: What stands in a cell that has nothing to say.
NOTHING = "–"

#: What a file has around the tables that `--markdown FILE` writes into it.
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


class MarkdownError(Exception):
    """Tables cannot be written into a file. The message is a sentence."""


class Column(NamedTuple):
    """A heading, and what stands below it for a contender in a case."""

    heading: str
    show: Callable[[Report, Case, str], str]


class Part(NamedTuple):
    """A table: its title, the shapes of its cases, its columns behind case and contender."""

    title: str
    shapes: Sequence[Shape]
    columns: Sequence[Column]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with its cells; a row that has a `problem` and no figures has the problem in its third cell."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def _spread(figure: Figure, scale: float = 1.0, digits: int = 1) -> Callable[[Report, Case, str], str]:
    def show(report: Report, case: Case, name: str) -> str:
        spread = report.results.spread(case.name, name, figure)
        if spread is None:
            return NOTHING
        least, median, most = (f"{value / scale:,.{digits}f}" for value in spread)
        return median if least == most else f"{median} ({least} .. {most})"

    return show


def _rate(report: Report, case: Case, name: str) -> str:
    median = report.results.median(case.name, name, Figure.RATE)
    if median is None:
        return NOTHING
    limited = report.results.limited(case.name, name, Limit.LOAD)
    return f"{'> ' if limited else ''}{median:,.0f}"


def _times(report: Report, case: Case, name: str) -> str:
    """Return how the CPU time of a contender compares with this project's proxy."""
    own, other = (report.results.median(case.name, one, Figure.CPU) for one in (OWN, name))
    if own is None or other is None or name == OWN:
        return NOTHING
    return f"{other / own:.2f} x"


_CPU = Column("CPU µs each, median (min .. max)", _spread(Figure.CPU))
_TIMES = Column("of ours", _times)
_EACH = Column("per second", _rate)
_LATENCIES = [Column(f"p{100 * share:g} µs", _spread(figure, digits=0)) for figure, share in QUANTILES.items()]

#: The tables of a run.
PARTS = (
    Part(
        "CPU time of the contender for each round trip, or each message one way",
        (Shape.REQUEST_REPLY, Shape.PIPELINED, Shape.UP, Shape.DOWN, Shape.FAN_OUT),
        [_CPU, _TIMES, _EACH],
    ),
    Part("Latency", (Shape.REQUEST_REPLY, Shape.PACED), [*_LATENCIES, _CPU]),
    Part(
        "Sessions: CPU time for each round trip where others are idle, and memory for each",
        (Shape.CROWD,),
        [_CPU, Column("KiB a session", _spread(Figure.MEMORY, 1024)), _EACH],
    ),
    Part(
        "Sessions: opened, each with one message there and back; CPU time for each",
        (Shape.OPEN,),
        [_CPU, _TIMES, _EACH, Column("seconds", _spread(Figure.SECONDS, digits=2))],
    ),
    Part(
        "From the server's return to the last session that is served again",
        (Shape.RECOVER,),
        [Column("seconds", _spread(Figure.SECONDS, digits=2))],
    ),
    Part(
        "A burst to a server that is there, and the same to one that comes only then; CPU time for each message",
        (Shape.BURST, Shape.DRAIN),
        [_CPU, Column("messages a second", _rate)],
    ),
)


def grids(report: Report) -> Iterator[Grid]:
    """Yield the tables of a run that have rows."""
    for part in PARTS:
        headings = ["case", "contender", *(column.heading for column in part.columns)]
        rows = [
            row
            for case in report.cases
            if case.shape in part.shapes
            for name in report.contenders
            if (row := _row(report, part, case, name))
        ]
        if rows:
            yield Grid(part.title, headings, rows)


def _row(report: Report, part: Part, case: Case, name: str) -> list[str]:
    cells = [column.show(report, case, name) for column in part.columns]
    problem = report.results.problem(case.name, name)
    if problem:
        cells[0] = f"not measured: it {problem}"
    elif all(cell == NOTHING for cell in cells):
        return []
    shape = f" ({case.window} under way)" if case.shape in _WINDOWED else ""
    return [f"{case.name}{shape}", name, *cells]


_WINDOWED = frozenset({Shape.PIPELINED, Shape.UP, Shape.DOWN, Shape.FAN_OUT})


def terminal(report: Report) -> Iterator[Table]:
    """Yield the tables for a terminal."""
    for grid in grids(report):
        table = Table(*grid.headings[:2], title=grid.title, title_justify="left")
        for heading in grid.headings[2:]:
            table.add_column(heading, justify="right")
        last = ""
        for case, name, *cells in grid.rows:
            if last and case != last:
                table.add_section()
            style = "bold" if name == OWN else "dim" if name == DIRECT else ""
            table.add_row("" if case == last else case, name, *cells, style=style)
            last = case
        yield table


def markdown(report: Report, verdicts: Sequence[Verdict]) -> str:
    """Return a whole run as Markdown: the machine, the tables, what became of the budgets, and how to repeat it."""
    lines = [f"Made by `{report.command}` on", ""]
    lines += [f"- {what}: {value}" for what, value in report.machine.items()]
    lines += [f"- `{name}`: {what}" for name, what in report.contenders.items()]
    lines += [f"- `{name}` was left out: {why}" for name, why in report.missing.items()]
    lines += [f"- {note}" for note in report.notes]
    lines += ["", "| budget | bound | measured | |", "| --- | ---: | ---: | --- |"]
    lines += [_line(_budget(verdict)) for verdict in verdicts]
    for grid in grids(report):
        lines += ["", f"**{grid.title}**", "", _line(grid.headings)]
        lines += [_line(["---", "---", *["---:"] * (len(grid.headings) - 2)]), *map(_line, grid.rows)]
    return "\n".join(lines) + "\n"


def _budget(verdict: Verdict) -> list[str]:
    mark = f"**{verdict.outcome}**" if verdict.outcome is Outcome.EXCEEDED else str(verdict.outcome)
    return [verdict.budget.what, verdict.budget.bound, verdict.measured, mark]


def write(text: str, path: Path) -> None:
    """Write tables into a Markdown file: between its two markers, or all of it where there is no such file.

    Raises:
        MarkdownError: the file is there and has no markers.

    """
    before, after = around(path)
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def around(path: Path) -> tuple[str, str]:
    """Return what a file has before and behind its markers; see `write` for its errors."""
    if not path.exists():
        return "", "\n"
    before, begin, rest = path.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MarkdownError(f"{path} has no lines {BEGIN} and {END} between which the tables could be written")
    return before, after


def _line(cells: Sequence[str]) -> str:
    # A command may have a pipe in it.
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
