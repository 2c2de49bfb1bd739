"""Series over time for the charts of the report: the queue between the ends, latency, throughput.

All times are seconds from the start of the run's traffic. A `Grid` divides them into steps of equal length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reconnect_harness.checks.percentile import percentile
from reconnect_harness.checks.traces import Trace


class Grid(NamedTuple):
    """`steps` steps of `step` seconds each, from `start`."""

    start: float
    step: float
    steps: int

    def step_of(self, t: float) -> int:
        """Return the step of a moment; the first or the last one for a moment outside."""
        return min(self.steps - 1, max(0, math.floor((t - self.start) / self.step)))


class Latency(NamedTuple):
    """How long messages took, in seconds: median, 99th percentile, maximum."""

    p50: float
    p99: float
    most: float


def grid(start: float, end: float, most: int) -> Grid:
    """Divide a span of time into at most `most` steps of a round length: 1, 2 or 5 times a power of ten.

    No step is shorter than a millisecond.
    """
    least = max((end - start) / most, 0.001)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    return Grid(start, step, max(1, math.ceil((end - start) / step)))


def depth(traces: Iterable[Trace], over: Grid) -> list[int]:
    """Return, for each step, the most messages that had been sent by then and had not arrived.

    This is the queue between the two ends. Lost messages stay in it to the end.
    """
    changes: list[tuple[float, int]] = []
    for trace in traces:
        if trace.first and trace.sent is not None:
            changes.append((trace.sent, 1))
            if trace.arrived is not None:
                changes.append((max(trace.sent, trace.arrived), -1))
    # Arrivals before departures of the same moment, so that the queue does not look deeper than it was.
    changes.sort()
    deepest = [0] * over.steps
    waiting = reached = 0
    for t, change in changes:
        index = over.step_of(t)
        while reached < index:
            reached += 1
            deepest[reached] = waiting
        waiting += change
        deepest[index] = max(deepest[index], waiting)
    for later in range(reached + 1, over.steps):
        deepest[later] = waiting
    return deepest


def rate(moments: Iterable[float], over: Grid) -> list[float]:
    """Return, for each step, how many moments are in it, per second."""
    counts = [0] * over.steps
    for t in moments:
        counts[over.step_of(t)] += 1
    return [count / over.step for count in counts]


def latency(traces: Iterable[Trace], over: Grid) -> list[Latency | None]:
    """Return, for each step, how long the messages took that were sent in it; None if none of them arrived."""
    taken: list[list[float]] = [[] for _ in range(over.steps)]
    for trace in traces:
        if trace.travel is not None and trace.sent is not None:
            taken[over.step_of(trace.sent)].append(trace.travel)
    return [summary(times) for times in taken]


def summary(times: Sequence[float]) -> Latency | None:
    """Return the percentiles of how long messages took; None for no messages."""
    ordered = sorted(times)
    p50, p99 = percentile(ordered, 0.5), percentile(ordered, 0.99)
    return None if p50 is None or p99 is None else Latency(p50, p99, ordered[-1])
