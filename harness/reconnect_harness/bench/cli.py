"""`reconnect-harness bench`: its options, its output, and the files that it leaves."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from reconnect_harness import options
from reconnect_harness.bench import plan as plans
from reconnect_harness.bench import table
from reconnect_harness.bench.bench import DEFAULT_OUT, Bench, BenchReport
from reconnect_harness.bench.budgets import BudgetOutcome, BudgetResult, judge
from reconnect_harness.bench.cases import Shape, product
from reconnect_harness.bench.plan import CONTENDERS
from reconnect_harness.bench.plots import draw
from reconnect_harness.output_file import OutputFile
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.report.plots import PlotsUnavailable
from reconnect_harness.report.table import print_tables
from reconnect_harness.run.results_folder import writing
from reconnect_proxy.units import parse_duration, parse_size

#: Options that say where the results go: no part of the command that repeats the run.
_OUTPUT = ("markdown", "out", "plots", "check")


@click.command()
@options.suts(CONTENDERS, kinds="PRESET|COMMAND|direct")
@click.option("--quick", "chosen", flag_value="quick", help="Less than a minute: roughly what the budgets need.")
@click.option("--full", "chosen", flag_value="full", help="About an hour: every shape, size and number of connections.")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    type=click.Choice([str(shape) for shape in Shape]),
    help="Measure this shape only; may be given several times.",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    callback=options.positive(parse_size),
    metavar="SIZE",
    help="Use messages of this size; may be given several times.",
)
@click.option(
    "--connections",
    "counts",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="Use so many connections (sessions in open, crowd and recover; messages in burst and drain).",
)
@click.option("--rounds", type=click.IntRange(1), metavar="N", help="How often everything is measured.")
@click.option(
    "--seconds",
    callback=options.positive(parse_duration),
    metavar="DURATION",
    help="How long steady traffic is measured each time.",
)
@click.option("--check", is_flag=True, help="Exit with 1 if a budget is exceeded, or could not be measured.")
@click.option(
    "--markdown",
    type=OutputFile(),
    metavar="FILE|-",
    help="Write the tables into FILE, between its markers, or to stdout.",
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder for the plots.  [default: the folder of --out]",
)
@options.out(DEFAULT_OUT, "The folder for bench.json and the logs of the contenders.")
def bench(
    systems: tuple[str, ...],
    chosen: str | None,
    shapes: tuple[str, ...],
    sizes: tuple[int, ...],
    counts: tuple[int, ...],
    rounds: int | None,
    seconds: float | None,
    check: bool,
    markdown: str | None,
    plots: Path | None,
    out: Path,
) -> int:
    """Measure proxies side by side.

    The figures are CPU time, latency, memory and recovery. This takes three to four minutes. With --shape, --size and
    --connections all combinations of these are measured instead.
    """
    plan = plans.NAMED[chosen]
    notes: list[str] = []
    if shapes or sizes or counts:
        cases, notes = product([Shape(shape) for shape in shapes], sizes, counts)
        if not cases:
            raise click.UsageError(f"nothing is left to measure: {'; '.join(notes)}")
        plan = replace(plan, cases=cases)
    if rounds:
        plan = replace(plan, rounds=rounds, session_rounds=rounds)
    if seconds:
        plan = replace(plan, seconds=seconds)
    if markdown not in (None, "-"):
        # Before the run, not after it.
        try:
            table.around(Path(markdown))
        except table.MarkdownError as error:
            raise click.UsageError(str(error)) from None
    with Console(stderr=True).status("bench") as status:
        made = Bench(plan, systems, out, _command(), status.update)
        click.echo(f"about {made.seconds / 60:.1f} minutes", err=True)
        with writing(out):
            report = run_to_end(made.run())
    report.notes.extend(notes)
    budgets = judge(report.cases, report.results)
    _print(report, budgets, markdown)
    with writing(plots or out), writing(out):
        _write(report, budgets, out, plots or out)
    broken = [result for result in budgets if result.outcome is not BudgetOutcome.KEPT]
    return int(not report.contenders or (check and bool(broken)))


def _command() -> str:
    """Return the command line that was given, without the options for output."""
    context = click.get_current_context()
    words = ["reconnect-harness", "bench"]
    for option in context.command.params:
        name = option.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in _OUTPUT:
            continue
        given = context.params[name]
        if name == "chosen":
            words += [f"--{given}"] if f"--{given}" in option.opts else []
        else:
            values = given if isinstance(given, tuple) else (given,)
            words += [word for value in values for word in (option.opts[0], str(value))]
    return shlex.join(words)


def _print(report: BenchReport, budgets: list[BudgetResult], markdown: str | None) -> None:
    """Print the tables, or write them to the file that was given."""
    text = table.to_markdown(report, budgets)
    if markdown not in (None, "-"):
        table.write(text, Path(markdown))
    styles = {BudgetOutcome.KEPT: "green", BudgetOutcome.EXCEEDED: "red", BudgetOutcome.UNKNOWN: "yellow"}
    notes = [(f"{name} was left out: {why}", "yellow") for name, why in report.missing.items()]
    notes += [(note, "dim") for note in report.notes]
    notes += [(str(result), styles[result.outcome]) for result in budgets]
    print_tables(text, table.tables(report), notes, always=markdown == "-")


def _write(report: BenchReport, budgets: list[BudgetResult], out: Path, plots: Path) -> None:
    found = report.to_json()
    found["budgets"] = [
        {"what": result.budget.what, "outcome": str(result.outcome), "value": result.value} for result in budgets
    ]
    (out / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plots.mkdir(parents=True, exist_ok=True)
    try:
        made = draw(report, plots)
    except PlotsUnavailable as missing:
        click.echo(f"reconnect-harness: {missing}", err=True)
        made = []
    click.echo(" ".join(map(str, [out / "bench.json", *made])), err=True)
