"""What is measured: figures, samples of them, and the spread of several samples. Arithmetic only."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

from reconnect_harness.checks.percentile import percentile

#: A process that uses more than this share of a core is the bottleneck.
BUSY = 0.9


class Figure(StrEnum):
    """A kind of number. Its unit is in its value."""

    #: CPU time, user and system, of all processes of the contender, for each round trip, message, or session opened.
    CPU = "cpu_us"
    #: Round trips, messages delivered, or sessions opened.
    RATE = "per_second"
    #: Latencies: percentiles.
    P50 = "p50_us"
    P99 = "p99_us"
    P999 = "p999_us"
    #: Proportional set size of all processes of the contender, for each session, above that without sessions.
    MEMORY = "bytes_per_session"
    #: How long one thing took.
    SECONDS = "seconds"


#: The latencies that are reported, and the share of messages that are at most so slow.
QUANTILES = {Figure.P50: 0.5, Figure.P99: 0.99, Figure.P999: 0.999}


class Bottleneck(StrEnum):
    """What kept a case from going faster."""

    CONTENDER = "contender"
    LOAD = "generator"
    WAITING = "waiting"


class ContenderFailed(Exception):
    """A contender has not done what is measured. The message is the second half of a sentence about it."""


class Spread(NamedTuple):
    """Minimum, median and maximum over the rounds."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))


@dataclass(frozen=True, slots=True)
class TrialSample:
    """One contender in one case and one round: its figures, or the `problem` that prevented them."""

    case: str
    contender: str
    round: int
    figures: Mapping[Figure, float] = field(default_factory=dict)
    bottleneck: Bottleneck | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `bench.json`."""
        found: dict[str, Any] = {"case": self.case, "contender": self.contender, "round": self.round}
        found |= {str(figure): value for figure, value in self.figures.items()}
        if self.bottleneck is not None:
            found["limit"] = str(self.bottleneck)
        if self.problem:
            found["problem"] = self.problem
        return found


class BenchResults:
    """All samples of a run, in the order in which they were taken."""

    def __init__(self, samples: Iterable[TrialSample] = ()) -> None:
        self.samples = list(samples)

    def of(self, case: str, contender: str) -> list[TrialSample]:
        """Return the samples of one contender in one case."""
        return [sample for sample in self.samples if (sample.case, sample.contender) == (case, contender)]

    def spread(self, case: str, contender: str, figure: Figure) -> Spread | None:
        """Return the spread over the rounds of one contender in one case, None where nothing was measured."""
        values = [sample.figures[figure] for sample in self.of(case, contender) if figure in sample.figures]
        return Spread.of(values) if values else None

    def median(self, case: str, contender: str, figure: Figure) -> float | None:
        """Return the median over the rounds of one contender in one case, None where nothing was measured."""
        spread = self.spread(case, contender, figure)
        return None if spread is None else spread.median

    def limited_by(self, bottleneck: Bottleneck, case: str, contender: str) -> bool:
        """Return whether that was the bottleneck in at least half of the rounds."""
        found = [sample.bottleneck for sample in self.of(case, contender) if sample.bottleneck is not None]
        return bool(found) and 2 * found.count(bottleneck) >= len(found)

    def problem(self, case: str, contender: str) -> str:
        """Return why one contender has no figures in one case; "" if it has some."""
        found = self.of(case, contender)
        return found[-1].problem if found and not any(sample.figures for sample in found) else ""


def latencies(seconds: Iterable[float]) -> dict[Figure, float]:
    """Return the percentiles of latencies (in seconds), in microseconds; nothing if there are none."""
    ordered = sorted(seconds)
    found = {figure: percentile(ordered, share) for figure, share in QUANTILES.items()}
    return {figure: value * 1e6 for figure, value in found.items() if value is not None}


class UsageAt(NamedTuple):
    """A moment in seconds: what was done so far, and the CPU seconds of the contender and of each load process."""

    t: float
    done: int
    contender: float
    load: Sequence[float]


class Interval(NamedTuple):
    """The time between two moments. `load_cores` is how many cores the generator and the server have together."""

    begin: UsageAt
    end: UsageAt
    load_cores: int

    @property
    def seconds(self) -> float:
        return self.end.t - self.begin.t

    @property
    def done(self) -> int:
        """How many round trips, messages or sessions there were in it."""
        return self.end.done - self.begin.done

    @property
    def figures(self) -> dict[Figure, float]:
        """CPU time and rate; nothing if nothing was done."""
        if self.done <= 0:
            return {}
        cpu = self.end.contender - self.begin.contender
        return {Figure.CPU: cpu / self.done * 1e6, Figure.RATE: self.done / self.seconds}

    @property
    def bottleneck(self) -> Bottleneck:
        """What was busy all the time, if anything was. Each of the three processes is one thread, or nearly so."""
        if self.end.contender - self.begin.contender > BUSY * self.seconds:
            return Bottleneck.CONTENDER
        load = [after - before for before, after in zip(self.begin.load, self.end.load, strict=True)]
        if max(load) > BUSY * self.seconds or sum(load) > BUSY * self.seconds * self.load_cores:
            return Bottleneck.LOAD
        return Bottleneck.WAITING
