"""The roll: which workers take part in a run, what each has reported, and whether it was its last word.

Only sums travel, and each worker repeats all of its own, so the latest report of each is enough. A worker that is gone
without a last word takes the accounts of its users with it: then nobody knows that nothing was lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconnect_harness.load.generator_load import Reading
from reconnect_harness.load.tally import Tally


@dataclass(slots=True)
class Report:
    """The latest report of a worker; `run` is its count of runs."""

    run: int
    final: bool
    tally: Tally
    reading: Reading

    @classmethod
    def read(cls, report: Mapping[str, Any]) -> Report:
        """Read what `Crew.report` has written."""
        return cls(
            report["run"],
            report["final"],
            Tally.from_report(report["tally"]),
            Reading.from_report(report["meter"]),
        )


class Roll:
    """The workers of one run after the other."""

    def __init__(self) -> None:
        self._expected: set[str] = set()
        self._reports: dict[str, Report] = {}
        # The last run of each worker that is over: what still comes of it is late.
        self._over: dict[str, int] = {}

    def begin(self, workers: Iterable[str]) -> None:
        """Begin a run with these workers."""
        self._over |= {worker: report.run for worker, report in self._reports.items()}
        self._expected = set(workers)
        self._reports = {}

    def expect(self, worker: str) -> None:
        """Expect reports of one more worker, which has come in the middle of the run."""
        self._expected.add(worker)

    def take(self, worker: str, report: Mapping[str, Any]) -> None:
        """Take a report."""
        read = Report.read(report)
        if read.run > self._over.get(worker, 0):
            self._expected.add(worker)
            known = self._reports.get(worker)
            if known is None or not known.final:
                self._reports[worker] = read

    @property
    def silent(self) -> list[str]:
        """The workers whose last word has not come."""
        return sorted(worker for worker in self._expected if not self._is_final(worker))

    @property
    def tally(self) -> Tally:
        """What the users of all workers did and got, as far as it is known."""
        return Tally.merge(report.tally for report in self._reports.values())

    @property
    def readings(self) -> dict[str, Reading]:
        """What the meter of each worker has read."""
        return {worker: report.reading for worker, report in self._reports.items()}

    def users_of(self, worker: str) -> int:
        """Return how many users a worker had in all, as far as it has said."""
        report = self._reports.get(worker)
        return report.tally.total.users if report else 0

    def _is_final(self, worker: str) -> bool:
        report = self._reports.get(worker)
        return report is not None and report.final
