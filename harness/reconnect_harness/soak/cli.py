"""`reconnect-harness soak`: its options, its output, and the files that it leaves."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path

import click
from rich.console import Console

from reconnect_harness import options
from reconnect_harness.checks.judgement import Judgement, Verdict
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.profile import Profile
from reconnect_harness.report.plots import PlotsUnavailable
from reconnect_harness.report.table import print_tables
from reconnect_harness.run.results_folder import writing
from reconnect_harness.scenario.model import proxy_options
from reconnect_harness.soak import samples, table
from reconnect_harness.soak.picture import draw
from reconnect_harness.soak.plan import SoakPlan, check
from reconnect_harness.soak.soak import DEFAULT_OUT, Soak, SoakResult
from reconnect_harness.soak.verdict import SoakEvidence, judge
from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_proxy.units import parse_duration

#: The Toxiproxy of a soak. Toxiproxy 2.12 sometimes hangs when a toxic is removed while connections end (its issue
#: 558): seldom in a run of seconds, and certainly in one of many minutes.
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
    help="How long there are faults and traffic.",
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
@options.profile()
@click.option(
    "--proxy",
    "proxy",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_options,
    help="An option of `reconnect-proxy serve`; may be given several times.",
)
@options.toxiproxy(TOXIPROXY, " The real one may hang in a long run: see docs/soak.md.")
@options.seed()
@options.out(DEFAULT_OUT, "Where the run gets a folder for its files.")
def soak(
    seconds: float,
    sessions: int,
    system: str | None,
    proxy: dict[str, str],
    toxiproxy: str,
    seed: int,
    out: Path,
    profile: Profile | None,
) -> int:
    """Run sessions and faults for a long time.

    No message may be lost, and memory, descriptors and latency have to stay flat. Ctrl-C ends the faults early, and the
    verdict is on what was run until then; a second Ctrl-C ends everything at once.
    """
    plan = SoakPlan(seconds, sessions, seed, system, proxy, profile)
    check(plan)
    with Console(stderr=True).status("soak") as status, find_toxiproxy(toxiproxy).server() as server:
        run = Soak(plan, server, out, status.update)
        judged = f"{run.result.system}, judged as {plan.judged_as}"
        click.echo(f"system under test: {judged}\ntoxiproxy: {run.result.toxiproxy}", err=True)
        try:
            with writing(out):
                result = run_to_end(run.run())
        except asyncio.CancelledError:
            # The second Ctrl-C.
            raise KeyboardInterrupt from None
    evidence = SoakEvidence.of(result.folder)
    judgement = judge(result, evidence)
    command = _command(plan, toxiproxy)
    _print(result, evidence, judgement, command)
    _write(result, evidence, judgement, command)
    return int(judgement.verdict is not Verdict.VALID)


def _print(result: SoakResult, evidence: SoakEvidence, judgement: Judgement, command: str) -> None:
    for line in table.lines(result, judgement):
        click.echo(line)
    found = table.table(result, judgement, evidence)
    print_tables(table.to_markdown(found, judgement, command), [found])


def _write(result: SoakResult, evidence: SoakEvidence, judgement: Judgement, command: str) -> None:
    """Write `soak.json` and the picture, and print where the files are."""
    written = [result.folder / "soak.json"]
    written[0].write_text(json.dumps(table.to_json(result, judgement, command), indent=1) + "\n", encoding="utf-8")
    try:
        draw(result, evidence, result.folder / "soak.svg")
        written.append(result.folder / "soak.svg")
    except PlotsUnavailable as missing:
        click.echo(f"reconnect-harness: {missing}", err=True)
    click.echo(" ".join(map(str, [*written, result.folder / samples.SAMPLES])), err=True)


def _command(plan: SoakPlan, toxiproxy: str) -> str:
    """Return the command that makes such a run again."""
    words = ["reconnect-harness", "soak", "--for", table.duration(plan.seconds), "--sessions", str(plan.clients)]
    words += ["--sut", plan.system] if plan.system else []
    words += ["--profile", plan.profile] if plan.profile else []
    words += [word for name, value in plan.options.items() for word in ("--proxy", f"{name}={value}")]
    words += ["--toxiproxy", toxiproxy] if toxiproxy != TOXIPROXY else []
    return shlex.join([*words, "--seed", str(plan.seed)])
