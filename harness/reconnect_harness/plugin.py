"""The pytest plugin: `pytest --scenario=NAME` runs scenarios as tests.

pytest loads it in every run where this package is installed. Until one of its options is given it does nothing, and
imports only its options and its fixtures. With `--scenario` only scenarios are collected: one item each,
`scenario::NAME[seed]`. The exit code is 0 only when each of them is valid.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconnect_harness import plugin_options
from reconnect_harness.missing import missing
from reconnect_harness.plugin_options import OPTIONS, OUT, PROFILE, SCENARIO, SEED, SUT, TOXIPROXY

#: The fixtures for people's own tests.
pytest_plugins = ["reconnect_harness.fixtures.fixtures"]

if TYPE_CHECKING:
    from reconnect_harness.report.run_result import RunResult
    from reconnect_harness.run.campaign import Campaign
    from reconnect_harness.scenario.model import Scenario

#: What reports carry of a run, also between the processes of pytest-xdist and into JUnit files.
_PROVEN = "proven"
_VERDICT = "verdict"
_FOLDER = "results"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options, under the names that are ours in any case."""
    plugin_options.add_options(parser, pluginmanager)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Add the short names of options after every conftest and plugin has added its own options."""
    result = yield
    plugin_options.add_short_names(early_config, parser, args)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take the run over if scenarios are asked for. Errors in the options are reported before anything starts."""
    plugin_options.join_names(config)
    given = [option for option in OPTIONS if config.getoption(option.dest) is not None]
    if not given:
        return
    wanted = config.getoption(SCENARIO.dest)
    try:
        if not wanted:
            # Only the fixtures read the other options, and this is the least that they need.
            import_module("reconnect_harness.fixtures.chaos_link")
            return
        from reconnect_harness.profile import Profile
        from reconnect_harness.run.campaign import DEFAULT_OUT, Campaign
        from reconnect_harness.scenario.model import ScenarioError
        from reconnect_harness.values import one_of
    except ModuleNotFoundError as error:
        raise pytest.UsageError(f"{plugin_options.name_given(config, given[0])}: {missing(error)}") from None

    out, seed, profile = (config.getoption(option.dest) for option in (OUT, SEED, PROFILE))
    try:
        campaign = Campaign(
            wanted,
            system=config.getoption(SUT.dest),
            toxiproxy=config.getoption(TOXIPROXY.dest),
            seed=1 if seed is None else seed,
            out=Path(out) if out else DEFAULT_OUT,
            profile=Profile(one_of("profile", profile, Profile)) if profile else None,
            option_names={option.short: plugin_options.name_here(config, option) for option in OPTIONS},
        )
    except (ScenarioError, ValueError) as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(ScenarioRun(campaign, config), "reconnect-harness-run")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which short names belong to the project."""
    return plugin_options.header(config)


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
        # Each item of pytest's own has these, and other plugins read them. A scenario has no fixtures.
        self.funcargs: dict[str, object] = {}
        self.fixturenames: list[str] = []

    def _initrequest(self) -> None:
        """Prepare to run again. pytest-retry calls this method, which renews the fixtures of pytest's own items."""
        self.funcargs = {}

    def runtest(self) -> None:
        """Run the scenario, or skip it if it does not fit the system under test."""
        if (reason := self._campaign.unfit.get(self._scenario.name)) is not None:
            pytest.skip(reason)
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
        found = {_VERDICT: str(run.judgement.verdict), _PROVEN: sentence(run), _FOLDER: str(run.folder)}
        # Other plugins may have run this item before.
        self.user_properties[:] = [named for named in self.user_properties if named[0] not in found]
        self.user_properties.extend(found.items())
        if run.judgement.verdict is not Verdict.VALID:
            raise ScenarioInvalid(run)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Say what was wrong, in lines rather than in a traceback."""
        from reconnect_harness.containers.engine import EngineError, EngineUnavailable
        from reconnect_harness.processes.child import ProcessFailed
        from reconnect_harness.report.summary import reasons
        from reconnect_harness.run.results_folder import ResultsError
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
        skipped = [report for report in terminalreporter.getreports("skipped") if report.when == "call"]
        if not reports and not skipped:
            return
        # pytest-retry reports the first of several runs, and what the last one has found stands in the report after it.
        last = {report.nodeid: report for report in terminalreporter.getreports("") if report.when == "teardown"}
        terminalreporter.section("scenarios")
        for report in reports:
            found = dict(last.get(report.nodeid, report).user_properties)
            verdict = found.get(_VERDICT, "did not run to its end")
            name = report.nodeid.removeprefix("scenario::")
            markup = {"green": True} if verdict == "valid" else {"red": True}
            terminalreporter.line(f"{name}: {verdict}", **markup)
            if _PROVEN in found:
                terminalreporter.line(f"    {found[_PROVEN]}")
                terminalreporter.line(f"    {found[_FOLDER]}/report.html, results.json, history.jsonl")
        for report in skipped:
            reason = report.longrepr[2].removeprefix("Skipped: ")
            terminalreporter.line(f"{report.nodeid.removeprefix('scenario::')}: skipped", yellow=True)
            terminalreporter.line(f"    {reason}")
