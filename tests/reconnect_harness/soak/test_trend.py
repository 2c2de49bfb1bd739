"""Whether something grows."""

from __future__ import annotations

import random

import pytest

from reconnect_harness.soak.trend import slope, thinned, thirds


def test_the_slope_is_that_of_a_line() -> None:
    """Exactly, for any order of the points."""
    points = [(float(t), 5.0 + 2.0 * t) for t in range(50)]
    random.Random(1).shuffle(points)
    assert slope(points) == pytest.approx(2.0)


def test_outliers_do_not_move_it() -> None:
    """A quarter of them may be anything; a least squares fit would be a different line."""
    points = [(float(t), 1000.0 if t > 30 else 7.0) for t in range(40)]
    assert slope(points) == 0.0


def test_noise_is_no_trend_and_a_small_trend_is_one_in_noise() -> None:
    """A constant growth is found, though single points are far off."""
    draw = random.Random(6)
    noise = [(float(t), draw.gauss(100, 5)) for t in range(600)]
    flat, grown = slope(noise), slope([(t, value + 0.05 * t) for t, value in noise])
    assert flat == pytest.approx(0, abs=0.01)
    assert grown == pytest.approx(0.05, abs=0.01)


def test_there_is_none_of_a_single_moment() -> None:
    """Nor of no points."""
    assert slope([]) is None
    assert slope([(1.0, 2.0), (1.0, 3.0)]) is None


def test_many_points_are_thinned() -> None:
    """To the medians of runs of them, in order."""
    assert thinned([(3.0, 1.0), (1.0, 5.0), (2.0, 4.0), (4.0, 9.0), (5.0, 2.0)], 2) == [(2.0, 4.0), (4.5, 5.5)]
    assert len(thinned([(float(t), 0.0) for t in range(7200)], 200)) == 200


def test_thirds_are_those_of_the_time() -> None:
    """The medians of the first and the last."""
    assert thirds([(0.0, 1.0), (1.0, 3.0), (2.0, 2.0), (5.0, 100.0), (9.0, 4.0)]) == (2.0, 4.0)
    assert thirds([(0.0, 1.0), (9.0, 4.0)]) == (1.0, 4.0)
    assert thirds([(0.0, 1.0)]) is None
    assert thirds([]) is None
