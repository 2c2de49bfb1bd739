"""Several systems under test in the same scenarios, side by side in one table.

A row is one scenario and one system. A system that loses messages has a result; a row without a result says why. The
columns are `TABLE`, so that a terminal and Markdown show the same.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.checks.percentile import percentile
from reconnect_harness.checks.recovery import recovery_times
from reconnect_harness.containers.engine import EngineUnavailable
from reconnect_harness.history.message import Direction
from reconnect_harness.peers.kinds import ClientKind, UpstreamKind
from reconnect_harness.processes.child import ProcessFailed
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.report.table import ResultTable
from reconnect_harness.run.campaign import DEFAULT_OUT, Campaign
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import OWN, NotInstalled
from reconnect_harness.sut.choose import system_under_test

#: The systems that are compared if the user names none.
SYSTEMS = ("nginx", "haproxy", "fastify", OWN)

#: The text of a cell without a value.
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """What the table shows of one run."""

    verdict: str
    #: The share (0..1) of the messages that the clients should send, and did; None where there were none.
    said: float | None
    sent: dict[Direction, int]
    lost: dict[Direction, int]
    #: Messages, both directions.
    repeated: int
    reordered: int
    #: Links of clients that ended though the client had not asked for it.
    disconnects: int
    #: The 99th percentile of `recovery_times`, in seconds; None where there were none.
    recovery: float | None

    @classmethod
    def of(cls, run: RunResult) -> Self:
        found = {
            (result.check, result.direction): int(result.value)
            for result in run.judgement.results
            if result.value is not None and math.isfinite(result.value)
        }
        sent = {
            direction: sum(len(list(stream.owed)) for stream in run.history.streams[direction])
            for direction in Direction
        }
        clients = run.scenario.clients
        to_say = clients.send * clients.lasts * clients.count
        times = [seconds for seconds, _ in recovery_times(run.history)]
        return cls(
            verdict=run.judgement.verdict,
            said=min(1.0, sent[Direction.C2U] / to_say) if to_say else None,
            sent=sent,
            lost={direction: found.get(("lost", direction), 0) for direction in Direction},
            repeated=_summed(found, "duplicated"),
            reordered=_summed(found, "reordered"),
            disconnects=found["client_disconnects", None],
            recovery=percentile(times, 0.99),
        )


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One scenario and one system: the result, or the `problem` that prevented one."""

    scenario: str
    system: str
    result: ComparedRun | None = None
    problem: str = ""
    #: Whether it was skipped: this machine lacks what it needs, and it was not asked for by name.
    skipped: bool = False


class ComparisonColumn(NamedTuple):
    """A heading, and the text below it for a result."""

    heading: str
    show: Callable[[ComparedRun], str]


def _summed(found: Mapping[tuple[str, Direction | None], int], check: str) -> int:
    return sum(found.get((check, direction), 0) for direction in Direction)


def _lost(direction: Direction) -> Callable[[ComparedRun], str]:
    def show(result: ComparedRun) -> str:
        return f"{result.lost[direction]:,} of {result.sent[direction]:,}" if result.sent[direction] else NOTHING

    return show


