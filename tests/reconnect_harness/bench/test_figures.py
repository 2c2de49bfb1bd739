"""The arithmetic of a benchmark: quantiles, what one thing costs, what was the bottleneck."""

from __future__ import annotations

import pytest

from reconnect_harness.bench.figures import (
    BenchResults,
    Bottleneck,
    Figure,
    Interval,
    Spread,
    TrialSample,
    UsageAt,
    latencies,
)


def _interval(seconds: float, done: int, cpu: float, load: tuple[float, float], cores: int = 1) -> Interval:
    begin = UsageAt(10.0, 5, 1.0, (3.0, 4.0))
    end = UsageAt(10.0 + seconds, 5 + done, 1.0 + cpu, (3.0 + load[0], 4.0 + load[1]))
    return Interval(begin, end, cores)


def test_latencies_are_in_microseconds() -> None:
    """In any order; without latencies there are no figures."""
    assert latencies([0.003, 0.001, 0.002]) == pytest.approx(
        {Figure.P50: 2000.0, Figure.P99: 3000.0, Figure.P999: 3000.0}
    )
    assert latencies([]) == {}


def test_the_cpu_time_of_an_interval_is_divided_by_what_was_done_in_it() -> None:
    """What was done before does not count."""
    interval = _interval(2.0, done=1000, cpu=0.5, load=(0.4, 0.3))
    assert interval.figures == pytest.approx({Figure.CPU: 500.0, Figure.RATE: 500.0})


def test_an_interval_in_which_nothing_was_done_has_no_figures() -> None:
    """It is neither a division by zero nor a contender without costs."""
    assert _interval(2.0, done=0, cpu=0.5, load=(0.4, 0.3)).figures == {}


@pytest.mark.parametrize(
    ("cpu", "load", "cores", "limit"),
    [
        (1.95, (1.0, 1.0), 1, Bottleneck.CONTENDER),
        (1.00, (1.0, 0.9), 1, Bottleneck.LOAD),
        (1.00, (1.0, 0.9), 2, Bottleneck.WAITING),
        (1.00, (1.9, 0.1), 2, Bottleneck.LOAD),
        (1.00, (0.5, 0.5), 1, Bottleneck.WAITING),
    ],
)
def test_the_bottleneck_is_what_was_busy_all_the_time(
    cpu: float, load: tuple[float, float], cores: int, limit: Bottleneck
) -> None:
    """The generator and the server may share a core; a process of theirs cannot use more than one."""
    assert _interval(2.0, 100, cpu, load, cores).bottleneck is limit


def test_a_spread_has_the_least_the_middle_and_the_most() -> None:
    """Of an even number of rounds the middle is between two."""
    assert Spread.of([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == (1.0, 2.5, 4.0)
    assert Spread.of([5.0]) == (5.0, 5.0, 5.0)


def test_results_are_found_by_case_and_contender() -> None:
    """What was not measured is None; a problem counts only if no round has figures."""
    results = BenchResults(
        [
            TrialSample("a", "x", 1, {Figure.CPU: 4.0}, Bottleneck.LOAD),
            TrialSample("a", "x", 2, {Figure.CPU: 2.0}, Bottleneck.WAITING),
            TrialSample("a", "y", 1, problem="has dropped a client"),
            TrialSample("b", "x", 1, {Figure.CPU: 9.0}),
        ]
    )
    assert results.median("a", "x", Figure.CPU) == 3.0
    assert results.median("a", "x", Figure.RATE) is None
    assert results.spread("c", "x", Figure.CPU) is None
    assert results.limited_by(Bottleneck.LOAD, "a", "x")
    assert not results.limited_by(Bottleneck.CONTENDER, "a", "x")
    assert not results.limited_by(Bottleneck.LOAD, "b", "x")
    assert results.problem("a", "y") == "has dropped a client"
    assert not results.problem("a", "x")
