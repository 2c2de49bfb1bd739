"""The checks of a soak, and its verdict: `valid`, `invalid` or `unknown`, as for a scenario.

| check | what it counts | at most |
| --- | --- | --- |
| lost, reordered | messages, in each direction | 0 |
| duplicated | messages that arrived again at a peer that counts; at others they may | 0 |
| corrupted | messages, and pages of plain HTTP, that are not what was sent | 0 |
| misdelivered | messages that came in a session of another client, to it, or in the wrong direction | 0 |
| sessions_lost | sessions that ended and should not have; those of an upstream that forgot them do not count | 0 |
| leaks | descriptors, threads, processes, sessions: more after the last client than before the first one | 0 |
| memory_growth | bytes that were added from the warm-up to the end, by `soak.trend.slope` | 4 MiB + 5 % |
| latency_p50, _p99 | round trips in quiet periods: the last third of the time against the first | 2 x, 3 x |

A system that claims less than this project's proxy is judged by what it claims (`--profile`): if it is `reconnecting`,
lost and repeated messages are only reported, if it is `at-least-once` repeated ones; and a session that ended while a
fault was on, or soon after, is not lost.

`checks.stream_account` defines lost, duplicated, reordered and corrupted. Where round trips past the proxy have become
slower too, the cause is the machine, and those through the proxy may be slower by the same factor. A run without
messages, without faults, or with too little to measure is `unknown`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconnect_harness.checks.checkers import leaks_between
from reconnect_harness.checks.judgement import CheckResult, Finding, Judgement, Verdict, Violation
from reconnect_harness.history.message import Direction
from reconnect_harness.profile import Profile
from reconnect_harness.soak import samples
from reconnect_harness.soak.fault_phases import UPSTREAM
from reconnect_harness.soak.ledger import Counted, words
from reconnect_harness.soak.samples import ResourceSample
from reconnect_harness.soak.soak import SoakResult
from reconnect_harness.soak.testbed import CLIENTS_LEDGER, UPSTREAM_LEDGER
from reconnect_harness.soak.trend import Point, slope, thirds

#: From when on memory has to be flat: until then allocators learn how much is needed at a time. That takes about 90
#: seconds, of a short run the first part; of a long run a fifth is left out all the same.
WARM_UP_SECONDS = 90.0
WARM_UP_AT_MOST = 0.4
WARM_UP_AT_LEAST = 0.2

#: Bytes that may be added between the warm-up and the end, in addition to a share of the median.
MEMORY = 4 * 1024**2
MEMORY_SHARE = 0.05

#: With fewer samples after the warm-up there is no trend.
SAMPLES = 8

#: By what factor round trips may be slower in the last third than in the first one.
FACTORS = {"p50": 2.0, "p99": 3.0}

#: Faster round trips count as this, in seconds: so short a time shows the machine only. Past the proxy, where they are
#: shorter, half of this is used.
FLOOR = 0.0005

#: How much the harness itself may grow, in bytes. Its upstream starts anew whenever it is killed.
OWN_MEMORY = 64 * 1024**2

#: What is only reported of a system that claims less.
_REPORTED: Mapping[Profile, tuple[str, ...]] = {
    Profile.RECONNECTING: ("lost", "duplicated"),
    Profile.AT_LEAST_ONCE: ("duplicated",),
}

#: How long after the end of a fault a session may still end because of it, in seconds: pings find silent links.
_EFFECT_SECONDS = 10.0

#: The faults after which the upstream has forgotten its sessions.
_FORGETFUL = ("kill", "terminate")


@dataclass(frozen=True, slots=True)
class SoakEvidence:
    """What the files of a soak contain: see `soak.samples`."""

    samples: Sequence[ResourceSample]
    trips: Sequence[dict[str, Any]]
    faults: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> SoakEvidence:
        return cls(
            [ResourceSample(**fields) for fields in samples.lines(folder / samples.SAMPLES)],
            list(samples.lines(folder / samples.TRIPS)),
            list(samples.lines(folder / samples.FAULTS)),
        )

    def points(self, name: str) -> list[Point]:
        """Return one attribute of the samples over time; samples in which it is not known are left out."""
        found = ((sample.t, getattr(sample, name)) for sample in self.samples)
        return [(t, float(value)) for t, value in found if value is not None]


def judge(result: SoakResult, evidence: SoakEvidence) -> Judgement:
    results = [*_messages(result), _sessions(result, evidence), _leaks(result), _growth(result, evidence)]
    results += [_latency(evidence, name) for name in FACTORS]
    doubts = [*_doubts(result, evidence)]
    doubts += [f"{found.label} had too little to measure" for found in results if found.verdict is Verdict.UNKNOWN]
    return Judgement.of(results, doubts, failed=result.ended is not None)


def _messages(result: SoakResult) -> Iterator[CheckResult]:
    described = [
        (line.get("count"), Violation(line["t"], line["what"]))
        for name in (UPSTREAM_LEDGER, CLIENTS_LEDGER)
        for line in words(result.folder / name)
    ]

    def found(check: str, direction: Direction, count: Counted, total: int) -> CheckResult:
        """Return the result of a check, with what is described of it. A page of plain HTTP names no direction."""
        other = str(direction.opposite)
        violations = [each for counted, each in described if counted == count and other not in each.what.split()]
        violations = violations if total else []
        bound = None if check in _REPORTED.get(result.plan.judged_as, ()) else 0
        return CheckResult.of(check, direction, Finding(total, violations), bound)

    ends = ((Direction.C2U, result.upstream), (Direction.U2C, result.clients))
    for check, count in (
        ("lost", Counted.LOST),
        ("reordered", Counted.REORDERED),
        ("corrupted", Counted.CORRUPTED),
        ("misdelivered", Counted.MISDELIVERED),
    ):
        for direction, rows in ends:
            yield found(check, direction, count, sum(counts[count] for counts in rows.values()))
    for direction, rows in ends:
        # Both ledgers have a row of the peers that count.
        yield found("duplicated", direction, Counted.REPEATED, rows["aware"][Counted.REPEATED])


def _sessions(result: SoakResult, evidence: SoakEvidence) -> CheckResult:
    """Counted the sessions that ended, but for those that ended because the upstream had forgotten them."""
    forgotten = [
        (result.start + fault["t"], result.start + (fault["cleared"] or result.seconds))
        for fault in evidence.faults
        if fault["target"] == UPSTREAM and fault["name"] in _FORGETFUL and fault["took_hold"] is not None
    ]

    done = [fault for fault in evidence.faults if fault["took_hold"] is not None]

    def explained(t: float) -> bool:
        """Whether a fault was on, or had just ended."""
        return any(
            fault["t"] <= t - result.start <= (fault["cleared"] or result.seconds) + _EFFECT_SECONDS for fault in done
        )

    def excused(line: dict[str, Any]) -> bool:
        if result.plan.judged_as is not Profile.EXACTLY_ONCE and explained(line["t"]):
            return True
        return line["path"] == "aware" and any(
            line["since"] < cleared and line["t"] > asked for asked, cleared in forgotten
        )

    ended = (line for line in words(result.folder / CLIENTS_LEDGER) if line.get("count") == "ended")
    violations = [Violation(line["t"], line["what"]) for line in ended if not excused(line)]
    if result.stayed:
        violations.append(Violation(result.start + result.seconds, f"{result.stayed} clients have not left"))
    return CheckResult.of("sessions_lost", None, Finding.counted(violations), 0)


def _leaks(result: SoakResult) -> CheckResult:
    return CheckResult.of("leaks", None, leaks_between(result.footprints), 0)


def _growth(result: SoakResult, evidence: SoakEvidence) -> CheckResult:
    points = warm(evidence.points("memory"), result.seconds)
    if len(points) < SAMPLES:
        return CheckResult.of("memory_growth", None, Finding(None), MEMORY)
    grown = growth(points)
    assert grown is not None
    most = MEMORY + MEMORY_SHARE * statistics.median(value for _, value in points)
    return CheckResult.of("memory_growth", None, Finding(max(0.0, grown)), most)


def warm(points: Sequence[Point], seconds: float) -> list[Point]:
    """Return the points after the warm-up, and before the clients left; `seconds` is how long there were faults."""
    begin = max(WARM_UP_AT_LEAST * seconds, min(WARM_UP_SECONDS, WARM_UP_AT_MOST * seconds))
    return [(t, value) for t, value in points if begin <= t <= seconds]


def growth(points: Sequence[Point]) -> float | None:
    """Return what was added from the first to the last of the points, by the line through them, if there is one."""
    found = slope(points)
    return None if found is None else found * (max(t for t, _ in points) - min(t for t, _ in points))


def _latency(evidence: SoakEvidence, name: str) -> CheckResult:
    through, direct = _slower(evidence, name), _slower(evidence, f"direct_{name}")
    value = None if through is None or direct is None else through / max(1.0, direct)
    return CheckResult.of(f"latency_{name}", None, Finding(value), FACTORS[name])


def _slower(evidence: SoakEvidence, name: str) -> float | None:
    """Return how many times slower round trips were in the last third than in the first."""
    found = thirds([(trips["t"], trips[name]) for trips in evidence.trips])
    if found is None:
        return None
    floor = FLOOR / 2 if name.startswith("direct") else FLOOR
    first, last = (max(floor, value) for value in found)
    return last / first


def _doubts(result: SoakResult, evidence: SoakEvidence) -> Iterator[str]:
    """Yield the reasons why the run proves nothing."""
    if result.ended is not None:
        yield result.ended
    for direction, rows in ((Direction.C2U, result.upstream), (Direction.U2C, result.clients)):
        if not any(counts[Counted.ARRIVED] for name, counts in rows.items() if name != "page"):
            yield f"no message arrived {direction}"
    if not result.faults:
        yield "no fault took hold"
    for fault in evidence.faults:
        if fault["problem"] is not None:
            yield f"the fault {fault['name']} {fault['target']} at {fault['t']:.1f} s: {fault['problem']}"
    own = growth(warm(evidence.points("harness"), result.seconds))
    if own is not None and own > OWN_MEMORY:
        yield f"the harness itself has grown by {own / 1e6:.0f} MB"
