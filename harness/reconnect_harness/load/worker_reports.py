"""The reports of the workers of a run: which workers take part, their latest reports, and which are final.

Only sums travel, and each report has all sums of its worker so far, so the latest one is enough. A worker that dies
without a final report takes the accounts of its users with it: what became of their messages is then unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconnect_harness.load.generator_load import GeneratorReading
from reconnect_harness.load.tally import Tally


@dataclass(slots=True)
class WorkerReport:
    """The latest report of a worker; `run` is the number of the run, which each worker counts for itself."""

    run: int
    final: bool
    tally: Tally
    reading: GeneratorReading

    @classmethod
    def read(cls, report: Mapping[str, Any]) -> WorkerReport:
        """Read what `UserGroup.report` has written."""
        return cls(
            report["run"],
            report["final"],
            Tally.from_report(report["tally"]),
            GeneratorReading.from_report(report["generator"]),
        )


class WorkerReports:
    """The reports of one run after the other."""

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
        """Take a report."""
        read = WorkerReport.read(report)
        if read.run > self._over.get(worker, 0):
            self._expected.add(worker)
            known = self._reports.get(worker)
            if known is None or not known.final:
                self._reports[worker] = read

    @property
    def unfinished(self) -> list[str]:
        """The workers whose final report has not come."""
        return sorted(worker for worker in self._expected if not self._is_final(worker))

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

    def _is_final(self, worker: str) -> bool:
        report = self._reports.get(worker)
        return report is not None and report.final
