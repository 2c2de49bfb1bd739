"""`reconnect-harness bench`: its options, what it prints, and what it leaves in a folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from reconnect_harness import options
from reconnect_harness.bench import plan as plans
from reconnect_harness.bench import table
from reconnect_harness.bench.bench import DEFAULT_OUT, Bench, Report, run
from reconnect_harness.bench.budgets import Outcome, Verdict, judge
from reconnect_harness.bench.cases import Shape, product
from reconnect_harness.bench.plan import CONTENDERS, Plan
from reconnect_harness.bench.plots import PlotsUnavailable, draw
from reconnect_harness.output_file import OutputFile
from reconnect_harness.run.campaign import writing
from reconnect_proxy.units import parse_duration, parse_size

#: Options that say where the results go, which is nothing for whoever repeats the run.
_OUTPUT = ("markdown", "out", "plots", "check")


@click.command()
@options.suts(CONTENDERS, kinds="PRESET|COMMAND|direct")
@click.option("--quick", "chosen", flag_value="quick", help="Less than a minute: what the budgets need, roughly.")
@click.option("--full", "chosen", flag_value="full", help="An hour: every shape, size and number of connections.")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    type=click.Choice([str(shape) for shape in Shape]),
    help="Measure this shape instead.",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    callback=options.positive(parse_size),
    metavar="SIZE",
    help="Messages of this size instead.",
)
@click.option(
    "--connections",
    "counts",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="With so many connections instead; sessions where a shape counts these, messages in burst and drain.",
)
@click.option("--rounds", type=click.IntRange(1), metavar="N", help="How often everything is measured.")
@click.option(
    "--seconds", callback=options.positive(parse_duration), metavar="DURATION", help="For how long each time."
)
@click.option("--check", is_flag=True, help="Exit 1 if a budget is exceeded, or could not be measured.")
@click.option(
    "--markdown",
    type=OutputFile(),
    metavar="FILE|-",
    help="Write the tables into FILE, between its markers, or to stdout.",
)
@click.option(
    "--plots", type=click.Path(path_type=Path, file_okay=False), help="Where the plots go.  [default: the folder --out]"
)
@options.out(DEFAULT_OUT, "Where bench.json and the logs of the contenders go.")
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
    """Measure proxies side by side: CPU time, latency, memory, recovery.

    Three to four minutes; --shape, --size and --connections choose something else, in all combinations.
    """
    plan, notes = _plan(chosen, [Shape(shape) for shape in shapes], sizes, counts)
    plan = Plan(plan.cases, rounds or plan.rounds, seconds or plan.seconds, rounds or plan.session_rounds, plan.slow)
    if markdown not in (None, "-"):
        # Better now than when it has run.
        try:
            table.around(Path(markdown))
        except table.MarkdownError as error:
            raise click.UsageError(str(error)) from None
    with Console(stderr=True).status("bench") as status:
        made = Bench(plan, systems, out, command=_command(), progress=status.update)
        click.echo(f"about {made.seconds / 60:.1f} minutes", err=True)
        with writing(out):
            report = run(made)
    report.notes.extend(notes)
    verdicts = judge(report.cases, report.results)
    _tell(report, verdicts, markdown)
    with writing(plots or out), writing(out):
        _leave(report, verdicts, out, plots or out)
    broken = [verdict for verdict in verdicts if verdict.outcome is not Outcome.KEPT]
    return int(not report.contenders or (check and bool(broken)))


def _plan(
    chosen: str | None, shapes: list[Shape], sizes: tuple[int, ...], counts: tuple[int, ...]
) -> tuple[Plan, list[str]]:
    plan = {None: plans.STANDARD, "quick": plans.QUICK, "full": plans.FULL}[chosen]
    if not (shapes or sizes or counts):
        return plan, []
    cases, notes = product(shapes, sizes, counts)
    if not cases:
        raise click.UsageError(f"nothing is left to measure: {'; '.join(notes)}")
    return Plan(cases, plan.rounds, plan.seconds, plan.session_rounds, plan.slow), notes


def _command() -> str:
    """Return the command line that was given, but for where its output goes."""
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
            words += [word for value in _several(given) for word in (option.opts[0], str(value))]
    return shlex.join(words)


def _several(given: Any) -> tuple[Any, ...]:
    return given if isinstance(given, tuple) else (given,)


def _tell(report: Report, verdicts: list[Verdict], markdown: str | None) -> None:
    """Print the tables, or write them where the user wants them."""
    text = table.markdown(report, verdicts)
    if markdown not in (None, "-"):
        table.write(text, Path(markdown))
    console = Console()
    if markdown == "-" or not console.is_terminal:
        click.echo(text, nl=False)
        return
    for grid in table.terminal(report):
        console.print(grid)
    for name, why in report.missing.items():
        console.print(f"{name} was left out: {why}", style="yellow", highlight=False)
    for note in report.notes:
        console.print(note, style="dim", highlight=False)
    for verdict in verdicts:
        style = {Outcome.KEPT: "green", Outcome.EXCEEDED: "red"}.get(verdict.outcome, "yellow")
        console.print(str(verdict), style=style, highlight=False)


def _leave(report: Report, verdicts: list[Verdict], out: Path, plots: Path) -> None:
    found = report.to_json()
    found["budgets"] = [
        {"what": verdict.budget.what, "outcome": str(verdict.outcome), "value": verdict.value} for verdict in verdicts
    ]
    (out / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plots.mkdir(parents=True, exist_ok=True)
    try:
        made = draw(report, plots)
    except PlotsUnavailable as missing:
        click.echo(f"reconnect-harness: {missing}", err=True)
        made = []
    click.echo(" ".join(map(str, [out / "bench.json", *made])), err=True)
