"""The results of a run as tables, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reconnect_harness.bench.bench import BenchReport
from reconnect_harness.bench.budgets import BudgetOutcome, BudgetResult
from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import QUANTILES, Bottleneck, Figure
from reconnect_harness.report.table import ResultTable
from reconnect_harness.sut.base import DIRECT, OWN

#: The text of a cell without a value.
NOTHING = "–"

#: The lines around the tables that `--markdown FILE` writes into a file.
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


class MarkdownError(Exception):
    """Tables cannot be written into a file. The message is a sentence."""


class FigureColumn(NamedTuple):
    """A heading, and the text below it for a contender in a case."""

    heading: str
    show: Callable[[BenchReport, Case, str], str]


class TableSpec(NamedTuple):
    """A table: its title, the shapes of its cases, its columns after case and contender."""

    title: str
    shapes: Sequence[Shape]
    columns: Sequence[FigureColumn]


def _spread(figure: Figure, scale: float = 1.0, digits: int = 1) -> Callable[[BenchReport, Case, str], str]:
    def show(report: BenchReport, case: Case, name: str) -> str:
        spread = report.results.spread(case.name, name, figure)
        if spread is None:
            return NOTHING
        least, median, most = (f"{value / scale:,.{digits}f}" for value in spread)
        return median if least == most else f"{median} ({least} .. {most})"

    return show


def _rate(report: BenchReport, case: Case, name: str) -> str:
    median = report.results.median(case.name, name, Figure.RATE)
    if median is None:
        return NOTHING
    limited = report.results.limited_by(Bottleneck.LOAD, case.name, name)
    return f"{'> ' if limited else ''}{median:,.0f}"


def _times(report: BenchReport, case: Case, name: str) -> str:
    """Return the CPU time of a contender as a multiple of that of this project's proxy."""
    own, other = (report.results.median(case.name, one, Figure.CPU) for one in (OWN, name))
    if own is None or other is None or name == OWN:
        return NOTHING
    return f"{other / own:.2f} x"


_CPU = FigureColumn("CPU µs each, median (min .. max)", _spread(Figure.CPU))
_TIMES = FigureColumn("of ours", _times)
_EACH = FigureColumn("per second", _rate)
_LATENCIES = [FigureColumn(f"p{100 * share:g} µs", _spread(figure, digits=0)) for figure, share in QUANTILES.items()]

#: The tables of a run.
PARTS = (
    TableSpec(
        "CPU time of the contender for each round trip, or each message one way",
        (Shape.REQUEST_REPLY, Shape.PIPELINED, Shape.UP, Shape.DOWN, Shape.FAN_OUT),
        [_CPU, _TIMES, _EACH],
    ),
    TableSpec("Latency", (Shape.REQUEST_REPLY, Shape.PACED), [*_LATENCIES, _CPU]),
    TableSpec(
        "Sessions: CPU time for each round trip while others are idle, and memory for each",
        (Shape.CROWD,),
        [_CPU, FigureColumn("KiB a session", _spread(Figure.MEMORY, 1024)), _EACH],
    ),
    TableSpec(
        "Sessions: opened, each with one message there and back; CPU time for each",
        (Shape.OPEN,),
        [_CPU, _TIMES, _EACH, FigureColumn("seconds", _spread(Figure.SECONDS, digits=2))],
    ),
    TableSpec(
        "From the server's return until the last session is served again",
        (Shape.RECOVER,),
        [FigureColumn("seconds", _spread(Figure.SECONDS, digits=2))],
    ),
    TableSpec(
        "A burst to a server that runs, and to one that starts only then; CPU time for each message",
        (Shape.BURST, Shape.DRAIN),
        [_CPU, FigureColumn("messages a second", _rate)],
    ),
)


def tables(report: BenchReport) -> Iterator[ResultTable]:
    """Yield the tables of a run that have rows. A row without figures has the problem in its third cell."""
    for part in PARTS:
        rows = [
            row
            for case in report.cases
            if case.shape in part.shapes
            for name in report.contenders
            if (row := _row(report, part, case, name))
        ]
        if rows:
            headings = ["case", "contender", *(column.heading for column in part.columns)]
            yield ResultTable(headings, rows, 2, part.title, _style)


def _style(row: Sequence[str]) -> str:
    return {OWN: "bold", DIRECT: "dim"}.get(row[1], "")


def _row(report: BenchReport, part: TableSpec, case: Case, name: str) -> list[str]:
    cells = [column.show(report, case, name) for column in part.columns]
    problem = report.results.problem(case.name, name)
    if problem:
        cells[0] = f"not measured: it {problem}"
    elif all(cell == NOTHING for cell in cells):
        return []
    shape = f" ({case.window} in flight)" if case.shape in _WINDOWED else ""
    return [f"{case.name}{shape}", name, *cells]


_WINDOWED = frozenset({Shape.PIPELINED, Shape.UP, Shape.DOWN, Shape.FAN_OUT})


def to_markdown(report: BenchReport, budgets: Sequence[BudgetResult]) -> str:
    """Return a whole run as Markdown: the command, the machine, the budgets and the tables."""
    lines = [f"Made by `{report.command}` on", ""]
    lines += [f"- {what}: {value}" for what, value in report.machine.items()]
    lines += [f"- `{name}`: {what}" for name, what in report.contenders.items()]
    lines += [f"- `{name}` was left out: {why}" for name, why in report.missing.items()]
    lines += [f"- {note}" for note in report.notes]
    lines += [
        "",
        *ResultTable(("budget", "bound", "measured", ""), [_budget(result) for result in budgets], 1).markdown(),
    ]
    for found in tables(report):
        lines += ["", f"**{found.title}**", "", *found.markdown()]
    return "\n".join(lines) + "\n"


def _budget(result: BudgetResult) -> list[str]:
    mark = f"**{result.outcome}**" if result.outcome is BudgetOutcome.EXCEEDED else str(result.outcome)
    return [result.budget.what, result.budget.bound, result.measured, mark]


def write(text: str, path: Path) -> None:
    """Write tables into a Markdown file: between its two markers, or as a new file.

    Raises:
        MarkdownError: the file exists and has no markers.

    """
    before, after = around(path)
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def around(path: Path) -> tuple[str, str]:
    """Return the text of a file before and after its markers. Raises what `write` raises."""
    if not path.exists():
        return "", "\n"
    before, begin, rest = path.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MarkdownError(f"{path} has no lines {BEGIN} and {END} between which the tables could be written")
    return before, after
