"""Verdicts over a history. A checker is a function from a history to a finding; a scenario's `expect` bounds findings.

| checker | what it counts |
| --- | --- |
| lost | messages that were sent and never arrived |
| duplicated | arrivals of a message that had arrived before |
| reordered | messages that arrived after a later one of their stream, duplicates removed first |
| corrupted | messages that arrived other than sent (size, type, checksum), or that nobody sent |
| upstream_connections | connections that upstreams have accepted |
| client_disconnects | links of clients that ended, or handshakes that failed, without the client wanting it |
| breaches | what an end saw that the protocol forbids; none is allowed if `expect` does not say otherwise |
| leaks | what the system under test held more of when all clients had left than before they came |
| memory | bytes of memory that the system under test held more of, at the most, than before the clients came |
| recovery_p50, _p99, _max | seconds from a fault's end to the first message through, over all faults and streams |
| latency_p50, _p90, _p99, _max | seconds from a message's sending to its arrival, over all messages that arrived |

What an expectation says of how links end (close codes, refusals) is checked by `checks.endings`.

The verdict is `valid`, `invalid` or, as in Maelstrom, `unknown`: a run that proved nothing.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from reconnect_harness.checks.shared_session import owed_to_all
from reconnect_harness.history.history import History, MessageStream
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, MessageEvent

#: How many of the slowest messages are named.
_SLOWEST = 10

#: How long before a fault the last message may have been sent, in seconds: some faults end the conversation.
_IDLE_SECONDS = 0.5


class Verdict(StrEnum):
    """What a run or one of its checks came to."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class Violation(NamedTuple):
    """One thing that a checker holds against a run: `t` seconds on the monotonic clock, and a sentence."""

    t: float
    what: str


class Finding(NamedTuple):
    """What a checker found: a count, or seconds. `value` is None where there was nothing to measure."""

    value: float | None
    violations: Sequence[Violation] = ()


class Expectation(NamedTuple):
    """A bound on one checker's value, which may not be above it; with None it is only reported.

    `direction` is None for checkers that know none. `find` is the checker where it is made for this expectation alone
    (`checks.endings`), and `said` is then what the scenario says.
    """

    check: str
    direction: Direction | None
    bound: float | None
    find: Callable[[History], Finding] | None = None
    said: str = ""


class Result(NamedTuple):
    """A finding beside what was expected of it."""

    check: str
    direction: Direction | None
    value: float | None
    bound: float | None
    verdict: Verdict
    violations: Sequence[Violation]

    @property
    def label(self) -> str:
        """The check and, where it has one, its direction: `lost c2u`."""
        return f"{self.check} {self.direction}" if self.direction else self.check


class Judgement(NamedTuple):
    """The verdict on a run, the results behind it, and why it is unknown where it is."""

    verdict: Verdict
    results: Sequence[Result]
    doubts: Sequence[str]

    def doubted(self, doubt: str) -> Judgement:
        """Return it with one more doubt: what would be valid is unknown then."""
        verdict = Verdict.UNKNOWN if self.verdict is Verdict.VALID else self.verdict
        return Judgement(verdict, self.results, [*self.doubts, doubt])


def lost(history: History, direction: Direction) -> Finding:
    """Find the messages that some receiver of their stream never got."""
    violations = []
    for stream in history.streams[direction]:
        if history.shared and direction is Direction.U2C:
            owed = owed_to_all(history, stream)
        else:
            # A stream that reached nobody is lost once, not once for each client there is.
            owed = ((receiver, list(stream.owed)) for receiver in stream.received or [""])
        for receiver, events in owed:
            arrived = stream.numbers(receiver)
            by = f" at {receiver}" if direction is Direction.U2C and receiver else ""
            violations += [
                Violation(event.t, f"{_named(event)} was sent and never arrived{by}")
                for event in events
                if event.number not in arrived
            ]
    return count(violations)


def duplicated(history: History, direction: Direction) -> Finding:
    """Find the messages that arrived again."""
    violations = []
    for _, events in _sequences(history, direction):
        seen: set[int] = set()
        for event in events:
            if event.number in seen:
                violations.append(Violation(event.t, f"{_named(event)} arrived again at {event.name}"))
            seen.add(event.number)
    return count(violations)


def reordered(history: History, direction: Direction) -> Finding:
    """Find the messages whose first arrival came after that of a later one."""
    violations = []
    for _, events in _sequences(history, direction):
        seen: set[int] = set()
        latest = 0
        for event in events:
            if event.number in seen:
                continue
            seen.add(event.number)
            if event.number < latest:
                violations.append(Violation(event.t, f"{_named(event)} arrived at {event.name} after number {latest}"))
            latest = max(latest, event.number)
    return count(violations)


