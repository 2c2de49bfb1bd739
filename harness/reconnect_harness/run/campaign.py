"""A campaign: chosen scenarios against one system under test, for pytest and for the command line.

A campaign checks the scenarios and the system when it is made, before anything is started. Scenarios that cannot be run
with the system, or that ask more than it claims (`scenario.fit`), are `unfit`: they are skipped, with the reason.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from reconnect_harness.containers.engine import Engine, EngineUnavailable
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.profile import Profile
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import make_folder, write_run, writing
from reconnect_harness.run.runner import ScenarioRunner, check_system
from reconnect_harness.scenario.find import ALL, load_scenario, scenario_files, shipped_scenarios
from reconnect_harness.scenario.fit import misfit
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut.base import OWN, NotInstalled
from reconnect_harness.sut.choose import folder_name, system_under_test
from reconnect_harness.toxiproxy.find import ToxiproxySource, find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyServer

#: Where runs leave their files if the user does not say.
DEFAULT_OUT = Path("scenario-runs")


class Campaign:
    """Scenarios that are run against one system under test: a context manager, which owns the Toxiproxy server.

    The scenarios are names, files, folders or `all`; the system is what `sut.choose` reads (None: this project's
    proxy), and the Toxiproxy what `toxiproxy.find` reads (None: the first one that is found). Each run gets a folder of
    its own in `out`. `option_names` has the names of pytest's options in the command that repeats a run, for those
    whose short name (`--sut`) belongs to the project. `profile` is what the system claims (None: what is known of it);
    with `judge_all` scenarios that ask for more are run too.

    Attributes:
        scenarios: all of them.
        unfit: why some of them are skipped, by name.

    Raises:
        ScenarioError: a scenario, or the system under test, does not exist or is not valid, or no scenario fits.
        ToxiproxyUnavailable: from `open`, if a scenario has faults of links and no Toxiproxy can be used.
        EngineUnavailable: from `run`, if a scenario has containers and there is no engine, or no image.

    """

    def __init__(
        self,
        wanted: Sequence[str],
        *,
        system: str | None = None,
        toxiproxy: str | None = None,
        seed: int = 1,
        out: Path = DEFAULT_OUT,
        option_names: Mapping[str, str] | None = None,
        profile: Profile | None = None,
        judge_all: bool = False,
    ) -> None:
        self.seed = seed
        self._profile_given = profile
        self.profile = None if judge_all else profile or system_under_test(system).profile
        self._option_names = option_names or {}
        self.out = out
        self._system = system
        self._toxiproxy = toxiproxy
        self._server: ToxiproxyServer | None = None
        self._engine: Engine | None = None
        self._opened = ExitStack()
        self._by_name = {path.resolve() for name in wanted if name != ALL for path in scenario_files(name)}
        files = list(dict.fromkeys(path.resolve() for name in wanted for path in scenario_files(name)))
        self.scenarios: list[Scenario] = []
        self.unfit: dict[str, str] = {}
        self._origins: dict[str, Path] = {}
        for file in files:
            found = load_scenario(file)
            if found.name in self._origins:
                named = self._origins[found.name]
                raise ScenarioError(f"{file}: its name, {found.name}, is that of {named}: rename one")
            self._origins[found.name] = file
            self.scenarios.append(found)
            if (reason := self._problem(found)) is not None:
                self.unfit[found.name] = reason
        if self.scenarios and not self.fitting:
            raise ScenarioError("; ".join(self.unfit.values()))

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _problem(self, chosen: Scenario) -> str | None:
        """Return why a scenario is skipped; None if it is not."""
        system = system_under_test(self._system)
        try:
            check_system(system, chosen)
        except NotInstalled:
            raise
        except ScenarioError as refused:
            return str(refused)
        if (reason := misfit(chosen, self.profile)) is None:
            return None
        more = (
            "" if self._profile_given else f"; {self._system or OWN} is {self.profile}: --profile judges it as another"
        )
        return f"scenario {chosen.name} does not fit: {reason}{more}"

    @property
    def fitting(self) -> list[Scenario]:
        """The scenarios that are run."""
        return [chosen for chosen in self.scenarios if chosen.name not in self.unfit]

    @property
    def needs_toxiproxy(self) -> bool:
        """Whether any of the scenarios that are run has faults of links."""
        return any(chosen.links for chosen in self.fitting)

    def open(self) -> None:
        """Find and start a Toxiproxy server if one is needed. Building one may take a minute, which is announced."""
        if self.needs_toxiproxy and self._server is None:
            source: ToxiproxySource = find_toxiproxy(self._toxiproxy)
            self._server = self._opened.enter_context(source.server())

    def optional(self, chosen: Scenario) -> bool:
        """Whether the scenario was not asked for by its name: if it cannot be run here, it is skipped."""
        return self._origins[chosen.name] not in self._by_name

    def prepare(self, chosen: Scenario) -> None:
        """Connect to the container engine if a scenario needs one, and pull the images that it does not have.

        Raises:
            EngineUnavailable: there is no engine, or an image cannot be pulled.

        """
        specs = chosen.container_specs
        if not specs:
            return
        try:
            if self._engine is None:
                self._engine = self._opened.enter_context(Engine())
            for image in {spec.image for spec in specs.values() if spec.image is not None}:
                self._engine.image(image)
        except EngineUnavailable as failure:
            raise EngineUnavailable(f"scenario {chosen.name} has containers: {failure}") from None

    def close(self) -> None:
        """Stop the Toxiproxy server, if it is ours, and disconnect from the container engine. May be called twice."""
        self._server = None
        self._engine = None
        self._opened.close()

    def header(self) -> list[str]:
        """Return the lines that say what is tested, and with which Toxiproxy, seed and folder."""
        if self._server is not None:
            toxiproxy = self._server.describe()
        else:
            toxiproxy = "not started" if self.needs_toxiproxy else "not needed"
        judged = f", judged as {self.profile}" if self.profile else ""
        skipped = f" ({len(self.unfit)} more do not fit)" if self.unfit else ""
        return [
            f"system under test: {system_under_test(self._system).describe()}{judged}",
            f"toxiproxy: {toxiproxy}",
            f"scenarios: {len(self.fitting)}{skipped}, seed {self.seed}, results in {self.out}",
        ]

    def run(self, chosen: Scenario, progress: Callable[[str], None] = lambda line: None) -> RunResult:
        """Run one of the scenarios, judge it, and write its files into its folder.

        Raises:
            ProcessFailed: a process did not start, or died of itself.
            ToxiproxyError: no Toxiproxy can be used, or a link could not be made or healed.
            EngineUnavailable: the scenario has containers, and there is no engine, or no image.
            ResultsError: its files cannot be written.
            KeyboardInterrupt: Ctrl-C or SIGTERM; everything that was started is stopped.

        """
        self.open()
        self.prepare(chosen)
        folder = self.out / f"{chosen.name}-{folder_name(self._system)}-{self.seed}"
        with writing(self.out):
            make_folder(self.out)
            system = system_under_test(self._system)
            parts = ScenarioRunner(chosen, system, self._server, self.seed, folder, self._engine, progress)
            done = run_to_end(parts.run())
            write_run(done, self._repeat(chosen))
        return done

    def _repeat(self, chosen: Scenario) -> str:
        """Return the command that repeats the run of a scenario."""
        file = self._origins[chosen.name]
        shipped = shipped_scenarios().get(chosen.name)
        own = shipped is None or shipped.resolve() != file
        options = {"--scenario": os.path.relpath(file) if own else chosen.name, "--scenario-seed": str(self.seed)}
        options |= {"--sut": self._system} if self._system else {}
        options |= {"--profile": self._profile_given} if self._profile_given else {}
        options |= {"--toxiproxy": self._toxiproxy} if self._toxiproxy else {}
        words = [f"{self._option_names.get(name, name)}={shlex.quote(value)}" for name, value in options.items()]
        return " ".join(["pytest", *words])
