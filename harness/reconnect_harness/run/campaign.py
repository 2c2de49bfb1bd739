"""A campaign: chosen scenarios against one system under test. What pytest and the command line have in common.

Everything that can be wrong with what the user asked for is found when a campaign is made, before anything is started.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from reconnect_harness.containers.engine import Engine, EngineUnavailable
from reconnect_harness.processes.loops import run_to_end
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run import results_folder as report
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import ALL, load_scenario, scenario_files, shipped_scenarios
from reconnect_harness.scenario.model import Scenario, ScenarioError
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.toxiproxy.find import ToxiproxySource, find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyServer

#: Where runs leave their files if the user does not say.
DEFAULT_OUT = Path("scenario-runs")


class ResultsError(Exception):
    """The files of a run cannot be written. The message says which, and why."""


class Campaign:
    """Scenarios to be run against one system under test: a context manager, which keeps the Toxiproxy server.

    Args:
        wanted: what the user asked for: names, files, folders, `all`.
        system: the system under test, as `sut.base` reads it; None for this project's proxy.
        toxiproxy: which Toxiproxy to use, as `toxiproxy.link.find_toxiproxy` reads it; None to search.
        seed: what the random parts of the runs are drawn from.
        out: the folder in which each run gets a folder of its own.
        option_names: the names of pytest's options in the command that repeats a run, for those whose short name
            (`--sut`) belongs to the project.

    Raises:
        ScenarioError: a scenario, or the system under test, is not there or is wrong, or they do not fit.
        ToxiproxyUnavailable: from `open`, when a link is to be harmed and no Toxiproxy can be had.
        EngineUnavailable: from `run`, when a scenario has containers and there is no engine, or no image.

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
    ) -> None:
        self.seed = seed
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
        self._origins: dict[str, Path] = {}
        for file in files:
            found = load_scenario(file)
            if found.name in self._origins:
                named = self._origins[found.name]
                raise ScenarioError(f"{file}: its name, {found.name}, is that of {named}: rename one")
            self._origins[found.name] = file
            system_under_test(system).check(found)
            self.scenarios.append(found)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def needs_toxiproxy(self) -> bool:
        """Whether a link is harmed in any of the scenarios."""
        return any(chosen.links for chosen in self.scenarios)

    def open(self) -> None:
        """Find and start a Toxiproxy server if one is needed. Building one may take a minute, and says so."""
        if self.needs_toxiproxy and self._server is None:
            source: ToxiproxySource = find_toxiproxy(self._toxiproxy)
            self._server = self._opened.enter_context(source.server())

    def optional(self, chosen: Scenario) -> bool:
        """Whether nobody has asked for this scenario by its name: where it cannot be run here it is skipped."""
        return self._origins[chosen.name] not in self._by_name

    def prepare(self, chosen: Scenario) -> None:
        """Connect to the container engine if a scenario needs one, and pull what images it has not got.

        Raises:
            EngineUnavailable: it cannot be had, or an image cannot.

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
        """Stop the Toxiproxy server, if it is ours, and let the container engine go. May be called twice."""
        self._server = None
        self._engine = None
        self._opened.close()

    def header(self) -> list[str]:
        """Return the lines that say what is tested, and with what."""
        if self._server is not None:
            toxiproxy = self._server.describe()
        else:
            toxiproxy = "not started" if self.needs_toxiproxy else "not needed"
        return [
            f"system under test: {system_under_test(self._system).describe()}",
            f"toxiproxy: {toxiproxy}",
            f"scenarios: {len(self.scenarios)}, seed {self.seed}, results in {self.out}",
        ]

    def run(self, chosen: Scenario, progress: Callable[[str], None] = lambda line: None) -> RunResult:
        """Run one of the scenarios, judge it, and write what it leaves into its folder.

        Raises:
            ProcessFailed: a process did not start, or died of itself.
            ToxiproxyError: no Toxiproxy can be had, or a link could not be made or healed.
            EngineUnavailable: the scenario has containers, and there is no engine, or no image.
            ResultsError: its files cannot be written.
            KeyboardInterrupt: Ctrl-C or SIGTERM; everything that was started is stopped.

        """
        self.open()
        self.prepare(chosen)
        folder = self.out / f"{chosen.name}-{self.seed}"
        with writing(self.out):
            make_folder(self.out)
            system = system_under_test(self._system)
            parts = ScenarioRunner(chosen, system, self._server, self.seed, folder, progress, self._engine)
            done = run_to_end(parts.run())
            report.write(done, self._repeat(chosen))
        return done

    def _repeat(self, chosen: Scenario) -> str:
        """Return the command that runs one of the scenarios again as it is run here."""
        file = self._origins[chosen.name]
        shipped = shipped_scenarios().get(chosen.name)
        own = shipped is None or shipped.resolve() != file
        options = {"--scenario": os.path.relpath(file) if own else chosen.name, "--scenario-seed": str(self.seed)}
        options |= {"--sut": self._system} if self._system else {}
        options |= {"--toxiproxy": self._toxiproxy} if self._toxiproxy else {}
        words = [f"{self._option_names.get(name, name)}={shlex.quote(value)}" for name, value in options.items()]
        return " ".join(["pytest", *words])


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn whatever keeps the block from writing into the folder `out` into ResultsError."""
    try:
        yield
    except OSError as failure:
        # A write to a file that is open names none; of what may fail there a full disk is the user's to know.
        full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
        where = Path(failure.filename) if isinstance(failure.filename, (str, os.PathLike)) else out
        if not full and (failure.filename is None or not where.absolute().is_relative_to(out.absolute())):
            raise
        raise ResultsError(f"cannot write {where}: {failure.strerror}: name another folder for the results") from None


def make_folder(out: Path) -> None:
    """Make the folder for results, if it is not there yet."""
    if not out.exists():
        # Other processes of pytest-xdist may make it at the same time.
        out.mkdir(parents=True, exist_ok=True)
        # Results are no part of a project; pytest does the same with its cache.
        (out / ".gitignore").write_text("*\n")
