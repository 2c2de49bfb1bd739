"""Chaos without a script: random scenarios are run until one fails, and that one is made as small as can be.

    timelines.scenarios --draws--> a scenario file --run or simulated--> verdict
            ^                                                               |
            +------------- Hypothesis: another one; or, once one has failed, a smaller one

A timeline has failed when its verdict is `invalid`; one that proved nothing (`unknown`) is counted, and no more. All is
bounded by time, since a run may take seconds: the search, and the shrinking in what the search has left of it.
The smallest failure that was seen is kept, whether Hypothesis had come to an end or not.
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
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import Flaky

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.fuzz.timelines import Level, Said, scenarios
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run import results_folder as report
from reconnect_harness.run.campaign import make_folder
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import load_scenario, parse_scenario, scenario_files
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.scenario.timeline_text import seconds
from reconnect_harness.simulate.simulation import SYSTEM, check, simulate
from reconnect_harness.sut.base import SystemUnderTest
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.toxiproxy.find import find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyServer

T = TypeVar("T")

#: More examples than any time is enough for.
_ENDLESS = 10**9


class _TimeOver(BaseException):
    """Time is up. No Exception, so that Hypothesis takes it neither for a failure nor for anything else of its own."""


class _Stopped(BaseException):
    """A timeline could not be run at all, for the reason that is its cause. It is no finding."""


class _Failed(Exception):
    """A timeline has come out `invalid`."""


@dataclass(slots=True)
class Finding:
    """A timeline that failed: what its file says, its run, and the checks that it failed.

    `file` is where the scenario lies, and `command` what repeats it.
    """

    said: Said
    run: RunResult
    checks: frozenset[str]
    file: Path | None = None
    command: str = ""


@dataclass(slots=True)
class Outcome:
    """What came of the search: how many timelines there were of each verdict, and the smallest that failed.

    `tries` are the runs of the shrinking, which are not among the `verdicts`; `doubts` say why some proved nothing.
    """

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    tries: int = 0
    finding: Finding | None = None

    def lines(self) -> list[str]:
        """Say it in lines."""
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
    """Searches for a scenario that fails: a context manager, which keeps the Toxiproxy server.

    Args:
        level: whether timelines are run for real, or simulated.
        within: seconds after which the search, shrinking included, is over.
        seed: the same seed makes the same timelines.
        system: the system under test, as `sut.base` reads it; None for this project's proxy.
        toxiproxy: which Toxiproxy to use, as `toxiproxy.link.find_toxiproxy` reads it; None to search.
        out: the folder for what is found.
        progress: called now and then with a line.

    Raises:
        ScenarioError: the system under test is not there, or cannot be simulated.
        ToxiproxyUnavailable: from `__enter__`, at the real level.

    """

    def __init__(
        self,
        level: Level,
        within: float,
        *,
        seed: int = 1,
        system: str | None = None,
        toxiproxy: str | None = None,
        out: Path,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.outcome = Outcome()
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
        if self._tested().echoes:
            raise ScenarioError(f"--sut {system}: it brings an upstream of its own; fuzz needs a proxy")

    def __enter__(self) -> Self:
        if self._level is Level.REAL:
            self._server = self._opened.enter_context(find_toxiproxy(self._toxiproxy).server())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def header(self) -> list[str]:
        """Return the lines that say what is tested, and with what."""
        system = SYSTEM if self._level is Level.SIMULATED else self._tested().describe()
        toxiproxy = self._server.describe() if self._server else "not needed: the network is simulated, and so is time"
        return [f"system under test: {system}", f"toxiproxy: {toxiproxy}"]

    def search(self) -> Outcome:
        """Run random timelines until one fails or time is over; then make it smaller while there is time.

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
        # What it knows of the code goes beside the results, not into the folder that the user is in.
        set_hypothesis_home_dir(self._out / ".hypothesis")
        try:
            seeded(self._seed)(options(given(scenarios(self._level))(self._try)))()
        except (_TimeOver, _Failed, Flaky):
            # Flaky: sockets are not as exact as a clock, and what has failed once need not fail again.
            pass
        except _Stopped as stopped:
            assert stopped.__cause__ is not None
            raise stopped.__cause__ from None
        finally:
            set_hypothesis_home_dir(None)
            shutil.rmtree(self._scratch, ignore_errors=True)
        if self.outcome.finding is not None:
            self._keep(self.outcome.finding)
        return self.outcome

    def again(self, chosen: Scenario) -> RunResult:
        """Run one scenario as `search` does, and write what it leaves into a folder of its own."""
        make_folder(self._out)
        done = self._run(chosen, self._out / f"{chosen.name}-{self._seed}")
        assert done is not None, "it may take any time"
        done.folder.mkdir(parents=True, exist_ok=True)
        report.write(done)
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
        outcome = self.outcome
        if done.judgement.verdict is Verdict.UNKNOWN and outcome.finding is None:
            outcome.doubts.update(done.judgement.doubts[:1])
        found = self._found(said, done)
        if outcome.finding is None:
            outcome.verdicts[done.judgement.verdict] += 1
        else:
            outcome.tries += 1
        self._say()
        # A smaller timeline that fails otherwise is another finding.
        if found is not None and (outcome.finding is None or found.checks & outcome.finding.checks):
            outcome.finding = found
            self._spare(found.run)
            raise _Failed

    def _found(self, said: Said, done: RunResult) -> Finding | None:
        if done.judgement.verdict is not Verdict.INVALID:
            return None
        checks = frozenset(each.label for each in done.judgement.results if each.verdict is Verdict.INVALID)
        return Finding(said, done, checks)

    def _run(self, chosen: Scenario, folder: Path, left: float | None = None) -> RunResult | None:
        """Run a scenario at the level; None if it is not over after `left` seconds."""
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

    def _spare(self, done: RunResult) -> None:
        """Have the next run not overwrite what this one has left."""
        kept = self._out / self._name
        if done.folder.exists():
            shutil.rmtree(kept, ignore_errors=True)
            done.folder.rename(kept)
        done.folder = kept

    def _tested(self) -> SystemUnderTest:
        return system_under_test(self._system)

    def _say(self) -> None:
        now = time.monotonic()
        if self._level is Level.REAL or now - self._told > 0.2:
            self._told = now
            ran = f"{self.outcome.verdicts.total():,} timelines"
            more = f", shrinking: {self.outcome.tries:,} tries" if self.outcome.finding else ""
            self._progress(f"fuzz: {ran}{more}, {max(0.0, self._deadline - now):.0f} s left")

    def _keep(self, finding: Finding) -> None:
        """Write the scenario file of a finding, with the command that repeats it."""
        finding.file = self._out / f"{self._name}.yaml"
        relative = shlex.quote(os.path.relpath(finding.file))
        command = ["reconnect-harness", *(["run"] if self._level is Level.REAL else ["fuzz", "--level=simulated"])]
        command += [relative, f"--seed={self._seed}"]
        for option, value in (("sut", self._system), ("toxiproxy", self._toxiproxy)):
            command += [f"--{option}={shlex.quote(value)}"] if value else []
        finding.command = " ".join(command)
        what = f"Fails {', '.join(sorted(finding.checks))}. Repeat it with: {finding.command}"
        text = yaml.safe_dump(
            {**finding.said, "name": self._name, "summary": what}, sort_keys=False, width=120, default_flow_style=None
        )
        finding.file.write_text(text, encoding="utf-8")
        finding.run.folder.mkdir(parents=True, exist_ok=True)
        report.write(finding.run, finding.command)


async def _in_time(work: Coroutine[Any, Any, T], left: float | None) -> T | None:
    """Do some work, but for no longer than `left` seconds: then it is cancelled, cleans up, and this is None."""
    try:
        async with asyncio.timeout(left) as limit:
            return await work
    except TimeoutError:
        if limit.expired():
            return None
        raise


def load_for(level: Level, wanted: Sequence[str], system: str | None) -> list[Scenario]:
    """Read the scenarios that are to be run again at a level.

    Raises:
        ScenarioError: one is not there, is wrong, or cannot be run at this level or with this system under test.

    """
    found = [load_scenario(path) for name in wanted for path in scenario_files(name)]
    for chosen in found:
        if level is Level.SIMULATED:
            check(chosen)
        else:
            system_under_test(system).check(chosen)
    return found
