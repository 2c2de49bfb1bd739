"""A run of the benchmark: every trial of a plan in turn, and the report."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconnect_harness.bench.cases import KEEPING, Case, within_descriptors
from reconnect_harness.bench.figures import BenchResults, Bottleneck
from reconnect_harness.bench.plan import BenchPlan
from reconnect_harness.bench.testbed import OPTIONS, BenchTestbed, system
from reconnect_harness.bench.trials import trial
from reconnect_harness.processes import cores
from reconnect_harness.processes.machine import machine
from reconnect_harness.run.results_folder import make_folder
from reconnect_harness.sut.base import OWN
from reconnect_harness.sut.own_proxy import flags

#: Where a run leaves its files if the user does not say.
DEFAULT_OUT = Path("bench-runs")

#: How many descriptors a process gets at most. Some programs allocate a table for all that they may have.
DESCRIPTORS = 65_536

_LOGS = "logs"


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What a run has measured. `contenders` describes those that took part, and `missing` says why others did not."""

    cases: Sequence[Case]
    contenders: dict[str, str]
    missing: dict[str, str]
    results: BenchResults
    machine: dict[str, str]
    notes: list[str]
    #: The command that repeats the run.
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `bench.json`."""
        told = {name: getattr(self, name) for name in ("command", "machine", "contenders", "missing", "notes")}
        cases, samples = ([one.to_json() for one in many] for many in (self.cases, self.results.samples))
        return {**told, "cases": cases, "samples": samples}


class Bench:
    """Measures contenders as a plan says, and leaves their logs in `out`. `progress` is called with lines about it.

    Raises:
        ScenarioError: a contender does not exist, or cannot be measured. Nothing is started then.

    """

    def __init__(
        self, plan: BenchPlan, names: Sequence[str], out: Path, command: str, progress: Callable[[str], None]
    ) -> None:
        self._names = list(dict.fromkeys(names))
        self._described = {name: system(name).describe() for name in self._names}
        self._out = out
        self._command = command
        self._progress = progress
        self._cores = cores.assign_cores(cores.available())
        _raise_descriptors()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        cases, self._notes = within_descriptors(plan.cases, limit)
        self._plan = replace(plan, cases=cases)

    @property
    def seconds(self) -> float:
        """How long the run will take, roughly."""
        return self._plan.estimate(self._names)

    async def run(self) -> BenchReport:
        """Run it. A failure of a contender is part of the results.

        Raises:
            ProcessFailed: the generator or the server has failed.

        """
        ground = machine()
        make_folder(self._out)
        shutil.rmtree(self._out / _LOGS, ignore_errors=True)
        results = BenchResults()
        async with BenchTestbed(self._names, self._out / _LOGS, self._cores) as testbed:
            present = list(testbed.contenders)
            if present:
                await self._trials(testbed, present, results)
        contenders = {name: self._described[name] for name in present}
        notes = [*self._fixed_notes(), *self._notes, *self._problems(results, present)]
        return BenchReport(self._plan.cases, contenders, testbed.problems, results, ground, notes, self._command)

    async def _trials(self, testbed: BenchTestbed, names: Sequence[str], results: BenchResults) -> None:
        trials = list(self._plan.trials(names))
        begin = time.monotonic()
        for index, (number, case, name) in enumerate(trials, 1):
            # A contender that has failed in a case would fail again, and that may take long.
            if results.problem(case.name, name):
                continue
            spent = time.monotonic() - begin
            self._progress(f"{index} of {len(trials)}, {spent:.0f} s: round {number}, {case.name}, {name}")
            results.samples.append(await trial(testbed, case, name, number, self._plan.seconds))

    def _fixed_notes(self) -> list[str]:
        plan = self._plan
        return [
            self._cores.describe(),
            f"{plan.rounds} rounds of {plan.seconds:g} s, all contenders in turn ({plan.session_rounds} where sessions "
            "are opened by the hundred, large crowds once)",
            f"`{OWN}` runs with {' '.join(flags(OPTIONS))}, its guarantee on",
        ]

    def _problems(self, results: BenchResults, names: Sequence[str]) -> list[str]:
        notes = []
        for case in self._plan.cases:
            for name in names:
                if problem := results.problem(case.name, name):
                    notes.append(f"{case.name}: {name} {problem}")
            loaded = [name for name in names if results.limited_by(Bottleneck.LOAD, case.name, name)]
            if loaded and case.shape not in KEEPING:
                notes.append(f"{case.name}: with {', '.join(loaded)} the generator was the limit (`>` in the tables)")
        return notes


def _raise_descriptors() -> None:
    """Raise the limit of this process, and of those that it starts, to DESCRIPTORS, or as far as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        # Only root may raise the hard limit; others get a ValueError.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
            return
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
