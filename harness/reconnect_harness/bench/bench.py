"""A run: every trial of a plan, in turn, and what they came to."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconnect_harness.bench.cases import KEEPING, Case, within_descriptors
from reconnect_harness.bench.figures import Limit, Results
from reconnect_harness.bench.plan import Plan
from reconnect_harness.bench.testbed import OPTIONS, Stage, system
from reconnect_harness.bench.trials import trial
from reconnect_harness.processes import cores
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.processes.machine import machine
from reconnect_harness.run.campaign import make_folder
from reconnect_harness.sut.base import OWN
from reconnect_harness.sut.own_proxy import flags

#: Where a run leaves its files if the user does not say.
DEFAULT_OUT = Path("bench-runs")

#: How many descriptors a process gets at most. Some programs make tables as large as they may.
DESCRIPTORS = 65_536

_LOGS = "logs"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to.

    Attributes:
        cases: what was measured; `results` has the samples.
        contenders: those that took part and what they are, by name.
        missing: why the others did not, by name.
        machine: what it ran on.
        notes: what a reader has to know beyond that.
        command: what makes such a run again.

    """

    cases: Sequence[Case]
    contenders: dict[str, str]
    missing: dict[str, str]
    results: Results
    machine: dict[str, str]
    notes: list[str]
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return what `bench.json` holds."""
        return {
            "command": self.command,
            "machine": self.machine,
            "contenders": self.contenders,
            "missing": self.missing,
            "notes": self.notes,
            "cases": [case.to_json() for case in self.cases],
            "samples": [sample.to_json() for sample in self.results.samples],
        }


class Bench:
    """Measures contenders by a plan. What can be wrong with what was asked for is found when it is made.

    Args:
        plan: what is measured.
        names: the contenders, as `sut.base` reads them.
        out: the folder for logs.
        command: what the user has given to have this run.
        progress: called with a line that says how far the run is.

    Raises:
        ScenarioError: a contender is none, or cannot be measured.

    """

    def __init__(
        self,
        plan: Plan,
        names: Sequence[str],
        out: Path,
        *,
        command: str = "",
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._names = list(dict.fromkeys(names))
        self._described = {name: system(name).describe() for name in self._names}
        self._out = out
        self._command = command
        self._progress = progress
        self._cores = cores.share_out(cores.available())
        _raise_descriptors()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._cases, self._notes = within_descriptors(plan.cases, limit)
        self._plan = Plan(self._cases, plan.rounds, plan.seconds, plan.session_rounds, plan.slow)

    @property
    def seconds(self) -> float:
        """How long it will take, more or less."""
        return self._plan.estimate(self._names)

    async def run(self) -> Report:
        """Run it.

        Raises:
            ProcessFailed: the generator or the server has failed; what a contender does wrong is a result.

        """
        ground = machine()
        make_folder(self._out)
        shutil.rmtree(self._out / _LOGS, ignore_errors=True)
        results = Results()
        async with Stage(self._names, self._out / _LOGS, self._cores) as stage:
            present = list(stage.contenders)
            if present:
                await self._trials(stage, present, results)
            missing = stage.problems
        contenders = {name: self._described[name] for name in present}
        notes = [*self._fixed_notes(), *self._notes, *self._problems(results, present)]
        return Report(self._cases, contenders, missing, results, ground, notes, self._command)

    async def _trials(self, stage: Stage, names: Sequence[str], results: Results) -> None:
        trials = list(self._plan.trials(names))
        begin = time.monotonic()
        for index, (number, case, name) in enumerate(trials, 1):
            # Where it cannot be done it cannot be done a second time either, and trying may take long.
            if results.problem(case.name, name):
                continue
            spent = time.monotonic() - begin
            self._progress(f"{index} of {len(trials)}, {spent:.0f} s: round {number}, {case.name}, {name}")
            results.samples.append(await trial(stage, case, name, number, self._plan.seconds))

    def _fixed_notes(self) -> list[str]:
        plan = self._plan
        return [
            self._cores.describe(),
            f"{plan.rounds} rounds of {plan.seconds:g} s, all contenders in turn ({plan.session_rounds} where sessions "
            "are opened by the hundred, large crowds once)",
            f"`{OWN}` runs with {' '.join(flags(OPTIONS))}, its guarantee on",
        ]

    def _problems(self, results: Results, names: Sequence[str]) -> list[str]:
        notes = []
        for case in self._cases:
            for name in names:
                if problem := results.problem(case.name, name):
                    notes.append(f"{case.name}: {name} {problem}")
            loaded = [name for name in names if results.limited(case.name, name, Limit.LOAD)]
            if loaded and case.shape not in KEEPING:
                notes.append(f"{case.name}: with {', '.join(loaded)} the generator was the limit (`>` in the tables)")
        return notes


def _raise_descriptors() -> None:
    """Allow this process, and those that it starts, DESCRIPTORS, or as many as they may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        # Root may, and then everyone that takes part has as many. Who may not has a ValueError.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
            return
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(bench: Bench) -> Report:
    """Run it from code that is not asynchronous; Ctrl-C and SIGTERM end it in good order."""
    return run_to_end(bench.run())
