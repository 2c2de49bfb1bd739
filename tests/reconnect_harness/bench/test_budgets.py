"""Budgets: ratios of figures of one run."""

from __future__ import annotations

import pytest

from reconnect_harness.bench import plan as plans
from reconnect_harness.bench.budgets import BUDGETS, BudgetOutcome, PerformanceBudget, Term, judge
from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.figures import BenchResults, Figure, TrialSample
from reconnect_harness.bench.plan import CONTENDERS, BenchPlan
from reconnect_harness.sut.base import OWN

CASE = Case(Shape.PIPELINED, 128, 16)
TERM = Term(Figure.CPU, Shape.PIPELINED, OWN, 128, 16)
NGINX = Term(Figure.CPU, Shape.PIPELINED, "nginx", 128, 16)


def _results(*rows: tuple[Case, str, Figure, float]) -> BenchResults:
    return BenchResults(TrialSample(case.name, name, 1, {figure: value}) for case, name, figure, value in rows)


@pytest.mark.parametrize(("own", "outcome"), [(12.0, BudgetOutcome.KEPT), (12.1, BudgetOutcome.EXCEEDED)])
def test_a_ratio_is_compared_with_its_bound(own: float, outcome: BudgetOutcome) -> None:
    """At the bound it is still kept."""
    results = _results((CASE, OWN, Figure.CPU, own), (CASE, "nginx", Figure.CPU, 10.0))
    [verdict] = judge([CASE], results, [PerformanceBudget("CPU", TERM, NGINX, at_most=1.2)])
    assert verdict.outcome is outcome
    assert verdict.value == pytest.approx(own / 10)
    assert str(verdict) == f"{outcome}: CPU: {own / 10:.2f} x (at most 1.20 x)"


def test_a_bound_may_be_a_minimum() -> None:
    """A higher rate is better."""
    budget = PerformanceBudget("rate", TERM, NGINX, at_least=1.0)
    for own, outcome in ((9.9, BudgetOutcome.EXCEEDED), (10.0, BudgetOutcome.KEPT)):
        results = _results((CASE, OWN, Figure.CPU, own), (CASE, "nginx", Figure.CPU, 10.0))
        assert judge([CASE], results, [budget])[0].outcome is outcome


def test_a_bound_may_be_absolute() -> None:
    """It is then of the largest case that was measured."""
    small, large = Case(Shape.CROWD, count=100), Case(Shape.CROWD, count=9900)
    results = _results((small, OWN, Figure.MEMORY, 1.0), (large, OWN, Figure.MEMORY, 20_000.0))
    [verdict] = judge(
        [small, large], results, [PerformanceBudget("m", Term(Figure.MEMORY, Shape.CROWD), at_most=16_384)]
    )
    assert (verdict.outcome, verdict.value) == (BudgetOutcome.EXCEEDED, 20_000.0)
    assert str(verdict) == "exceeded: m: 20,000 (at most 16,384)"


def test_what_was_not_measured_is_not_kept() -> None:
    """The reason says what is missing."""
    results = _results((CASE, OWN, Figure.CPU, 1.0))
    [verdict] = judge([CASE], results, [PerformanceBudget("CPU", TERM, NGINX, at_most=1.2)])
    assert verdict.outcome is BudgetOutcome.UNKNOWN
    assert "this run has no cpu_us of nginx in pipelined" in str(verdict)


def test_of_a_latency_only_what_a_proxy_adds_counts() -> None:
    """The direct connection has a latency too; if nothing is added, there is nothing to compare with."""
    case = Case(Shape.REQUEST_REPLY, 128, 1)
    own = Term(Figure.P50, Shape.REQUEST_REPLY, OWN, 128, 1, added=True)
    other = Term(Figure.P50, Shape.REQUEST_REPLY, "haproxy", 128, 1, added=True)
    rows = [(case, "direct", Figure.P50, 10.0), (case, OWN, Figure.P50, 30.0), (case, "haproxy", Figure.P50, 20.0)]
    [verdict] = judge([case], _results(*rows), [PerformanceBudget("l", own, other, at_most=1.0)])
    assert verdict.value == pytest.approx(2.0)
    rows[2] = (case, "haproxy", Figure.P50, 9.0)
    [verdict] = judge([case], _results(*rows), [PerformanceBudget("l", own, other, at_most=1.0)])
    assert verdict.outcome is BudgetOutcome.UNKNOWN


@pytest.mark.parametrize("plan", [plans.QUICK, plans.STANDARD, plans.FULL])
def test_every_plan_measures_what_every_budget_needs(plan: BenchPlan) -> None:
    """`--check` can succeed after any of them."""
    trials = {(case, name) for _, case, name in plan.trials(CONTENDERS)}
    results = BenchResults(TrialSample(case.name, name, 1, dict.fromkeys(Figure, 1.0)) for case, name in trials)
    unknown = [verdict for verdict in judge(plan.cases, results) if verdict.outcome is BudgetOutcome.UNKNOWN]
    # Of equal latencies nothing is added.
    assert [verdict.reason for verdict in unknown] == ["what it is compared with is lost in noise"] * 2
    assert len(BUDGETS) == 11
