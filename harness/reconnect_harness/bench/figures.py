"""What is measured: figures, samples of them, and what several samples come to. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

#: Up to this share of the time of a core, something is not what holds the rest up.
BUSY = 0.9


class Figure(StrEnum):
    """A kind of number. Its unit is in its name."""

    #: CPU time, user and system, of all processes of the contender, for each round trip, message, or session opened.
    CPU = "cpu_us"
    #: Round trips, messages delivered, or sessions opened.
    RATE = "per_second"
    #: Latency: what half, 99 % and 99.9 % of the messages stay below.
    P50 = "p50_us"
    P99 = "p99_us"
    P999 = "p999_us"
    #: Proportional set size of all processes of the contender, for each session, above what it was without any.
    MEMORY = "bytes_per_session"
    #: How long one thing took.
    SECONDS = "seconds"


#: What latencies are reported, and the share of messages that they bound.
QUANTILES = {Figure.P50: 0.5, Figure.P99: 0.99, Figure.P999: 0.999}


class Limit(StrEnum):
    """What kept a case from going faster."""

    CONTENDER = "contender"
    LOAD = "generator"
    WAITING = "waiting"


class Spread(NamedTuple):
    """What the rounds came to."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of at least one value."""
        ordered = sorted(values)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return cls(ordered[0], median, ordered[-1])


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender in one case and one round: its figures, or the `problem` that kept it from having any."""

    case: str
    contender: str
    round: int
    figures: Mapping[Figure, float] = field(default_factory=dict)
    limit: Limit | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as `bench.json` has it."""
        found: dict[str, Any] = {"case": self.case, "contender": self.contender, "round": self.round}
        found |= {str(figure): value for figure, value in self.figures.items()}
        if self.limit is not None:
            found["limit"] = str(self.limit)
        if self.problem:
            found["problem"] = self.problem
        return found


class Results:
    """All samples of a run, in the order in which they were taken."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.samples = list(samples)

    def of(self, case: str, contender: str) -> list[Sample]:
        """Return the samples of one contender in one case."""
        return [sample for sample in self.samples if (sample.case, sample.contender) == (case, contender)]

    def spread(self, case: str, contender: str, figure: Figure) -> Spread | None:
        """Return what the rounds of one contender in one case came to, None where nothing was measured."""
        values = [sample.figures[figure] for sample in self.of(case, contender) if figure in sample.figures]
        return Spread.of(values) if values else None

    def median(self, case: str, contender: str, figure: Figure) -> float | None:
        """Return the middle of what the rounds of one contender in one case came to."""
        spread = self.spread(case, contender, figure)
        return None if spread is None else spread.median

    def limited(self, case: str, contender: str, limit: Limit) -> bool:
        """Return whether that was the limit in at least half of the rounds."""
        limits = [sample.limit for sample in self.of(case, contender) if sample.limit is not None]
        return bool(limits) and 2 * limits.count(limit) >= len(limits)

    def problem(self, case: str, contender: str) -> str:
        """Return why one contender has nothing to show in one case, or nothing."""
        found = self.of(case, contender)
        return found[-1].problem if found and not any(sample.figures for sample in found) else ""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0..1) of the values, which are in order, do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latencies(seconds: Iterable[float]) -> dict[Figure, float]:
    """Return the quantiles of latencies (in seconds), in microseconds; nothing if there are none."""
    ordered = sorted(seconds)
    return {figure: percentile(ordered, share) * 1e6 for figure, share in QUANTILES.items()} if ordered else {}


class Snapshot(NamedTuple):
    """A moment: seconds of a clock, things done so far, CPU seconds of the contender, and of the load's processes."""

    t: float
    done: int
    contender: float
    load: Sequence[float]


class Interval(NamedTuple):
    """What lies between two snapshots. `load_cores` is how many cores the generator and the server have together."""

    begin: Snapshot
    end: Snapshot
    load_cores: int

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end.t - self.begin.t

    @property
    def done(self) -> int:
        """How many things came about."""
        return self.end.done - self.begin.done

    @property
    def figures(self) -> dict[Figure, float]:
        """CPU time and rate; nothing if nothing came about."""
        if self.done <= 0:
            return {}
        cpu = self.end.contender - self.begin.contender
        return {Figure.CPU: cpu / self.done * 1e6, Figure.RATE: self.done / self.seconds}

    @property
    def limit(self) -> Limit:
        """What was busy all the time, if anything was. Each process of the three is one thread, or nearly so."""
        if self.end.contender - self.begin.contender > BUSY * self.seconds:
            return Limit.CONTENDER
        load = [after - before for before, after in zip(self.begin.load, self.end.load, strict=True)]
        if max(load) > BUSY * self.seconds or sum(load) > BUSY * self.seconds * self.load_cores:
            return Limit.LOAD
        return Limit.WAITING
