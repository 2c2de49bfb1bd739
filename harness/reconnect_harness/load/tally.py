"""The tally: what all users of a process have sent and received, by their class; and of all processes of a run.

Sums travel from the workers to the master; the accounts of single users stay where they are. A worker always reports
its whole tally, so a report that arrives twice, or not at all, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.load.generator_load import GeneratorReading

#: How many violations are kept in words.
EXAMPLES = 5

#: What a flaw is called in locust's statistics, in the summary and in `Sums`.
FLAW_NAMES: Mapping[Flaw, str] = {
    Flaw.LOST: "lost",
    Flaw.DUPLICATED: "repeated",
    Flaw.REORDERED: "reordered",
    Flaw.CORRUPTED: "damaged",
    Flaw.MISDELIVERED: "misdelivered",
}


@dataclass(slots=True)
class Sums:
    """The sums of one class of users."""

    users: int = 0
    sent: int = 0
    answered: int = 0
    pushed: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    damaged: int = 0
    misdelivered: int = 0
    in_flight: int = 0
    """Messages that have not arrived and are not lost yet."""
    connects: int = 0
    refused: int = 0
    """First connections that failed."""
    dropped: int = 0
    """Links that ended though the user had not asked for it."""
    reconnects: int = 0
    ended: int = 0
    """Conversations that ended though the user had not asked for it: their sessions are lost."""
    exactly_once: bool = False
    """Whether no message may arrive twice: the users of this class speak the reconnect protocol."""

    def add(self, other: Sums) -> None:
        """Add the sums of another process."""
        for each in fields(self):
            name = each.name
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, mine or theirs if name == "exactly_once" else mine + theirs)

    def count(self, flaw: Flaw, number: int = 1) -> None:
        name = FLAW_NAMES[flaw]
        setattr(self, name, getattr(self, name) + number)

    @property
    def flowed(self) -> bool:
        return self.answered + self.pushed > 0


@dataclass(slots=True)
class Tally:
    """The sums by class of users, and examples of violations."""

    sums: dict[str, Sums] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def of(self, users: str) -> Sums:
        """Return the sums of a class of users, by its name."""
        if users not in self.sums:
            self.sums[users] = Sums()
        return self.sums[users]

    def example(self, line: str) -> None:
        """Keep a line about a violation, if it is one of the first."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(line)

    @property
    def total(self) -> Sums:
        total = Sums()
        for sums in self.sums.values():
            total.add(sums)
        return total

    def breaches(self) -> list[str]:
        """Return what breaks the guarantees, one sentence each."""
        total = self.total
        twice = sum(sums.repeated for sums in self.sums.values() if sums.exactly_once)
        found = {
            f"{total.lost:,} messages were lost": total.lost,
            f"{total.reordered:,} messages came out of order": total.reordered,
            f"{total.damaged:,} messages came damaged": total.damaged,
            f"{total.misdelivered:,} messages were misdelivered": total.misdelivered,
            f"{twice:,} messages came twice to users who count": twice,
        }
        return [sentence for sentence, count in found.items() if count]

    @classmethod
    def merge(cls, tallies: Iterable[Tally]) -> Self:
        """Add up the tallies of several processes."""
        merged = cls()
        for tally in tallies:
            for users, sums in tally.sums.items():
                merged.of(users).add(sums)
            for line in tally.examples:
                merged.example(line)
        return merged

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Self:
        """Make a tally of its fields, as a worker reports them."""
        return cls({users: Sums(**sums) for users, sums in report["sums"].items()}, list(report["examples"]))


@dataclass(slots=True)
class WorkerReport:
    """The latest report of a worker; `run` is the number of the run, which each worker counts for itself."""

    run: int
    final: bool
    tally: Tally
    reading: GeneratorReading


class WorkerReports:
    """The reports of the workers of a run: which take part, their latest reports, and which are final.

    Each report has all sums of its worker so far, so the latest one is enough. A worker that dies without a final
    report takes the accounts of its users with it: what became of their messages is then unknown.
    """

    def __init__(self) -> None:
        self._expected: set[str] = set()
        self._reports: dict[str, WorkerReport] = {}
        # The last run of each worker that is over: a later report of that run is ignored.
        self._over: dict[str, int] = {}

    def begin(self, workers: Iterable[str]) -> None:
        """Begin a run with these workers."""
        self._over |= {worker: report.run for worker, report in self._reports.items()}
        self._expected = set(workers)
        self._reports = {}

    def expect(self, worker: str) -> None:
        """Expect reports of one more worker, which has joined in the middle of the run."""
        self._expected.add(worker)

    def take(self, worker: str, report: Mapping[str, Any]) -> None:
        """Take what `UserGroup.report` has made."""
        tally, reading = Tally.from_report(report["tally"]), GeneratorReading(**report["generator"])
        read = WorkerReport(report["run"], report["final"], tally, reading)
        if read.run > self._over.get(worker, 0):
            self._expected.add(worker)
            known = self._reports.get(worker)
            if known is None or not known.final:
                self._reports[worker] = read

    @property
    def unfinished(self) -> list[str]:
        """The workers whose final report has not come."""
        final = {worker for worker, report in self._reports.items() if report.final}
        return sorted(self._expected - final)

    @property
    def tally(self) -> Tally:
        """What the users of all workers have sent and received, as far as it was reported."""
        return Tally.merge(report.tally for report in self._reports.values())

    @property
    def readings(self) -> dict[str, GeneratorReading]:
        """How busy each worker was."""
        return {worker: report.reading for worker, report in self._reports.items()}

    def users_of(self, worker: str) -> int:
        """Return how many users a worker had in all, as far as it was reported."""
        report = self._reports.get(worker)
        return report.tally.total.users if report else 0
