"""The fuzzer: runs random scenarios until one fails, and shrinks that one.

    timelines.scenarios --draws--> a scenario file --run or simulated--> verdict
            ^                                                               |
            +----------- Hypothesis: another scenario; after a failure, a smaller one

A timeline fails if its verdict is `invalid`. Timelines that prove nothing (`unknown`) are only counted. A run may take
seconds, so the time is limited: shrinking uses what the search has left. The smallest failure that was seen is kept,
whether Hypothesis had finished or not.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import Flaky

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.fuzz.timelines import Level, Said, scenarios
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.profile import Profile
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import make_folder, write_run
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import load_scenario, parse_scenario, scenario_files
from reconnect_harness.scenario.fit import misfit
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.scenario.timeline_text import seconds
from reconnect_harness.simulate.simulation import SYSTEM, check, simulate
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyServer

T = TypeVar("T")

#: More examples than there is ever time for.
_ENDLESS = 10**9


class _TimeOver(BaseException):
    """The time is over. A BaseException, which Hypothesis does not treat as a failure of the example."""


class _Stopped(BaseException):
    """A timeline could not be run; its cause says why. That is not a failure of the system under test."""


class _Failed(Exception):
    """The verdict on a timeline is `invalid`."""


@dataclass(slots=True)
class FailedTimeline:
    """A timeline that failed: what its scenario file says, and the run."""

    said: Said
    run: RunResult
    #: The labels of the checks that it failed.
    checks: frozenset[str]
    #: The scenario file, when it was written, and the command that repeats the run.
    file: Path | None = None
    command: str = ""


@dataclass(slots=True)
class SearchResult:
    """The result of a search."""

    #: How many timelines there were of each verdict, without those of shrinking.
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    #: Why some proved nothing, and how many of them.
    doubts: Counter[str] = field(default_factory=Counter)
    #: How many runs shrinking took.
    tries: int = 0
    #: The smallest timeline that failed, if one has.
    finding: FailedTimeline | None = None

    def lines(self) -> list[str]:
        ran = self.verdicts.total()
        told = ", ".join(f"{self.verdicts[verdict]:,} {verdict}" for verdict in Verdict)
        lines = [f"{ran:,} timeline{'s' * (ran != 1)}: {told}"]
        if self.doubts:
            doubt, times = self.doubts.most_common(1)[0]
            lines.append(f"unknown, {times:,} times: {doubt}")
        if self.finding is not None:
            lines += [f"    {line}" for line in summary.reasons(self.finding.run)]
            lines += [
                f"shrunk in {self.tries:,} tries to {self.finding.file}",
                f"report: {self.finding.run.folder}/report.html",
                f"again: {self.finding.command}",
            ]
        return lines


class Fuzzer:
    """Searches for a scenario that fails: a context manager, which owns the Toxiproxy server.

    After `within` seconds the search is over, including shrinking. The same seed makes the same timelines. The other
    arguments are those of `run.campaign.Campaign`.

    Raises:
        ScenarioError: the system under test does not exist, or cannot be simulated.
        ToxiproxyUnavailable: from `__enter__`, at the real level.

    """

    def __init__(
        self,
        level: Level,
        within: float,
        *,
        seed: int = 1,
        system: str | None = None,
        profile: Profile | None = None,
        toxiproxy: str | None = None,
        out: Path,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.result = SearchResult()
        self._level = level
        self._within = within
        self._seed = seed
        self._system = system
        self._toxiproxy = toxiproxy
        self._out = out
        self._progress = progress
        self._server: ToxiproxyServer | None = None
        self._opened = ExitStack()
        self._deadline = 0.0
        self._told = 0.0
        if level is Level.SIMULATED and system is not None:
            raise ScenarioError(f"--sut {system}: only the core of this proxy can be simulated; leave it out")
        if level is Level.SIMULATED and profile not in (None, Profile.EXACTLY_ONCE):
            raise ScenarioError(
                f"--profile {profile}: what is simulated is this proxy, which is {Profile.EXACTLY_ONCE}"
            )
        self._profile = profile or self._tested().profile
        self._profile_given = profile
        if self._tested().echoes:
            raise ScenarioError(f"--sut {system}: it has an upstream of its own; fuzz needs a proxy")

    def __enter__(self) -> Self:
        if self._level is Level.REAL:
            self._server = self._opened.enter_context(find_toxiproxy(self._toxiproxy).server())
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def header(self) -> list[str]:
        """Return the lines that say what is tested, and with which Toxiproxy."""
        system = SYSTEM if self._level is Level.SIMULATED else self._tested().describe()
        toxiproxy = self._server.describe() if self._server else "not needed: the network is simulated, and so is time"
        judged = f", judged as {self._profile}" if self._profile else ""
        return [f"system under test: {system}{judged}", f"toxiproxy: {toxiproxy}"]

    def search(self) -> SearchResult:
        """Run random timelines until one fails or the time is over; then shrink it while there is time.

        Raises:
            ProcessFailed: a process did not start, or died of itself.
            ToxiproxyError: a link could not be made, or healed.
            KeyboardInterrupt: Ctrl-C or SIGTERM; everything that was started is stopped.

        """
        self._deadline = time.monotonic() + self._within
        make_folder(self._out)
        options = settings(
            max_examples=_ENDLESS,
            phases=(Phase.generate, Phase.shrink),
            database=None,
            deadline=None,
            derandomize=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        # Hypothesis caches in the folder for results, not in the user's working directory.
        set_hypothesis_home_dir(self._out / ".hypothesis")
        try:
            seeded(self._seed)(options(given(scenarios(self._level, self._profile))(self._try)))()
        except (_TimeOver, _Failed, Flaky):
            # Flaky: with real sockets a timeline that has failed once need not fail again.
            pass
        except _Stopped as stopped:
            assert stopped.__cause__ is not None
            raise stopped.__cause__ from None
        finally:
            set_hypothesis_home_dir(None)
            shutil.rmtree(self._scratch, ignore_errors=True)
        if self.result.finding is not None:
            self._write(self.result.finding)
        return self.result

    def again(self, chosen: Scenario) -> RunResult:
        """Run one scenario as `search` does, and write its files into a folder of its own."""
        make_folder(self._out)
        done = self._run(chosen, self._out / f"{chosen.name}-{self._seed}")
        assert done is not None, "this run has no deadline"
        done.folder.mkdir(parents=True, exist_ok=True)
        write_run(done)
        return done

    def _try(self, said: Said) -> None:
        """Run one timeline. Raises _Failed where its verdict is `invalid`."""
        left = self._deadline - time.monotonic()
        chosen = parse_scenario(said, "a drawn scenario")
        if left <= (0.0 if self._level is Level.SIMULATED else seconds(chosen)):
            raise _TimeOver
        try:
            done = self._run(chosen, self._scratch, left)
        except Exception as failure:
            raise _Stopped from failure
        if done is None:
            raise _TimeOver
        result = self.result
        if done.judgement.verdict is Verdict.UNKNOWN and result.finding is None:
            result.doubts.update(done.judgement.doubts[:1])
        if result.finding is None:
            result.verdicts[done.judgement.verdict] += 1
        else:
            result.tries += 1
        self._report_progress()
        checks = frozenset(each.label for each in done.judgement.results if each.verdict is Verdict.INVALID)
        # A smaller timeline that fails other checks is another bug.
        if checks and (result.finding is None or checks & result.finding.checks):
            result.finding = FailedTimeline(said, done, checks)
            self._keep_folder(done)
            raise _Failed

    def _run(self, chosen: Scenario, folder: Path, left: float | None = None) -> RunResult | None:
        """Run a scenario at the level; return None if it is not over after `left` seconds."""
        if self._level is Level.SIMULATED:
            return simulate(chosen, self._seed, folder)
        run = ScenarioRunner(chosen, self._tested(), self._server, self._seed, folder).run()
        return run_to_end(_in_time(run, left))

    @property
    def _name(self) -> str:
        return f"fuzz-{self._level}-{self._seed}"

    @property
    def _scratch(self) -> Path:
        return self._out / f"{self._name}-last"

    def _keep_folder(self, done: RunResult) -> None:
        """Move the folder of a run, which the next run would overwrite."""
        kept = self._out / self._name
        if done.folder.exists():
            shutil.rmtree(kept, ignore_errors=True)
            done.folder.rename(kept)
        done.folder = kept

    def _tested(self) -> SystemUnderTest:
        return system_under_test(self._system)

    def _report_progress(self) -> None:
        now = time.monotonic()
        if self._level is Level.REAL or now - self._told > 0.2:
            self._told = now
            ran = f"{self.result.verdicts.total():,} timelines"
            more = f", shrinking: {self.result.tries:,} tries" if self.result.finding else ""
            self._progress(f"fuzz: {ran}{more}, {max(0.0, self._deadline - now):.0f} s left")

    def _write(self, finding: FailedTimeline) -> None:
        """Write the scenario file and the report of a timeline that failed."""
        finding.file = self._out / f"{self._name}.yaml"
        relative = shlex.quote(os.path.relpath(finding.file))
        command = ["reconnect-harness", *(["run"] if self._level is Level.REAL else ["fuzz", "--level=simulated"])]
        command += [relative, f"--seed={self._seed}"]
        given = {"sut": self._system, "profile": self._profile_given, "toxiproxy": self._toxiproxy}
        for option, value in given.items():
            command += [f"--{option}={shlex.quote(value)}"] if value else []
        finding.command = " ".join(command)
        what = f"Fails {', '.join(sorted(finding.checks))}. Repeat it with: {finding.command}"
        text = yaml.safe_dump(
            {**finding.said, "name": self._name, "summary": what}, sort_keys=False, width=120, default_flow_style=None
        )
        finding.file.write_text(text, encoding="utf-8")
        finding.run.folder.mkdir(parents=True, exist_ok=True)
        write_run(finding.run, finding.command)


async def _in_time(work: Coroutine[Any, Any, T], left: float | None) -> T | None:
    """Await `work` for `left` seconds at the most; then cancel it, wait until it has cleaned up, and return None."""
    try:
        async with asyncio.timeout(left) as limit:
            return await work
    except TimeoutError:
        if limit.expired():
            return None
        raise


def load_for(level: Level, wanted: Sequence[str], system: str | None, profile: Profile | None = None) -> list[Scenario]:
    """Read the scenarios that are to be run again at a level.

    Raises:
        ScenarioError: one does not exist, is not valid, or cannot be run at this level or with this system under test,
            or asks for more than it claims.

    """
    found = [load_scenario(path) for name in wanted for path in scenario_files(name)]
    tested = system_under_test(system)
    for chosen in found:
        if level is Level.SIMULATED:
            check(chosen)
        else:
            tested.check(chosen)
        if (reason := misfit(chosen, profile or tested.profile)) is not None:
            raise ScenarioError(f"scenario {chosen.name} does not fit: {reason}")
    return found
