"""`reconnect-harness`: list scenarios, explain one, run some.

| exit code | when |
| --- | --- |
| 0 | every scenario is valid |
| 1 | one is invalid or unknown, or did not run to its end |
| 2 | what was asked for is not there, or is wrong |
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from harness import scenario
from harness.campaign import DEFAULT_OUT, Campaign
from harness.checkers import Expectation, Verdict
from harness.faults import Fault
from harness.links import ToxiproxyError
from harness.processes import ProcessFailed
from harness.report import accusation, proven
from harness.scenario import Scenario, ScenarioError
from reconnect_proxy.units import format_duration, format_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (those of the process) and return the exit code."""
    try:
        return int(commands.main(arguments, prog_name="reconnect-harness", standalone_mode=False) or 0)
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except ScenarioError as error:
        return _complain(str(error), 2)
    except (ToxiproxyError, ProcessFailed) as error:
        return _complain(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return 130


def _complain(message: str, code: int) -> int:
    click.echo(f"reconnect-harness: {message}", err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="reconnect-proxy", message="%(prog)s %(version)s")
def commands() -> None:
    """Test how WebSocket proxies and servers bear network faults."""


@commands.command("list")
def list_scenarios() -> None:
    """Print the scenarios that come with the harness."""
    table = Table("scenario", "what it shows", show_lines=True)
    for name, path in scenario.shipped().items():
        table.add_row(name, scenario.load(path).summary.strip())
    Console().print(table)


@commands.command()
@click.argument("wanted", metavar="NAME|FILE")
def show(wanted: str) -> None:
    """Explain one scenario."""
    for path in scenario.find(wanted):
        click.echo("\n".join(explain(scenario.load(path))))
        click.echo(f"file       {path}")


@commands.command()
@click.argument("wanted", metavar="NAME|FILE|FOLDER|all", nargs=-1, required=True)
@click.option("--sut", metavar="COMMAND|URL|direct", help="The system under test.  [default: reconnect-proxy serve]")
@click.option("--toxiproxy", metavar="URL|BINARY|docker|embedded", help="Which Toxiproxy to use.")
@click.option("--seed", type=int, default=1, show_default=True, help="What random parts are drawn from.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_OUT,
    show_default=True,
    help="Where each run leaves its files.",
)
def run(wanted: tuple[str, ...], sut: str | None, toxiproxy: str | None, seed: int, out: Path) -> int:
    """Run scenarios, without pytest."""
    worst = 0
    with Campaign(wanted, system=sut, toxiproxy=toxiproxy, seed=seed, out=out) as campaign:
        for line in campaign.header():
            click.echo(line)
        for chosen in campaign.scenarios:
            with Console(stderr=True).status(chosen.name) as status:
                done = campaign.run(chosen, status.update)
            click.echo(f"{chosen.name}: {done.judgement.verdict}\n    {proven(done)}")
            for line in accusation(done):
                click.echo(f"    {line}")
            click.echo(f"    {done.folder}/results.json, history.jsonl")
            worst = max(worst, int(done.judgement.verdict is not Verdict.VALID))
    return worst


def explain(chosen: Scenario) -> list[str]:
    """Return the lines that explain a scenario: who talks to whom, what is done to them, and what has to hold."""
    options = ", ".join(f"{key} {value}" for key, value in chosen.proxy.items()) or "its defaults"
    talkers, upstream = chosen.clients, chosen.upstream
    lines = [
        chosen.name,
        chosen.summary.strip(),
        "",
        f"clients    {talkers.count} {talkers.kind}, each sends {talkers.send:g}/s of {_sizes(talkers.size)} "
        f"({talkers.type}) for {format_duration(talkers.lasts)}",
        f"proxy      {options}",
        f"upstream   {upstream.kind}, pushes {upstream.push:g}/s of {_sizes(upstream.size)} ({upstream.type}) "
        "to each client",
    ]
    lines += [f"fault      {_fault(fault)}" for fault in chosen.faults]
    for expected in chosen.expect:
        direction = f" {expected.direction}" if expected.direction else ""
        bound = "is reported" if expected.bound is None else f"at most {_bound(expected)}"
        lines.append(f"expect     {expected.check}{direction}: {bound}")
    return lines


def _bound(expected: Expectation) -> str:
    assert expected.bound is not None
    return format_duration(expected.bound) if expected.check.startswith("recovery") else f"{expected.bound:g}"


def _fault(fault: Fault) -> str:
    parts = [f"{fault.do} {fault.target} at {_span(fault.at)}"]
    if fault.lasts is not None:
        parts.append(f"for {_span(fault.lasts)}")
    if fault.times > 1:
        parts.append(f"{fault.times} times" + (f", every {_span(fault.every)}" if fault.every is not None else ""))
    if fault.stream != "both":
        parts.append(f"{fault.stream} only")
    parts += [f"{name} {value}" for name, value in fault.attributes.items()]
    return ", ".join(parts)


def _span(span: float | tuple[float, float]) -> str:
    return "..".join(map(format_duration, span)) if isinstance(span, tuple) else format_duration(span)


def _sizes(sizes: tuple[int, int]) -> str:
    least, most = map(format_size, sizes)
    return f"{least} to {most}" if least != most else least


if __name__ == "__main__":
    sys.exit(main())
