"""Sums of users, and of the workers of a run."""

from __future__ import annotations

from dataclasses import asdict

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.load.generator_load import GeneratorReading
from reconnect_harness.load.tally import EXAMPLES, Tally, WorkerReports


def _tally(sent: int, lost: int = 0) -> Tally:
    tally = Tally()
    sums = tally.of("PlainUser")
    sums.users, sums.sent, sums.answered = 1, sent, sent - lost
    sums.count(Flaw.LOST, lost)
    return tally


def _report(sent: int, lost: int = 0, *, run: int = 1, final: bool = False) -> dict[str, object]:
    return {
        "run": run,
        "final": final,
        "tally": asdict(_tally(sent, lost)),
        "generator": asdict(GeneratorReading()),
    }


def test_tallies_add_up_by_class() -> None:
    """A worker reports what it has counted."""
    merged = Tally.merge([Tally.from_report(asdict(_tally(10))), _tally(20, 3)])
    assert (merged.of("PlainUser").sent, merged.of("PlainUser").lost, merged.total.users) == (30, 3, 2)
    assert merged.breaches() == ["3 messages were lost"]


def test_a_repeat_breaks_the_guarantee_of_aware_users_only() -> None:
    """An ordinary peer gets each message at least once."""
    tally = Tally()
    tally.of("PlainUser").count(Flaw.DUPLICATED, 2)
    assert tally.breaches() == []
    tally.of("AwareUser").exactly_once = True
    tally.of("AwareUser").count(Flaw.DUPLICATED)
    assert tally.breaches() == ["1 messages came twice to users who count"]


def test_examples_are_few() -> None:
    """The first ones are enough."""
    tally = Tally()
    for number in range(100):
        tally.example(str(number))
    assert tally.examples == [str(number) for number in range(EXAMPLES)]


def test_the_latest_report_of_each_worker_counts() -> None:
    """A report that comes twice changes nothing."""
    reports = WorkerReports()
    reports.begin(["one", "two"])
    reports.take("one", _report(5))
    reports.take("one", _report(8, final=True))
    reports.take("one", _report(8, final=True))
    reports.take("two", _report(7, 1, final=True))
    assert (reports.tally.total.sent, reports.tally.total.lost, reports.unfinished) == (15, 1, [])


def test_a_worker_without_a_final_report_is_unfinished() -> None:
    """Whether it has reported before, never, or has joined in the middle."""
    reports = WorkerReports()
    reports.begin(["one", "two"])
    reports.take("one", _report(5))
    reports.expect("three")
    assert reports.unfinished == ["one", "three", "two"]
    assert reports.users_of("one") == 1
    assert reports.users_of("two") == 0


def test_a_late_report_of_an_earlier_run_is_ignored() -> None:
    """Each worker counts its runs."""
    reports = WorkerReports()
    reports.begin(["one"])
    reports.take("one", _report(5, run=1, final=True))
    reports.begin(["one"])
    reports.take("one", _report(5, run=1, final=True))
    assert reports.unfinished == ["one"]
    reports.take("one", _report(2, run=2, final=True))
    assert (reports.tally.total.sent, reports.unfinished) == (2, [])
