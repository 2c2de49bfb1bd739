"""`reconnect-harness soak`: its options, what it prints, and what it leaves in a folder."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from reconnect_harness import options
from reconnect_harness.bench.plots import PlotsUnavailable
from reconnect_harness.checks.checkers import Verdict
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.run.campaign import writing
from reconnect_harness.scenario.model import proxy_options
from reconnect_harness.soak import table
from reconnect_harness.soak.picture import draw
from reconnect_harness.soak.plan import Plan, check
from reconnect_harness.soak.soak import DEFAULT_OUT, Soak
from reconnect_harness.soak.verdict import Evidence, judge
from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_proxy.units import parse_duration

#: The Toxiproxy of a soak. The real one, 2.12, hangs now and then when a toxic is taken off while connections end (its
#: issue 558): that is seldom in a run of seconds, and certain in one without end.
TOXIPROXY = "embedded"


def _options(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise click.BadParameter(f"{one!r} is not of the form NAME=VALUE")
        found[name.replace("-", "_")] = value
    try:
        proxy_options(found)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return found


@click.command()
@click.option(
    "--for",
    "seconds",
    metavar="TIME",
    default="10m",
    show_default=True,
    callback=options.positive(parse_duration),
    help="How long.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many clients there are at a time.",
)
@options.sut(kinds="PRESET|COMMAND")
@click.option(
    "--proxy",
    "told",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_options,
    help="An option of `reconnect-proxy serve`; may be given several times.",
)
@options.toxiproxy(TOXIPROXY, " The real one does not last: see docs/soak.md.")
@options.seed()
@options.out(DEFAULT_OUT, "Where the run gets a folder for its files.")
def soak(
    seconds: float, sessions: int, system: str | None, told: dict[str, str], toxiproxy: str, seed: int, out: Path
) -> int:
    """Sessions, faults and reconnects without end: is nothing lost, and do memory, descriptors and latency stay flat?

    Ctrl-C ends it early, with a verdict on what was run; a second one ends it at once.
    """
    plan = Plan(seconds, sessions, seed, system, told)
    check(plan)
    command = _command(plan, toxiproxy)
    with Console(stderr=True).status("soak") as status, find_toxiproxy(toxiproxy).server() as server:
        run = Soak(plan, server, out, status.update)
        click.echo(f"system under test: {run.done.system}\ntoxiproxy: {run.done.toxiproxy}", err=True)
        try:
            with writing(out):
                done = run_to_end(run.run())
        except asyncio.CancelledError:
            # The second Ctrl-C.
            raise KeyboardInterrupt from None
    evidence = Evidence.of(done.folder)
    judgement = judge(done, evidence)
    for line in table.lines(done, judgement):
        click.echo(line)
    rows = list(table.rows(done, judgement, evidence))
    console = Console()
    if console.is_terminal:
        grid = Table("check", "found", "at most")
        for row in rows:
            grid.add_row(*row)
        console.print(grid)
    else:
        click.echo(table.markdown(rows, judgement, command), nl=False)
    left = [done.folder / "soak.json"]
    left[0].write_text(json.dumps(table.to_json(done, judgement, command), indent=1) + "\n", encoding="utf-8")
    try:
        draw(done, evidence, done.folder / "soak.svg")
        left.append(done.folder / "soak.svg")
    except PlotsUnavailable as missing:
        click.echo(f"reconnect-harness: {missing}", err=True)
    click.echo(" ".join(map(str, [*left, done.folder / "samples.jsonl"])), err=True)
    return int(judgement.verdict is not Verdict.VALID)


def _command(plan: Plan, toxiproxy: str) -> str:
    """Return the command that makes such a run again."""
    words = ["reconnect-harness", "soak", "--for", table.lasting(plan.seconds), "--sessions", str(plan.guests)]
    words += ["--sut", plan.system] if plan.system else []
    words += [word for name, value in plan.options.items() for word in ("--proxy", f"{name}={value}")]
    words += ["--toxiproxy", toxiproxy] if toxiproxy != TOXIPROXY else []
    return shlex.join([*words, "--seed", str(plan.seed)])
