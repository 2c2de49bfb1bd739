"""Series over time."""

from __future__ import annotations

import pytest

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.checks.traces import Trace
from reconnect_harness.history.message import Direction
from reconnect_harness.report import series
from reconnect_harness.report.series import Grid, Latency

SECONDS = Grid(0.0, 1.0, 5)


def _trace(sent: float | None, arrived: float | None, *flaws: Flaw) -> Trace:
    return Trace("c01", Direction.C2U, 1, 100, sent, arrived, flaws)


@pytest.mark.parametrize(
    ("start", "end", "most", "step", "steps"),
    [(0.0, 8.0, 100, 0.1, 80), (0.0, 8.1, 1000, 0.01, 810), (0.0, 10.0, 4, 5.0, 2), (1.0, 1.02, 1000, 0.001, 20)],
)
def test_a_grid_has_steps_of_a_round_length(start: float, end: float, most: int, step: float, steps: int) -> None:
    """Not more of them than is asked for, and none shorter than a millisecond."""
    found = series.grid(start, end, most)
    assert found.step == pytest.approx(step)
    assert abs(found.steps - steps) <= 1
    assert found.start + found.steps * found.step >= end - 1e-9


@pytest.mark.parametrize(("t", "step"), [(-3.0, 0), (0.0, 0), (0.99, 0), (1.0, 1), (4.2, 4), (99.0, 4)])
def test_a_moment_outside_of_a_grid_lies_at_its_edge(t: float, step: int) -> None:
    """So that nothing is left out."""
    assert SECONDS.step_of(t) == step


def test_the_depth_of_a_step_is_the_deepest_in_it() -> None:
    """A queue that fills and drains within one step shows; so does one that does not change."""
    waiting = [_trace(0.5, 3.5), _trace(0.6, 0.7), _trace(0.6, 3.5)]
    assert series.depth(waiting, SECONDS) == [3, 2, 2, 2, 0]


def test_what_is_lost_stays_in_the_queue() -> None:
    """Until the end, and beyond the last thing that happened."""
    assert series.depth([_trace(1.5, None, Flaw.LOST)], SECONDS) == [0, 1, 1, 1, 1]


def test_what_arrives_again_or_was_never_sent_is_not_in_the_queue() -> None:
    """Otherwise the queue would never be empty, or negative."""
    strays = [_trace(0.5, 3.5, Flaw.DUPLICATED), _trace(None, 2.5, Flaw.CORRUPTED)]
    assert series.depth(strays, SECONDS) == [0, 0, 0, 0, 0]


def test_an_arrival_makes_room_for_what_is_sent_at_the_same_moment() -> None:
    """One at a time is one at a time."""
    assert max(series.depth([_trace(0.0, 1.0), _trace(1.0, 2.0)], SECONDS)) == 1


def test_a_rate_is_per_second() -> None:
    """For steps of any length."""
    assert series.rate([0.1, 0.2, 0.6], Grid(0.0, 0.5, 3)) == [4.0, 2.0, 0.0]


def test_latency_is_that_of_what_was_sent_in_a_step() -> None:
    """None where nothing was sent that arrived."""
    sent = [_trace(0.0, 3.0), _trace(0.5, 1.0), _trace(2.0, 2.25), _trace(3.0, None, Flaw.LOST)]
    assert series.latency(sent, SECONDS) == [Latency(0.5, 3.0, 3.0), None, Latency(0.25, 0.25, 0.25), None, None]


def test_nothing_has_no_latency() -> None:
    """Not one of 0."""
    assert series.summary([]) is None