def _recovery(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return "never" if math.isinf(seconds) else f"{seconds:.2f} s"


#: The columns after scenario, system and verdict.
TABLE = (
    ComparisonColumn("clients said", lambda result: NOTHING if result.said is None else f"{result.said:.0%}"),
    ComparisonColumn("lost c2u", _lost(Direction.C2U)),
    ComparisonColumn("lost u2c", _lost(Direction.U2C)),
    ComparisonColumn("repeated", lambda result: f"{result.repeated:,}"),
    ComparisonColumn("reordered", lambda result: f"{result.reordered:,}"),
    ComparisonColumn("client disconnects", lambda result: f"{result.disconnects:,}"),
    ComparisonColumn("recovery p99", lambda result: _recovery(result.recovery)),
)

_FIRST = ("scenario", "system under test", "verdict")
_NOT_RUN = "not run: "


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, by scenario and then by system, and notes about what was compared, with which versions."""

    rows: Sequence[ComparisonRow]
    notes: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether every row has a result."""
        return all(row.result or row.skipped for row in self.rows)

    def to_markdown(self, command: str) -> str:
        """Return the table as Markdown; below it the `command` that made it, and the notes."""
        lines = [*self.table().markdown(), "", f"Made by `{command}` with", "", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def table(self) -> ResultTable:
        headings = [*_FIRST, *(column.heading for column in TABLE)]
        return ResultTable(headings, [_cells(row) for row in self.rows], len(_FIRST), style=_style)


class Comparer:
    """Runs scenarios against systems. Other arguments are those of `Campaign`.

    It checks both when it is made, before anything is started. `progress` is called with lines about the present run,
    and `announce` with a line for each run that has ended.

    Raises:
        ScenarioError: a scenario or a system does not exist or is not valid, or no scenario can be run with it. A
            system that is not installed, and a scenario that cannot be run with it, have rows that say so.

    """

    def __init__(
        self,
        wanted: Sequence[str],
        systems: Sequence[str],
        *,
        toxiproxy: str | None = None,
        seed: int = 1,
        out: Path = DEFAULT_OUT,
        progress: Callable[[str], None] = lambda line: None,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._progress = progress
        self._announce = announce
        self._seed = seed
        self._toxiproxy: str | None = None
        self._scenarios: list[Scenario] = Campaign(wanted, judge_all=True).scenarios
        # By system: the campaign, or why there is none.
        self._campaigns: dict[str, Campaign | str] = {}
        for system in dict.fromkeys(systems):
            try:
                self._campaigns[system] = Campaign(
                    wanted, system=system, toxiproxy=toxiproxy, seed=seed, out=out, judge_all=True
                )
            except NotInstalled as missing:
                self._campaigns[system] = str(missing)

    def run(self) -> Comparison:
        """Run everything, one system after the other.

        Raises:
            ToxiproxyError: no Toxiproxy can be used, or a link could not be made or healed.
            KeyboardInterrupt: Ctrl-C or SIGTERM; everything that was started is stopped.

        """
        rows = {(row.scenario, row.system): row for system in self._campaigns for row in self._rows(system)}
        ordered = [rows[scenario.name, system] for scenario in self._scenarios for system in self._campaigns]
        return Comparison(ordered, list(self._notes()))

    def _rows(self, system: str) -> Iterator[ComparisonRow]:
        campaign = self._campaigns[system]
        if isinstance(campaign, str):
            self._announce(f"{system}: {campaign}")
            yield from (ComparisonRow(scenario.name, system, problem=campaign) for scenario in self._scenarios)
            return
        with campaign:
            for scenario in campaign.scenarios:
                row = self._row(campaign, scenario, system)
                said = row.result.verdict if row.result else row.problem
                self._announce(f"{scenario.name}, {system}: {said}")
                yield row

    def _row(self, campaign: Campaign, scenario: Scenario, system: str) -> ComparisonRow:
        if (reason := campaign.unfit.get(scenario.name)) is not None:
            return ComparisonRow(scenario.name, system, problem=reason, skipped=True)
        try:
            run = campaign.run(scenario, lambda line: self._progress(f"{system}: {line}"))
        except EngineUnavailable as failure:
            skipped = campaign.optional(scenario)
            return ComparisonRow(scenario.name, system, problem=str(failure), skipped=skipped)
        except ProcessFailed as failure:
            return ComparisonRow(scenario.name, system, problem=str(failure))
        self._toxiproxy = run.toxiproxy or self._toxiproxy
        return ComparisonRow(scenario.name, system, ComparedRun.of(run))

    def _notes(self) -> Iterator[str]:
        for system, campaign in self._campaigns.items():
            if not isinstance(campaign, str):
                yield f"`{system}`: {system_under_test(system).describe()}"
        for scenario in self._scenarios:
            if scenario.clients.kind is ClientKind.AWARE and scenario.upstream.kind is UpstreamKind.AWARE:
                yield (
                    f"{scenario.name}: clients and upstream speak the reconnect protocol, and resume by themselves "
                    "through a proxy that passes it on"
                )
        # Without the path where it was found on this machine.
        toxiproxy = (self._toxiproxy or "no Toxiproxy").split(" (")[0]
        yield f"{toxiproxy}, seed {self._seed}, Python {sys.version.split()[0]}"


def _cells(row: ComparisonRow) -> list[str]:
    if row.result is None:
        # The first line is the sentence; the last lines of a process follow.
        return [row.scenario, row.system, f"{_NOT_RUN}{row.problem.splitlines()[0]}", *[NOTHING] * len(TABLE)]
    return [row.scenario, row.system, row.result.verdict, *(column.show(row.result) for column in TABLE)]


def _style(cells: Sequence[str]) -> str:
    verdict = cells[len(_FIRST) - 1]
    return "green" if verdict == Verdict.VALID else "yellow" if verdict.startswith(_NOT_RUN) else ""
