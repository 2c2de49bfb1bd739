"""The budgets of this project's proxy, as data: ratios of two figures of one run, since one run is one machine's mood.

Times of other machines, or of the same one yesterday, are compared with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import Figure, Results
from reconnect_harness.sut.base import DIRECT, OWN


@dataclass(frozen=True, slots=True)
class Term:
    """One figure: the median of the rounds of a contender in a case.

    `count` None is the largest that was measured, `size` None any. With `added` what the contender adds to `direct`.
    """

    figure: Figure
    shape: Shape
    contender: str = OWN
    size: int | None = None
    count: int | None = None
    added: bool = False

    def find(self, cases: Sequence[Case], results: Results) -> tuple[Case, float] | None:
        """Return the case and the value, None if it was not measured."""
        for case in sorted(cases, key=lambda case: case.count, reverse=True):
            if (
                case.shape is not self.shape
                or self.size not in (None, case.size)
                or self.count not in (None, case.count)
            ):
                continue
            value = results.median(case.name, self.contender, self.figure)
            least = results.median(case.name, DIRECT, self.figure) if self.added else 0.0
            if value is not None and least is not None:
                return case, value - least
        return None


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound: `of` / `against` is at most `at_most`, or at least `at_least`. Without `against` it is `of` itself."""

    what: str
    of: Term
    against: Term | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def unit(self) -> str:
        """What stands behind its numbers."""
        return " x" if self.against else ""

    @property
    def bound(self) -> str:
        """Say what is allowed."""
        word, value = ("at most", self.at_most) if self.at_most is not None else ("at least", self.at_least)
        return f"{word} {_number(value or 0.0)}{self.unit}"


def _cpu(size: int, contender: str = OWN) -> Term:
    return Term(Figure.CPU, Shape.PIPELINED, contender, size, 16)


def _latency(figure: Figure, contender: str = OWN) -> Term:
    return Term(figure, Shape.REQUEST_REPLY, contender, 128, 1, added=True)


def _crowd(figure: Figure, count: int | None = None) -> Term:
    return Term(figure, Shape.CROWD, count=count)


_LARGE = 64 * 1024

#: What the proxy has to keep.
BUDGETS = (
    Budget("CPU time a round trip, 128 B, against HAProxy", _cpu(128), _cpu(128, "haproxy"), at_most=1.2),
    Budget("CPU time a round trip, 128 B, against nginx", _cpu(128), _cpu(128, "nginx"), at_most=1.2),
    Budget("CPU time a round trip, 64 KiB, against HAProxy", _cpu(_LARGE), _cpu(_LARGE, "haproxy"), at_most=1.0),
    Budget("CPU time a round trip, 64 KiB, against nginx", _cpu(_LARGE), _cpu(_LARGE, "nginx"), at_most=0.3),
    Budget(
        "latency added to one idle connection, p50, against HAProxy",
        _latency(Figure.P50),
        _latency(Figure.P50, "haproxy"),
        at_most=1.0,
    ),
    Budget(
        "latency added to one idle connection, p99, against HAProxy",
        _latency(Figure.P99),
        _latency(Figure.P99, "haproxy"),
        at_most=1.0,
    ),
    Budget("memory of an idle session, in bytes", _crowd(Figure.MEMORY), at_most=16 * 1024),
    # Sessions a second of one core are the inverse of it. The generator would be the limit of any count by the clock.
    Budget(
        "CPU time a new session, against nginx",
        Term(Figure.CPU, Shape.OPEN),
        Term(Figure.CPU, Shape.OPEN, "nginx"),
        at_most=1.0,
    ),
    Budget(
        "time until the last session is resumed, against as many plain handshakes",
        Term(Figure.SECONDS, Shape.RECOVER),
        Term(Figure.SECONDS, Shape.OPEN, DIRECT),
        at_most=1.5,
    ),
    Budget(
        "messages a second from a backlog, against live relay",
        Term(Figure.RATE, Shape.DRAIN),
        Term(Figure.RATE, Shape.BURST),
        at_least=1.0,
    ),
    Budget(
        "CPU time a round trip in the largest crowd, against a crowd of 100",
        _crowd(Figure.CPU),
        _crowd(Figure.CPU, 100),
        at_most=1.1,
    ),
)


class Outcome(StrEnum):
    """What became of a budget. One that was not measured is not kept."""

    KEPT = "kept"
    EXCEEDED = "exceeded"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A budget, what became of it, and the value that is bounded, if it is known; `reason` says why if it is not."""

    budget: Budget
    outcome: Outcome
    value: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.outcome}: {self.budget.what}: {self.measured} ({self.budget.bound})"

    @property
    def measured(self) -> str:
        """What was measured, or why nothing was."""
        return self.reason if self.value is None else f"{_number(self.value)}{self.budget.unit}"


def judge(cases: Sequence[Case], results: Results, budgets: Sequence[Budget] = BUDGETS) -> list[Verdict]:
    """Return what became of each budget in a run."""
    return [_judged(budget, cases, results) for budget in budgets]


def _judged(budget: Budget, cases: Sequence[Case], results: Results) -> Verdict:
    values = []
    for term in (budget.of, budget.against):
        if term is None:
            values.append(1.0)
            continue
        found = term.find(cases, results)
        if found is None:
            reason = f"this run has no {term.figure} of {term.contender} in {term.shape}"
            return Verdict(budget, Outcome.UNKNOWN, reason=reason)
        values.append(found[1])
    value, against = values
    if against <= 0:
        # A latency that a proxy adds can be less than none, in the noise.
        return Verdict(budget, Outcome.UNKNOWN, reason="what it is compared with is lost in noise")
    ratio = value / against
    kept = ratio <= budget.at_most if budget.at_most is not None else ratio >= (budget.at_least or 0.0)
    return Verdict(budget, Outcome.KEPT if kept else Outcome.EXCEEDED, ratio)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
