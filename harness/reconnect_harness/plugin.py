"""The pytest plugin: `pytest --scenario=NAME` runs scenarios as tests.

It is loaded in every pytest run of whoever has this package, so without `--scenario` it does nothing, and imports
nothing but pytest. With it only scenarios are collected: one item each, `scenario::NAME[seed]`. The exit code is 0 only
when every one of them is valid.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

#: The fixtures for people's own tests. Like this module it imports nothing but pytest until it is used.
pytest_plugins = ["reconnect_harness.fixtures.fixtures"]

if TYPE_CHECKING:
    from reconnect_harness.report.run_result import RunResult
    from reconnect_harness.run.campaign import Campaign
    from reconnect_harness.scenario.model import Scenario

#: What reports carry of a run, also between the processes of pytest-xdist and into JUnit files.
_PROVEN = "proven"
_VERDICT = "verdict"
_FOLDER = "results"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of scenarios."""
    group = parser.getgroup("scenarios", "chaos scenarios for WebSocket proxies (reconnect-proxy)")
    group.addoption(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME|FILE|FOLDER|all",
        help="Run this scenario, and no other tests. May be given several times.",
    )
    group.addoption(
        "--sut",
        metavar="NAME|COMMAND|URL",
        help="The system under test: 'COMMAND {listen} {upstream}' (HOST:PORT each; {listen_port}, {upstream_port}), "
        "ws://URL of a service that echoes, or one of reconnect-proxy (the default), nginx, haproxy, fastify, "
        "websockets, and direct for none.",
    )
    group.addoption(
        "--toxiproxy",
        metavar="URL|BINARY|docker[:IMAGE]|embedded",
        help="Which Toxiproxy to use. Default: TOXIPROXY_URL, PATH, the user's cache, one built there with Go, or "
        "the embedded one.",
    )
    group.addoption(
        "--scenario-seed", type=int, default=1, metavar="N", help="What random parts are drawn from. Default: 1."
    )
    group.addoption(
        "--scenario-out",
        metavar="DIR",
        help="Where each run leaves report.html, results.json and history.jsonl. Default: scenario-runs.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take the run over if scenarios are asked for; whatever is wrong with them is said before anything starts."""
    wanted = config.getoption("scenario")
    if not wanted:
        return
    # Of no meaning to scenarios, and the first thing that people would read in an empty folder.
    warnings.filterwarnings("ignore", "(?s).*asyncio_default_fixture_loop_scope", pytest.PytestDeprecationWarning)
    try:
        from reconnect_harness.run.campaign import DEFAULT_OUT, Campaign
        from reconnect_harness.scenario.model import ScenarioError
    except ModuleNotFoundError as error:
        from reconnect_harness.__main__ import missing

        raise pytest.UsageError(f"--scenario: {missing(error)}") from None

    out = config.getoption("scenario_out")
    try:
        campaign = Campaign(
            wanted,
            system=config.getoption("sut"),
            toxiproxy=config.getoption("toxiproxy"),
            seed=config.getoption("scenario_seed"),
            out=Path(out) if out else DEFAULT_OUT,
        )
    except ScenarioError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(ScenarioRun(campaign, config), "reconnect-harness-run")


class ScenarioInvalid(Exception):
    """A scenario whose verdict is not valid."""

    def __init__(self, run: RunResult) -> None:
        super().__init__(f"{run.scenario.name} is {run.judgement.verdict}")
        self.run = run


class ScenarioItem(pytest.Item):
    """One scenario, as a test."""

    def __init__(self, *, scenario: Scenario, campaign: Campaign, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._scenario = scenario
        self._campaign = campaign

    def runtest(self) -> None:
        """Run the scenario."""
        from reconnect_harness.checks.judgement import Verdict
        from reconnect_harness.containers.engine import EngineUnavailable
        from reconnect_harness.progress import Progress
        from reconnect_harness.report.summary import sentence

        progress = Progress(self.config)
        progress.begin()
        try:
            run = self._campaign.run(self._scenario, progress.say)
        except EngineUnavailable as reason:
            if self._campaign.optional(self._scenario):
                pytest.skip(str(reason))
            raise
        finally:
            progress.end()
        self.user_properties += [
            (_VERDICT, str(run.judgement.verdict)),
            (_PROVEN, sentence(run)),
            (_FOLDER, str(run.folder)),
        ]
        if run.judgement.verdict is not Verdict.VALID:
            raise ScenarioInvalid(run)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Say what was wrong, in lines rather than in a traceback."""
        from reconnect_harness.containers.engine import EngineError, EngineUnavailable
        from reconnect_harness.processes.child import ProcessFailed
        from reconnect_harness.report.summary import reasons
        from reconnect_harness.run.campaign import ResultsError
        from reconnect_harness.toxiproxy.server import ToxiproxyError

        error = excinfo.value
        if isinstance(error, ScenarioInvalid):
            lines = [f"{self._scenario.name} is {error.run.judgement.verdict}", *reasons(error.run)]
            lines += [
                f"the whole of it: {error.run.folder / name}"
                for name in ("report.html", "results.json", "history.jsonl")
            ]
            return "\n".join(lines)
        if isinstance(error, (ProcessFailed, ToxiproxyError, EngineUnavailable, EngineError, ResultsError)):
            return str(error)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return what pytest shows as the place of the item."""
        return self.path, None, f"scenario::{self.name}"


class ScenarioRun:
    """The hooks of a pytest run of scenarios."""

    def __init__(self, campaign: Campaign, config: pytest.Config) -> None:
        self._campaign = campaign
        # The controller of pytest-xdist runs no item itself, and needs no Toxiproxy.
        self._runs_items = not config.getoption("collectonly") and not config.getoption("numprocesses", None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Start Toxiproxy, so that the header can say which it is."""
        from reconnect_harness.toxiproxy.server import ToxiproxyError

        if self._runs_items:
            try:
                self._campaign.open()
            except ToxiproxyError as error:
                raise pytest.UsageError(str(error)) from None

    def pytest_unconfigure(self) -> None:
        """Stop Toxiproxy, however the run ended."""
        self._campaign.close()

    def pytest_report_header(self) -> list[str]:
        """Say what is tested, and with what."""
        return self._campaign.header()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect nothing from files."""
        session.perform_collect(args=[])
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Collect the scenarios. Before others look, so that `-k` and the like select among them."""
        items[:] = list(self._items(session))
        report = pytest.CollectReport("scenario", "passed", None, list(items))
        config.hook.pytest_collectreport(report=report)

    def _items(self, session: pytest.Session) -> Iterator[pytest.Item]:
        for scenario in self._campaign.scenarios:
            name = f"{scenario.name}[{self._campaign.seed}]"
            yield ScenarioItem.from_parent(
                session,
                name=name,
                nodeid=f"scenario::{name}",
                scenario=scenario,
                campaign=self._campaign,
            )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say of each scenario what it has proven, in one sentence with numbers."""
        reports = [
            report
            for outcome in ("passed", "failed")
            for report in terminalreporter.getreports(outcome)
            if report.when == "call"
        ]
        if not reports:
            return
        terminalreporter.section("scenarios")
        for report in reports:
            found = dict(report.user_properties)
            verdict = found.get(_VERDICT, "did not run to its end")
            name = report.nodeid.removeprefix("scenario::")
            markup = {"green": True} if verdict == "valid" else {"red": True}
            terminalreporter.line(f"{name}: {verdict}", **markup)
            if _PROVEN in found:
                terminalreporter.line(f"    {found[_PROVEN]}")
                terminalreporter.line(f"    {found[_FOLDER]}/report.html, results.json, history.jsonl")
