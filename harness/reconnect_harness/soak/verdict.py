"""What a soak comes to: the same words as for a scenario, `valid`, `invalid` or `unknown`.

| check | what it counts | at most |
| --- | --- | --- |
| lost, reordered | messages, each way | 0 |
| duplicated | messages that came again to a peer that counts; to others they may | 0 |
| corrupted | messages, and pages of plain HTTP, that are not what was sent | 0 |
| sessions_lost | sessions that ended and should not have: not those of an upstream that forgot them | 0 |
| leaks | descriptors, threads, processes, sessions that the proxy had not before the first guest, and in the end | 0 |
| memory_growth | bytes that were added from the warm-up to the end, by `soak.trend.slope` | 4 MiB + 5 % |
| latency_p50, _p99 | round trips in calms: the last third of the time against the first | 2 x, 3 x |

Where the way beside the proxy has become slower too, that was the machine, and round trips may be as much slower again.
A run that had no message, or no fault, or too little to measure, is `unknown`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconnect_harness.checks.checkers import Judgement, Result, Verdict, Violation
from reconnect_harness.history.message import Direction
from reconnect_harness.soak import samples
from reconnect_harness.soak.fault_phases import UPSTREAM
from reconnect_harness.soak.ledger import Count, words
from reconnect_harness.soak.samples import Sample
from reconnect_harness.soak.soak import Soaked
from reconnect_harness.soak.trend import Point, slope, thirds

#: When memory has to be flat: until then allocators learn how much is needed at a time. That takes a minute or so, of a
#: short run the first part; of a long one a part is left out all the same.
WARM_UP_SECONDS = 90.0
WARM_UP_AT_MOST = 0.4
WARM_UP_AT_LEAST = 0.2

#: Bytes that may be added between the warm-up and the end, beside a share of what there is.
MEMORY = 4 * 1024**2
MEMORY_SHARE = 0.05

#: Samples behind the warm-up without which there is no trend.
SAMPLES = 8

#: By how much round trips may be slower in the last third than in the first one.
FACTORS = {"p50": 2.0, "p99": 3.0}

#: Faster round trips count as this, in seconds: so short ones are all the machine. For the way beside the proxy, which
#: is shorter, it is half of this.
FLOOR = 0.0005

#: How much the harness may grow by itself, in bytes. Its upstream begins anew whenever it is killed.
OWN_MEMORY = 64 * 1024**2

#: Faults that make the upstream forget its sessions.
_FORGETFUL = ("kill", "terminate")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the files of a soak hold: see `soak.samples`."""

    samples: Sequence[Sample]
    trips: Sequence[dict[str, Any]]
    faults: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, folder: Path) -> Evidence:
        """Read it."""
        return cls(
            [Sample(**fields) for fields in samples.lines(folder / "samples.jsonl")],
            list(samples.lines(folder / "trips.jsonl")),
            list(samples.lines(folder / "faults.jsonl")),
        )

    def points(self, name: str) -> list[Point]:
        """Return what was measured of the system under test, or of the harness, without what nobody knows."""
        found = ((sample.t, getattr(sample, name)) for sample in self.samples)
        return [(t, float(value)) for t, value in found if value is not None]


def judge(done: Soaked, evidence: Evidence) -> Judgement:
    """Give the verdict."""
    results = [*_messages(done), _sessions(done, evidence), _leaks(done), _growth(done, evidence)]
    results += [_latency(evidence, name) for name in FACTORS]
    doubts = [*_doubts(done, evidence)]
    doubts += [f"{result.label} had too little to measure" for result in results if result.verdict is Verdict.UNKNOWN]
    verdict = Verdict.VALID
    if done.ended is not None or any(result.verdict is Verdict.INVALID for result in results):
        verdict = Verdict.INVALID
    elif doubts:
        verdict = Verdict.UNKNOWN
    return Judgement(verdict, results, doubts)


def _messages(done: Soaked) -> Iterator[Result]:
    told = [
        Violation(line["t"], line["what"])
        for name in ("upstream", "guests")
        for line in words(done.folder / f"{name}.ledger")
        if line.get("count") != "ended"
    ]
    for check, count in (("lost", Count.LOST), ("reordered", Count.REORDERED), ("corrupted", Count.CORRUPTED)):
        for direction, rows in ((Direction.C2U, done.upstream), (Direction.U2C, done.guests)):
            total = sum(counts[count] for counts in rows.values())
            yield _result(check, direction, total, 0, [one for one in told if str(direction) in one.what])
    for direction, rows in ((Direction.C2U, done.upstream), (Direction.U2C, done.guests)):
        # Both ledgers have a row of those that count.
        again = rows["aware"][Count.REPEATED]
        yield _result("duplicated", direction, again, 0, [one for one in told if str(direction) in one.what])


