"""`reconnect-harness`: the commands around scenarios, and the groups of commands of the other tools.

| exit code | when |
| --- | --- |
| 0 | every scenario is valid; `compare`: all were run, with any verdicts; `fuzz`: no timeline has failed |
| 1 | one is invalid or unknown, or did not end; `compare`: one could not be run; `fuzz`: a timeline has failed |
| | `diff`: the two verdicts differ |
| | `bench --check`: a budget is exceeded, or could not be measured; `soak`: the verdict is not valid |
| 2 | a scenario, system, option or file does not exist, or is not valid |
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from reconnect_harness import options
from reconnect_harness.bench.cli import bench
from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.containers.engine import EngineError, EngineUnavailable
from reconnect_harness.output_file import OutputFile
from reconnect_harness.peers.echo_server import upstream
from reconnect_harness.processes.child import ProcessFailed
from reconnect_harness.report import html as report_html
from reconnect_harness.report import summary
from reconnect_harness.report.html import ReportError
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.report.table import print_tables
from reconnect_harness.run.campaign import DEFAULT_OUT, Campaign
from reconnect_harness.run.compare import SYSTEMS, Comparer
from reconnect_harness.run.diff import RunDiff
from reconnect_harness.run.results_folder import ResultsError, writing
from reconnect_harness.scenario import timeline_text as storyboard
from reconnect_harness.scenario.explain import explain
from reconnect_harness.scenario.find import load_scenario, scenario_files, shipped_scenarios
from reconnect_harness.scenario.model import GROUPS, ScenarioError
from reconnect_harness.soak.cli import soak
from reconnect_harness.toxiproxy.embedded.__main__ import main as serve_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyError
from reconnect_proxy.suggestions import wrong_command
from reconnect_proxy.units import parse_duration


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (those of the process) and return the exit code."""
    try:
        return int(commands.main(arguments, prog_name="reconnect-harness", standalone_mode=False) or 0)
    except click.ClickException as error:
        # 2 if the command line is wrong (UsageError), 1 if it cannot be executed.
        return _complain(wrong_command(error), error.exit_code)
    except (ScenarioError, ReportError) as error:
        return _complain(str(error), 2)
    except (ToxiproxyError, ProcessFailed, EngineUnavailable, EngineError, ResultsError) as error:
        return _complain(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return 130


def _complain(message: str, code: int) -> int:
    click.echo(f"reconnect-harness: {message}", err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, no_args_is_help=False)
@click.version_option(package_name="reconnect-proxy", message="%(prog)s %(version)s")
def commands() -> None:
    """Test how WebSocket proxies and servers behave when the network fails."""


@commands.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", metavar="[OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
def load(words: Sequence[str]) -> None:
    """Run a load test with locust and its options: see docs/load.md."""
    if importlib.util.find_spec("locust") is None or importlib.util.find_spec("websocket") is None:
        raise click.UsageError(
            "load runs need locust and websocket-client, which are not installed: pip install 'reconnect-proxy[load]'. "
            "The other commands work without them"
        )
    # locust replaces this program, so that Ctrl-C and the exit code are its own.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "reconnect_harness.load", *words])


@commands.command("list")
def list_scenarios() -> None:
    """Print the scenarios that come with the harness, by group. `show` explains one of them."""
    shipped = [load_scenario(path) for path in shipped_scenarios().values()]
    table = Table("scenario", Column("lasts", justify="right"), "what it shows", box=box.SIMPLE_HEAD)
    for group, title in GROUPS.items():
        mine = [chosen for chosen in shipped if chosen.group == group]
        if mine:
            table.add_row(f"[bold]{group}[/bold]", "", f"[bold]{title}[/bold]")
        for chosen in mine:
            first, _, _ = chosen.summary.strip().partition(". ")
            table.add_row(f"  {chosen.name}", f"{storyboard.seconds(chosen):.0f} s", f"{first.rstrip('.')}.")
        table.add_section()
    Console().print(table)


@commands.command()
@click.argument("wanted", metavar="NAME|FILE")
@options.seed()
def show(wanted: str, seed: int) -> None:
    """Explain one scenario.

    It prints the purpose, the topology, the timeline of faults, the expectations, and the command that runs it.
    """
    for path in scenario_files(wanted):
        chosen = load_scenario(path)
        name, summary, _, *lines = explain(chosen)
        wide = " ".join(["", *(["--seed", str(seed)] if seed != 1 else [])])
        run = shlex.quote(chosen.name if path == shipped_scenarios().get(chosen.name) else str(path))
        for part in (
            [name],
            textwrap.wrap(summary, 100),
            [storyboard.topology(chosen)],
            storyboard.chart(chosen, seed),
            lines,
            [
                f"run it     pytest --scenario={run}{wide.replace('--seed ', '--scenario-seed=')}",
                f"           reconnect-harness run {run}{wide}",
                f"file       {path}",
            ],
        ):
            click.echo("\n".join(part) + "\n")


@commands.command()
@click.argument("wanted", metavar="NAME|FILE|FOLDER|all ...", nargs=-1, required=True)
@options.sut()
@options.profile()
@options.toxiproxy()
@options.seed()
@options.out(DEFAULT_OUT, "The folder in which each run gets a folder for its files.")
def run(wanted: tuple[str, ...], **told: Any) -> int:
    """Run scenarios, without pytest."""
    worst = 0
    with Campaign(wanted, **told) as campaign:
        for line in campaign.header():
            click.echo(line)
        for chosen in campaign.fitting:
            try:
                with Console(stderr=True).status(chosen.name) as status:
                    done = campaign.run(chosen, status.update)
            except EngineUnavailable as reason:
                # One that was asked for by its name has to run; the others are run all the same.
                needed = not campaign.optional(chosen)
                if needed and len(campaign.fitting) == 1:
                    raise
                worst = max(worst, int(needed))
                click.echo(f"{chosen.name}: {'not run' if needed else 'skipped'}\n    {reason}")
                continue
            _print_result(done)
            worst = max(worst, int(done.judgement.verdict is not Verdict.VALID))
        for name, why in campaign.unfit.items():
            click.echo(f"{name}: skipped\n    {why}")
    return worst


def _print_result(done: RunResult) -> None:
    """Print what a run has shown, why it is not valid if so, and where its files are."""
    click.echo(f"{done.scenario.name}: {done.judgement.verdict}\n    {summary.sentence(done)}")
    for line in summary.reasons(done):
        click.echo(f"    {line}")
    click.echo(f"    {done.folder}/report.html, results.json, history.jsonl")


@commands.command()
@click.argument(
    "folders",
    metavar="DIR ...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
def report(folders: tuple[Path, ...]) -> None:
    """Make report.html again and print its path.

    It is made from the history.jsonl and results.json of each DIR.
    """
    for folder in folders:
        click.echo(report_html.make(folder))


@commands.command()
@click.argument("first", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("second", metavar="DIR", type=click.Path(path_type=Path))
def diff(first: Path, second: Path) -> int:
    """Print what differs between two runs: their verdicts, checks, counts, faults and versions."""
    found = RunDiff(first, second)
    table = found.table()
    print_tables("\n".join([*table.markdown(), "", found.note(), ""]), [table], [(found.note(), "dim")])
    return int(not found.same_verdict)


@commands.command()
@click.argument("wanted", metavar="NAME|FILE|FOLDER|all ...", nargs=-1, required=True)
@options.suts(SYSTEMS)
@click.option(
    "--markdown", type=OutputFile(), metavar="FILE|-", help="Write the table as Markdown, into a file or to stdout."
)
@options.toxiproxy()
@options.seed()
@options.out(DEFAULT_OUT, "The folder in which each run of each system gets a folder for its files.")
def compare(
    wanted: tuple[str, ...], systems: tuple[str, ...], markdown: str | None, toxiproxy: str | None, seed: int, out: Path
) -> int:
    """Run scenarios against several systems, and print one table.

    Without a terminal the table is Markdown. A system that loses messages is a result, not an error.
    """
    with Console(stderr=True).status("comparing") as status:
        comparer = Comparer(
            wanted,
            systems,
            toxiproxy=toxiproxy,
            seed=seed,
            out=out,
            progress=status.update,
            announce=lambda line: click.echo(line, err=True),
        )
        done = comparer.run()
    command = ["reconnect-harness", "compare", *wanted, *(word for system in systems for word in ("--sut", system))]
    text = done.to_markdown(shlex.join([*command, "--scenario-seed", str(seed)]))
    if markdown not in (None, "-"):
        Path(markdown).write_text(text, encoding="utf-8")
    print_tables(text, [done.table()], [(note, "dim") for note in done.notes], always=markdown == "-")
    return 0 if done.complete else 1


@commands.command()
@click.argument("wanted", metavar="[NAME|FILE ...]", nargs=-1)
@click.option("--for", "within", metavar="TIME", default="60s", show_default=True, help="How long to search.")
@options.seed()
@click.option(
    "--level",
    type=click.Choice(["real", "simulated"]),
    default="real",
    show_default=True,
    help="With sockets and processes, or in a simulation of the proxy's core, which is much faster.",
)
@options.sut(kinds="PRESET|COMMAND")
@options.profile()
@options.toxiproxy()
@options.out(DEFAULT_OUT, "The folder for the scenario file of a failure, and its report.")
def fuzz(wanted: tuple[str, ...], within: str, level: str, **told: Any) -> int:
    """Run random timelines of faults until one fails.

    The failure is shrunk to a small scenario file. With NAME or FILE this scenario is run once instead, to repeat a
    failure at the simulated level.
    """
    # Imported here: importing hypothesis takes long, and no other command needs it.
    from reconnect_harness.fuzz.fuzz import Fuzzer, load_for
    from reconnect_harness.fuzz.timelines import Level

    try:
        time = parse_duration(within)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    chosen = load_for(Level(level), wanted, told["system"], told["profile"])
    outcome = None
    with (
        Console(stderr=True).status("fuzz") as status,
        Fuzzer(Level(level), time, progress=status.update, **told) as fuzzer,
    ):
        for line in fuzzer.header():
            click.echo(line)
        with writing(told["out"]):
            runs = [fuzzer.again(one) for one in chosen]
            if not chosen:
                click.echo(f"random timelines for {time:g} s, seed {told['seed']}")
                outcome = fuzzer.search()
    for done in runs:
        _print_result(done)
    for line in outcome.lines() if outcome else []:
        click.echo(line)
    return int(any(done.judgement.verdict is not Verdict.VALID for done in runs) or bool(outcome and outcome.finding))


commands.add_command(serve_toxiproxy, "toxiproxy")
commands.add_command(bench)
commands.add_command(upstream)
commands.add_command(soak)


if __name__ == "__main__":
    sys.exit(main())