def corrupted(history: History, direction: Direction) -> Finding:
    """Find the messages that are not what was sent, and those that nobody sent."""
    violations = []
    for stream in history.streams[direction]:
        for event in _received(stream):
            if event.wrong:
                violations.append(Violation(event.t, f"{_named(event)} arrived at {event.name} wrong: {event.wrong}"))
            elif event.number not in stream.sent:
                violations.append(Violation(event.t, f"{_named(event)} arrived at {event.name}, but nobody sent it"))
    return count(violations)


def client_disconnects(history: History, direction: None = None) -> Finding:
    """Find the links of clients that ended, or never came about, without the client wanting it."""
    violations = [
        Violation(event.t, f"client {event.name} {event.event}: {event.code or ''} {event.reason}".rstrip(" :"))
        for event in history.links
        if event.end is End.CLIENT and event.event in ("disconnected", "unreachable") and not event.asked
    ]
    return count(violations)


def upstream_connections(history: History, direction: None = None) -> Finding:
    """Find the connections that upstreams have accepted."""
    return count(
        [
            Violation(event.t, f"upstream connection {event.name} was made")
            for event in history.links
            if event.end is End.UPSTREAM and event.event == "connected"
        ]
    )


def breaches(history: History, direction: None = None) -> Finding:
    """Find what an end saw that the protocol forbids."""
    return count(
        [Violation(event.t, f"{event.name}: {event.reason}") for event in history.links if event.event == "breach"]
    )


def leaks(history: History, direction: None = None) -> Finding:
    """Find what the system under test still held when all clients had left, and had not held before they came."""
    found = {footprint.when: footprint for footprint in history.footprints}
    if not found.keys() >= {"before", "after"}:
        return Finding(None)
    after = found["after"]
    more = list(after.leaks(found["before"]))
    return Finding(sum(number for number, _ in more), [Violation(after.t, words) for _, words in more])


def memory(history: History, direction: None = None) -> Finding:
    """Find how many bytes of memory the system under test held more of, at the most, than before the clients came."""
    before = next((found for found in history.footprints if found.when == "before"), None)
    then = [found for found in history.footprints if found.when != "before"]
    if before is None or not then:
        return Finding(None)
    most = max(then, key=lambda found: found.memory)
    words = f"{most.memory / 1e6:,.0f} MB of memory, and {before.memory / 1e6:,.0f} MB before they came"
    return Finding(max(0, most.memory - before.memory), [Violation(most.t, words)])


def recovery_times(history: History) -> list[tuple[float, Violation]]:
    """Measure each fault and flow: seconds from the fault's end to the first arrival behind it.

    A flow is a stream c2u, or all that is sent to one client: an ordinary server begins another stream when it is
    dialled again. The time is endless where a message that was sent after the fault never came. A flow that had nothing
    to carry any more is left out.
    """
    measured = []
    flows = list(_flows(history))
    for fault in history.faults:
        if fault.took_hold is None or fault.cleared is None:
            continue
        for name, (arrivals, last_owed) in flows:
            index = bisect.bisect_right(arrivals, fault.cleared)
            where = f"{name} after {fault.name} {fault.target}"
            if index < len(arrivals):
                seconds = arrivals[index] - fault.cleared
                measured.append((seconds, Violation(fault.cleared, f"{where}: {seconds:.3f} s")))
            elif last_owed > fault.cleared:
                measured.append((math.inf, Violation(fault.cleared, f"{where}: nothing ever came through")))
    return sorted(measured)


def _flows(history: History) -> Iterator[tuple[str, tuple[list[float], float]]]:
    """Yield each flow of `recovery_times`: its name, when messages arrived, and when the last one was sent."""
    flows: dict[str, tuple[list[float], float]] = {}
    for direction in Direction:
        for stream in history.streams[direction]:
            last_owed = max((event.t for event in stream.owed), default=-math.inf)
            for receiver, events in (stream.received or {"": []}).items():
                to_client = direction is Direction.U2C and receiver
                name = f"{direction} to {receiver}" if to_client else f"{direction} stream {stream.name}"
                arrivals, latest = flows.get(name, ([], -math.inf))
                flows[name] = sorted([*arrivals, *(event.t for event in events)]), max(latest, last_owed)
    yield from flows.items()


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that `share` (0..1) of the sorted `values` do not exceed, by nearest rank; None of none."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None


def is_size(check: str) -> bool:
    """Return whether a checker's value is bytes."""
    return check == "memory"


def is_timed(check: str) -> bool:
    """Return whether a checker's value is seconds; else it is a count."""
    return check.startswith(("recovery", "latency"))


