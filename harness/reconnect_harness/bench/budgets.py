"""The performance budgets of this project's proxy, as data: bounds on the ratio of two figures of one run.

Times of different machines, or of one machine at different times, cannot be compared; ratios within one run can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import BenchResults, Figure
from reconnect_harness.sut.base import DIRECT, OWN


@dataclass(frozen=True, slots=True)
class Term:
    """One figure: the median over the rounds of a contender in a case."""

    figure: Figure
    shape: Shape
    contender: str = OWN
    #: The size of messages; None for any.
    size: int | None = None
    #: The count of the case; None for the largest that was measured.
    count: int | None = None
    #: Whether to subtract the figure of `direct`.
    added: bool = False

    def find(self, cases: Sequence[Case], results: BenchResults) -> float | None:
        """Return the value, None if it was not measured."""
        for case in sorted(cases, key=lambda case: case.count, reverse=True):
            if case.shape is self.shape and self.size in (None, case.size) and self.count in (None, case.count):
                value = results.median(case.name, self.contender, self.figure)
                least = results.median(case.name, DIRECT, self.figure) if self.added else 0.0
                if value is not None and least is not None:
                    return value - least
        return None


@dataclass(frozen=True, slots=True)
class PerformanceBudget:
    """A bound: `of` / `against` is at most `at_most`, or at least `at_least`. Without `against` it bounds `of`."""

    what: str
    of: Term
    against: Term | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def unit(self) -> str:
        return " x" if self.against else ""

    @property
    def bound(self) -> str:
        word, value = ("at most", self.at_most) if self.at_most is not None else ("at least", self.at_least)
        return f"{word} {_number(value or 0.0)}{self.unit}"


def _cpu(size: int, contender: str = OWN) -> Term:
    return Term(Figure.CPU, Shape.PIPELINED, contender, size, 16)


def _latency(figure: Figure, contender: str = OWN) -> Term:
    return Term(figure, Shape.REQUEST_REPLY, contender, 128, 1, added=True)


def _crowd(figure: Figure, count: int | None = None) -> Term:
    return Term(figure, Shape.CROWD, count=count)


_LARGE = 64 * 1024

#: The budgets.
BUDGETS = (
    PerformanceBudget("CPU time a round trip, 128 B, against HAProxy", _cpu(128), _cpu(128, "haproxy"), at_most=1.2),
    PerformanceBudget("CPU time a round trip, 128 B, against nginx", _cpu(128), _cpu(128, "nginx"), at_most=1.2),
    PerformanceBudget(
        "CPU time a round trip, 64 KiB, against HAProxy", _cpu(_LARGE), _cpu(_LARGE, "haproxy"), at_most=1.0
    ),
    PerformanceBudget("CPU time a round trip, 64 KiB, against nginx", _cpu(_LARGE), _cpu(_LARGE, "nginx"), at_most=0.3),
    PerformanceBudget(
        "latency added to one idle connection, p50, against HAProxy",
        _latency(Figure.P50),
        _latency(Figure.P50, "haproxy"),
        at_most=1.0,
    ),
    PerformanceBudget(
        "latency added to one idle connection, p99, against HAProxy",
        _latency(Figure.P99),
        _latency(Figure.P99, "haproxy"),
        at_most=1.0,
    ),
    PerformanceBudget("memory of an idle session, in bytes", _crowd(Figure.MEMORY), at_most=16 * 1024),
    # The inverse is sessions a second on one core. In sessions a second by the clock the generator is the bottleneck.
    PerformanceBudget(
        "CPU time a new session, against nginx",
        Term(Figure.CPU, Shape.OPEN),
        Term(Figure.CPU, Shape.OPEN, "nginx"),
        at_most=1.0,
    ),
    PerformanceBudget(
        "time until the last session is resumed, against as many plain handshakes",
        Term(Figure.SECONDS, Shape.RECOVER),
        Term(Figure.SECONDS, Shape.OPEN, DIRECT),
        at_most=1.5,
    ),
    PerformanceBudget(
        "messages a second from a backlog, against live relay",
        Term(Figure.RATE, Shape.DRAIN),
        Term(Figure.RATE, Shape.BURST),
        at_least=1.0,
    ),
    PerformanceBudget(
        "CPU time a round trip in the largest crowd, against a crowd of 100",
        _crowd(Figure.CPU),
        _crowd(Figure.CPU, 100),
        at_most=1.1,
    ),
)


class BudgetOutcome(StrEnum):
    """Whether a budget was kept. One that was not measured was not kept."""

    KEPT = "kept"
    EXCEEDED = "exceeded"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """A budget, whether it was kept, and the measured value; `reason` says why there is none."""

    budget: PerformanceBudget
    outcome: BudgetOutcome
    value: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}: {self.budget.what}: {self.measured} ({self.budget.bound})"

    @property
    def measured(self) -> str:
        """The measured value, or the reason why there is none."""
        return self.reason if self.value is None else f"{_number(self.value)}{self.budget.unit}"


def judge(
    cases: Sequence[Case], results: BenchResults, budgets: Sequence[PerformanceBudget] = BUDGETS
) -> list[BudgetResult]:
    """Return the result of each budget in a run."""
    return [_judged(budget, cases, results) for budget in budgets]


def _judged(budget: PerformanceBudget, cases: Sequence[Case], results: BenchResults) -> BudgetResult:
    values = []
    for term in (budget.of, budget.against):
        found = term.find(cases, results) if term else 1.0
        if term and found is None:
            reason = f"this run has no {term.figure} of {term.contender} in {term.shape}"
            return BudgetResult(budget, BudgetOutcome.UNKNOWN, reason=reason)
        values.append(found or 0.0)
    value, against = values
    if against <= 0:
        # The latency that a proxy adds can be negative, within the noise.
        return BudgetResult(budget, BudgetOutcome.UNKNOWN, reason="what it is compared with is lost in noise")
    ratio = value / against
    kept = ratio <= budget.at_most if budget.at_most is not None else ratio >= (budget.at_least or 0.0)
    return BudgetResult(budget, BudgetOutcome.KEPT if kept else BudgetOutcome.EXCEEDED, ratio)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
