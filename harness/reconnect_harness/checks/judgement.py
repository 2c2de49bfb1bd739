"""Verdicts: what a check has found, the bound that it was given, and the judgement on the run as a whole.

The verdict is `valid`, `invalid` or, as in Maelstrom, `unknown`: a run that proved nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction


class Verdict(StrEnum):
    """The verdict on a run, or on one of its checks."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class Violation(NamedTuple):
    """One thing that should not have happened: `t`, in seconds on the monotonic clock, and a sentence."""

    t: float
    what: str


class Finding(NamedTuple):
    """What a checker found: a count, seconds or bytes. `value` is None where there was nothing to measure."""

    value: float | None
    violations: Sequence[Violation] = ()

    @classmethod
    def counted(cls, violations: Iterable[Violation]) -> Finding:
        found = sorted(violations)
        return cls(len(found), found)


class Expectation(NamedTuple):
    """The highest value that a checker may find; where `bound` is None the value is only reported.

    `direction` is None for a checker of the run as a whole. `find` is the checker where it is made for this expectation
    alone (`checks.endings`), and `said` is then what the scenario says.
    """

    check: str
    direction: Direction | None
    bound: float | None
    find: Callable[[History], Finding] | None = None
    said: str = ""


class CheckResult(NamedTuple):
    """A finding, the bound that it was given, and the verdict on it."""

    check: str
    direction: Direction | None
    value: float | None
    bound: float | None
    verdict: Verdict
    violations: Sequence[Violation]

    @classmethod
    def of(cls, check: str, direction: Direction | None, finding: Finding, bound: float | None) -> CheckResult:
        """Compare a finding with its bound. Without a bound the verdict is `valid`."""
        verdict = Verdict.VALID
        if bound is not None:
            if finding.value is None:
                verdict = Verdict.UNKNOWN
            elif finding.value > bound:
                verdict = Verdict.INVALID
        return cls(check, direction, finding.value, bound, verdict, finding.violations)

    @property
    def label(self) -> str:
        """The check and, where it has one, its direction: `lost c2u`."""
        return f"{self.check} {self.direction}" if self.direction else self.check


class Judgement(NamedTuple):
    """The verdict on a run, the results that led to it, and the reasons to doubt that the run proves anything."""

    verdict: Verdict
    results: Sequence[CheckResult]
    doubts: Sequence[str]

    @classmethod
    def of(cls, results: Iterable[CheckResult], doubts: Iterable[str], *, failed: bool = False) -> Judgement:
        """Sum up: `invalid` if a result is, or the run has `failed` as a whole; else `unknown` if there is a doubt."""
        found, why = list(results), list(doubts)
        verdict = Verdict.VALID
        if failed or any(result.verdict is Verdict.INVALID for result in found):
            verdict = Verdict.INVALID
        elif why:
            verdict = Verdict.UNKNOWN
        return cls(verdict, found, why)

    def doubted(self, doubt: str) -> Judgement:
        """Return the judgement with one more doubt: a run that would be valid is unknown then."""
        verdict = Verdict.UNKNOWN if self.verdict is Verdict.VALID else self.verdict
        return Judgement(verdict, self.results, [*self.doubts, doubt])


def is_size(check: str) -> bool:
    """Return whether a checker's value is bytes."""
    return check == "memory"


def is_timed(check: str) -> bool:
    """Return whether a checker's value is seconds; else it is a count."""
    return check.startswith(("recovery", "latency", "repeat"))