def _latency(share: float) -> Callable[[History, None], Finding]:
    def check(history: History, direction: None = None) -> Finding:
        slowest = [
            Violation(event.t, f"{_named(event)} took {seconds:.3f} s")
            for seconds, event in reversed(history.latencies[-_SLOWEST:])
        ]
        return Finding(percentile([seconds for seconds, _ in history.latencies], share), slowest)

    return check


def _recovery(share: float) -> Callable[[History, None], Finding]:
    def check(history: History, direction: None = None) -> Finding:
        measured = recovery_times(history)
        slowest = [violation for _, violation in reversed(measured)]
        return Finding(percentile([seconds for seconds, _ in measured], share), slowest)

    return check


#: Checkers of one direction of the traffic, by the name that `expect` calls them.
STREAM_CHECKERS: dict[str, Callable[[History, Direction], Finding]] = {
    "lost": lost,
    "reordered": reordered,
    "duplicated": duplicated,
    "corrupted": corrupted,
}

#: Checkers of the run as a whole.
RUN_CHECKERS: dict[str, Callable[[History, None], Finding]] = {
    "client_disconnects": client_disconnects,
    "upstream_connections": upstream_connections,
    "breaches": breaches,
    "leaks": leaks,
    "memory": memory,
    "recovery_p50": _recovery(0.5),
    "recovery_p99": _recovery(0.99),
    "recovery_max": _recovery(1.0),
    "latency_p50": _latency(0.5),
    "latency_p90": _latency(0.9),
    "latency_p99": _latency(0.99),
    "latency_max": _latency(1.0),
}


def judge(history: History, expectations: Iterable[Expectation], directions: Iterable[Direction]) -> Judgement:
    """Run every checker and give the verdict.

    Args:
        history: what was recorded.
        expectations: the bounds; a checker without one is reported only.
        directions: those in which messages have to flow for the run to prove anything.

    """
    expectations = list(expectations)
    bounds = {(expected.check, expected.direction): expected.bound for expected in expectations}
    results = []
    for check, find in STREAM_CHECKERS.items():
        for direction in Direction:
            if history.streams[direction]:
                results.append(_weigh(check, direction, find(history, direction), bounds.get((check, direction))))
    for check, find_in_run in RUN_CHECKERS.items():
        results.append(_weigh(check, None, find_in_run(history, None), bounds.get((check, None))))
    for expected in expectations:
        if expected.find is not None:
            results.append(_weigh(expected.check, None, expected.find(history), expected.bound))
    doubts = list(_doubts(history, directions))
    doubts += [f"{result.label} had nothing to measure" for result in results if result.verdict is Verdict.UNKNOWN]
    verdict = Verdict.VALID
    if any(result.verdict is Verdict.INVALID for result in results):
        verdict = Verdict.INVALID
    elif doubts:
        verdict = Verdict.UNKNOWN
    return Judgement(verdict, results, doubts)


def _weigh(check: str, direction: Direction | None, finding: Finding, bound: float | None) -> Result:
    verdict = Verdict.VALID
    if bound is not None:
        if finding.value is None:
            verdict = Verdict.UNKNOWN
        elif finding.value > bound:
            verdict = Verdict.INVALID
    return Result(check, direction, finding.value, bound, verdict, finding.violations)


def _doubts(history: History, directions: Iterable[Direction]) -> Iterator[str]:
    """Say why a run proves nothing, if so."""
    for direction in directions:
        streams = history.streams[direction]
        if not any(stream.sent for stream in streams):
            yield f"no message was sent {direction}"
        elif not any(stream.received for stream in streams):
            yield f"no message arrived {direction}"
    sent = [event.t for event in history.messages if event.event == "sent"]
    for fault in history.faults:
        when = f"asked for at {fault.asked - history.start:.2f} s"
        if fault.took_hold is None:
            why = f": {fault.problem}" if fault.problem else ""
            yield f"the fault {fault.name} {fault.target} ({when}) never took hold{why}"
        elif fault.problem:
            yield f"the fault {fault.name} {fault.target} ({when}) could not be ended: {fault.problem}"
        elif sent and (fault.asked > sent[-1] + _IDLE_SECONDS or (fault.cleared or math.inf) < sent[0]):
            yield f"the fault {fault.name} {fault.target} ({when}) was on while nobody was sending"


def _sequences(history: History, direction: Direction) -> Iterator[tuple[MessageStream, list[MessageEvent]]]:
    for stream in history.streams[direction]:
        for events in stream.received.values():
            yield stream, [event for event in events if event.number]


def _received(stream: MessageStream) -> Iterator[MessageEvent]:
    for events in stream.received.values():
        yield from events


def _named(event: MessageEvent) -> str:
    return f"{event.direction} {event.stream} number {event.number} ({event.kind}, {event.size} bytes)"


def count(violations: list[Violation]) -> Finding:
    """Return the finding of a checker that counts."""
    return Finding(len(violations), sorted(violations))
