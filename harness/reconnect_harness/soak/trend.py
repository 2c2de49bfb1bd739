"""Whether something grows: the slope of a line through measurements, which single outliers do not move."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

Point = tuple[float, float]
"""A moment in seconds, and the value that was measured then."""

#: How many points a line is fitted to: every pair of them is considered.
POINTS = 200


def slope(points: Sequence[Point]) -> float | None:
    """Return how much is added each second: the median of the slopes between all pairs (Theil 1950, Sen 1968).

    Up to 29 % of the points may be outliers without moving it. None for fewer than two moments.
    """
    thin = thinned(points, POINTS)
    found = [(b - a) / (u - t) for (t, a), (u, b) in itertools.combinations(thin, 2) if u != t]
    return statistics.median(found) if found else None


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many points, in order: the medians of runs of equal length."""
    ordered = sorted(points)
    size = max(1, -(-len(ordered) // most))
    return [
        (statistics.median(t for t, _ in run), statistics.median(value for _, value in run))
        for run in (ordered[start : start + size] for start in range(0, len(ordered), size))
    ]


def thirds(points: Sequence[Point]) -> tuple[float, float] | None:
    """Return the medians of the values in the first and the last third of the time; None where one third is empty."""
    if not points:
        return None
    ordered = sorted(points)
    start, end = ordered[0][0], ordered[-1][0]
    third = (end - start) / 3
    first = [value for t, value in ordered if t <= start + third]
    last = [value for t, value in ordered if t >= end - third]
    if not third or not first or not last:
        return None
    return statistics.median(first), statistics.median(last)