def _sessions(done: Soaked, evidence: Evidence) -> Result:
    """Count the sessions that ended, but for those that ended with what the upstream had forgotten."""
    forgotten = [
        (done.start + fault["t"], done.start + (fault["cleared"] or done.seconds))
        for fault in evidence.faults
        if fault["target"] == UPSTREAM and fault["name"] in _FORGETFUL and fault["took_hold"] is not None
    ]

    def excused(line: dict[str, Any]) -> bool:
        return line["path"] == "aware" and any(
            line["since"] < cleared and line["t"] > asked for asked, cleared in forgotten
        )

    ended = (line for line in words(done.folder / "guests.ledger") if line.get("count") == "ended")
    violations = [Violation(line["t"], line["what"]) for line in ended if not excused(line)]
    if done.stayed:
        violations.append(Violation(done.start + done.seconds, f"{done.stayed} guests have not come to their end"))
    return _result("sessions_lost", None, len(violations), 0, violations)


def _leaks(done: Soaked) -> Result:
    found = {footprint.when: footprint for footprint in done.footprints}
    if not found.keys() >= {"before", "after"}:
        return _result("leaks", None, None, 0)
    after = found["after"]
    more = list(after.leaks(found["before"]))
    return _result(
        "leaks", None, sum(number for number, _ in more), 0, [Violation(after.t, words) for _, words in more]
    )


def _growth(done: Soaked, evidence: Evidence) -> Result:
    points = warm(evidence.points("memory"), done.seconds)
    if len(points) < SAMPLES:
        return _result("memory_growth", None, None, MEMORY)
    grown = growth(points)
    assert grown is not None
    most = MEMORY + MEMORY_SHARE * statistics.median(value for _, value in points)
    return _result("memory_growth", None, max(0.0, grown), most)


def warm(points: Sequence[Point], seconds: float) -> list[Point]:
    """Return what was measured behind the warm-up, and before the guests left."""
    begin = max(WARM_UP_AT_LEAST * seconds, min(WARM_UP_SECONDS, WARM_UP_AT_MOST * seconds))
    return [(t, value) for t, value in points if begin <= t <= seconds]


def growth(points: Sequence[Point]) -> float | None:
    """Return what was added from the first to the last of the points, by the line through them, if there is one."""
    found = slope(points)
    return None if found is None else found * (max(t for t, _ in points) - min(t for t, _ in points))


def _latency(evidence: Evidence, name: str) -> Result:
    found, beside = _slower(evidence, name), _slower(evidence, f"beside_{name}")
    value = None if found is None or beside is None else found / max(1.0, beside)
    return _result(f"latency_{name}", None, value, FACTORS[name])


def _slower(evidence: Evidence, name: str) -> float | None:
    """Return how many times slower round trips were in the last third than in the first."""
    found = thirds([(trips["t"], trips[name]) for trips in evidence.trips])
    if found is None:
        return None
    floor = FLOOR / 2 if name.startswith("beside") else FLOOR
    first, last = (max(floor, value) for value in found)
    return last / first


def _doubts(done: Soaked, evidence: Evidence) -> Iterator[str]:
    """Say why it proves nothing, if so."""
    if done.ended is not None:
        yield done.ended
    for direction, rows in ((Direction.C2U, done.upstream), (Direction.U2C, done.guests)):
        if not any(counts[Count.ARRIVED] for name, counts in rows.items() if name != "page"):
            yield f"no message arrived {direction}"
    if not done.faults:
        yield "no fault took hold"
    for fault in evidence.faults:
        if fault["problem"] is not None:
            yield f"the fault {fault['name']} {fault['target']} at {fault['t']:.1f} s: {fault['problem']}"
    own = growth(warm(evidence.points("harness"), done.seconds))
    if own is not None and own > OWN_MEMORY:
        yield f"the harness itself has grown by {own / 1e6:.0f} MB"


def _result(
    check: str, direction: Direction | None, value: float | None, bound: float, violations: Sequence[Violation] = ()
) -> Result:
    verdict = Verdict.UNKNOWN if value is None else Verdict.INVALID if value > bound else Verdict.VALID
    return Result(check, direction, value, bound, verdict, violations if verdict is Verdict.INVALID else ())
