"""The arithmetic of a benchmark: quantiles, what one thing costs, what was the limit."""

from __future__ import annotations

import pytest

from reconnect_harness.bench.figures import (
    Figure,
    Interval,
    Limit,
    Results,
    Sample,
    Snapshot,
    Spread,
    latencies,
    percentile,
)


def _interval(seconds: float, done: int, cpu: float, load: tuple[float, float], cores: int = 1) -> Interval:
    begin = Snapshot(10.0, 5, 1.0, (3.0, 4.0))
    end = Snapshot(10.0 + seconds, 5 + done, 1.0 + cpu, (3.0 + load[0], 4.0 + load[1]))
    return Interval(begin, end, cores)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """The smallest one that so many of the values do not exceed."""
    ordered = [float(value) for value in range(1, 101)]
    assert percentile(ordered, 0.5) == 50
    assert percentile(ordered, 0.99) == 99
    assert percentile(ordered, 0.999) == 100
    assert percentile(ordered, 0.0) == 1
    assert percentile([7.0], 0.5) == percentile([7.0], 0.999) == 7


def test_latencies_are_told_in_microseconds() -> None:
    """Whatever the order in which they came; without any there are none to tell."""
    assert latencies([0.003, 0.001, 0.002]) == pytest.approx(
        {Figure.P50: 2000.0, Figure.P99: 3000.0, Figure.P999: 3000.0}
    )
    assert latencies([]) == {}


def test_the_cpu_time_of_an_interval_is_divided_by_what_came_about_in_it() -> None:
    """What was there before counts for nothing."""
    interval = _interval(2.0, done=1000, cpu=0.5, load=(0.4, 0.3))
    assert interval.figures == pytest.approx({Figure.CPU: 500.0, Figure.RATE: 500.0})


def test_an_interval_in_which_nothing_came_about_has_no_figures() -> None:
    """It is no division by zero, and no contender that costs nothing."""
    assert _interval(2.0, done=0, cpu=0.5, load=(0.4, 0.3)).figures == {}


@pytest.mark.parametrize(
    ("cpu", "load", "cores", "limit"),
    [
        (1.95, (1.0, 1.0), 1, Limit.CONTENDER),
        (1.00, (1.0, 0.9), 1, Limit.LOAD),
        (1.00, (1.0, 0.9), 2, Limit.WAITING),
        (1.00, (1.9, 0.1), 2, Limit.LOAD),
        (1.00, (0.5, 0.5), 1, Limit.WAITING),
    ],
)
def test_the_limit_is_what_was_busy_all_the_time(
    cpu: float, load: tuple[float, float], cores: int, limit: Limit
) -> None:
    """The generator and the server may share a core; a process of theirs cannot use more than one."""
    assert _interval(2.0, 100, cpu, load, cores).limit is limit


def test_a_spread_has_the_least_the_middle_and_the_most() -> None:
    """Of an even number of rounds the middle is between two."""
    assert Spread.of([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == (1.0, 2.5, 4.0)
    assert Spread.of([5.0]) == (5.0, 5.0, 5.0)


def test_results_are_found_by_case_and_contender() -> None:
    """What was not measured is none; a problem is one only where no round has figures."""
    results = Results(
        [
            Sample("a", "x", 1, {Figure.CPU: 4.0}, Limit.LOAD),
            Sample("a", "x", 2, {Figure.CPU: 2.0}, Limit.WAITING),
            Sample("a", "y", 1, problem="has dropped a client"),
            Sample("b", "x", 1, {Figure.CPU: 9.0}),
        ]
    )
    assert results.median("a", "x", Figure.CPU) == 3.0
    assert results.median("a", "x", Figure.RATE) is None
    assert results.spread("c", "x", Figure.CPU) is None
    assert results.limited("a", "x", Limit.LOAD)
    assert not results.limited("a", "x", Limit.CONTENDER)
    assert not results.limited("b", "x", Limit.LOAD)
    assert results.problem("a", "y") == "has dropped a client"
    assert not results.problem("a", "x")
