"""The checkers of scenarios. A checker is a function from a history to a finding; `expect` bounds the findings.

| checker | what it counts |
| --- | --- |
| lost | messages that were sent and never arrived |
| duplicated | arrivals of a message that had arrived before |
| reordered | messages that arrived after a later one of their stream, duplicates removed first |
| corrupted | messages that arrived other than sent (size, type, checksum), or were never sent |
| misdelivered | messages that arrived at another client or in its session, or came back to the end that sent them |
| upstream_connections | connections that upstreams have accepted |
| client_disconnects | links of clients that ended, or handshakes that failed, and the client had not asked for it |
| breaches | what an end saw that the protocol forbids, such as a close frame without an answer; 0 by default |
| leaks | what the system under test held more of after all clients had left than before they came |
| memory | bytes of memory that the system under test held more of, at the most, than before the clients came |
| recovery_p50, _p99, _max | seconds from a fault's end to the first arrival after it, over all faults and flows |
| latency_p50, _p90, _p99, _max | seconds from a message's sending to its arrival, over all messages that arrived |
| handshake_changes | what of a client's handshake did not arrive at its upstream; none is allowed either |
| within_connection | messages that are lost or late, though one that was sent later on their connection arrived |
| repeat_age | the most seconds from a message's sending to the fault after which it arrived again; 0 without repeats |

The first five are counted in each direction; `checks.stream_account` defines them. How links end (close codes,
refusals) is checked by `checks.endings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from reconnect_harness.checks.connections import within_connection
from reconnect_harness.checks.handshakes import handshake_changes
from reconnect_harness.checks.judged import JudgedMessage, judged
from reconnect_harness.checks.judgement import CheckResult, Expectation, Finding, Judgement, Verdict, Violation
from reconnect_harness.checks.percentile import percentile
from reconnect_harness.checks.recovery import recovery_times
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End, Footprint, MessageEvent

#: How many of the slowest messages, and of the oldest that were repeated, are named.
_SLOWEST = 10

#: Checkers that need a look at the processes of the system under test.
RESOURCES = ("leaks", "memory")

#: The close code of a connection that ended without a close frame, RFC 6455 section 7.1.5.
_NO_CLOSE_FRAME = 1006

#: A fault that was asked for this long after the last message was sent, in seconds, was on while nothing was sent. Some
#: faults end the conversation, so a moment has to be allowed.
_IDLE_SECONDS = 0.5


def message_findings(history: History, direction: Direction) -> Mapping[Flaw, Finding]:
    """Find the flawed messages of one direction, by flaw."""
    found: dict[Flaw, list[Violation]] = {flaw: [] for flaw in Flaw}
    for message in judged(history, direction):
        for flaw in message.flaws:
            found[flaw].append(Violation(message.event.t, f"{_named(message.event)} {_SENTENCES[flaw](message)}"))
    return {flaw: Finding.counted(violations) for flaw, violations in found.items()}


def _lost(message: JudgedMessage) -> str:
    by = f" at {message.receiver}" if message.stream.direction is Direction.U2C and message.receiver else ""
    empty = "" if message.event.size else ": an empty message was swallowed"
    return f"was sent and never arrived{by}{empty}"


def _corrupted(message: JudgedMessage) -> str:
    if message.event.wrong:
        return f"arrived at {message.event.name} wrong: {message.event.wrong}"
    return f"arrived at {message.event.name}, but was never sent"


def _misdelivered(message: JudgedMessage) -> str:
    event = message.event
    if message.sending is not None and message.sending.name == event.name:
        return f"was misdelivered: it came back {message.stream.direction} to {event.name}"
    where = f" in a session of {message.session_of}" if message.session_of else ""
    return f"was misdelivered: it arrived at {event.name}{where}, which was not to receive it"


#: The second half of the sentence about a message with this flaw.
_SENTENCES: Mapping[Flaw, Callable[[JudgedMessage], str]] = {
    Flaw.LOST: _lost,
    Flaw.DUPLICATED: lambda message: f"arrived again at {message.event.name}",
    Flaw.REORDERED: lambda message: f"arrived at {message.event.name} after number {message.furthest}",
    Flaw.CORRUPTED: _corrupted,
    Flaw.MISDELIVERED: _misdelivered,
}


def client_disconnects(history: History) -> Finding:
    """Find the links of clients that ended, or were never made, though the client had not asked for it."""
    return Finding.counted(
        Violation(event.t, f"client {event.name} {event.event}: {event.code or ''} {event.reason}".rstrip(" :"))
        for event in history.links
        if event.end is End.CLIENT and event.event in ("disconnected", "unreachable") and not event.asked
    )


def upstream_connections(history: History) -> Finding:
    """Find the connections that upstreams have accepted."""
    return Finding.counted(
        Violation(event.t, f"upstream connection {event.name} was made")
        for event in history.links
        if event.end is End.UPSTREAM and event.event == "connected"
    )


def breaches(history: History) -> Finding:
    """Find what an end saw that the protocol forbids, and close frames without an answer (RFC 6455 section 5.5.1)."""
    seen = [Violation(event.t, f"{event.name}: {event.reason}") for event in history.links if event.event == "breach"]
    unanswered = [
        Violation(event.t, f"{event.name}: its close frame was not answered: {event.reason}".rstrip(": "))
        for event in history.links
        if event.end is End.CLIENT and event.event == "disconnected" and event.asked and event.code == _NO_CLOSE_FRAME
        # A lost link cannot answer, and an old one of a client (c01.old) need not.
        if "." not in event.name and not history.faults_on(event.t)
    ]
    return Finding.counted(sorted(seen + unanswered))


def leaks(history: History) -> Finding:
    """Find what the system under test still held after all clients had left, and had not held before they came."""
    return leaks_between(history.footprints)


def leaks_between(footprints: Iterable[Footprint]) -> Finding:
    found = {footprint.when: footprint for footprint in footprints}
    if not found.keys() >= {"before", "after"}:
        return Finding(None)
    after = found["after"]
    more = list(after.leaks(found["before"]))
    return Finding(sum(number for number, _ in more), [Violation(after.t, words) for _, words in more])


def memory(history: History) -> Finding:
    """Find how many bytes of memory the system under test held more of, at the most, than before the clients came."""
    before = next((found for found in history.footprints if found.when == "before"), None)
    later = [found for found in history.footprints if found.when != "before"]
    if before is None or not later:
        return Finding(None)
    most = max(later, key=lambda found: found.memory)
    words = f"{most.memory / 1e6:,.0f} MB of memory, and {before.memory / 1e6:,.0f} MB before they came"
    return Finding(max(0, most.memory - before.memory), [Violation(most.t, words)])


def _latency(share: float) -> Callable[[History], Finding]:
    def check(history: History) -> Finding:
        slowest = [
            Violation(event.t, f"{_named(event)} took {seconds:.3f} s")
            for seconds, event in reversed(history.latencies[-_SLOWEST:])
        ]
        return Finding(percentile([seconds for seconds, _ in history.latencies], share), slowest)

    return check


def _recovery(share: float) -> Callable[[History], Finding]:
    def check(history: History) -> Finding:
        measured = recovery_times(history)
        slowest = [violation for _, violation in reversed(measured)]
        return Finding(percentile([seconds for seconds, _ in measured], share), slowest)

    return check


def repeat_age(history: History) -> Finding:
    """Find the most seconds that lay between the sending of a message and the fault that had it arrive again.

    That fault is the first one that took hold after the message was sent. The age is infinite if there was none: then
    nothing explains the repeat. It is 0 where no message arrived twice.
    """
    found: list[tuple[float, Violation]] = []
    for direction in Direction:
        for message in judged(history, direction):
            if Flaw.DUPLICATED in message.flaws and message.sending is not None:
                age = _age(history, message.sending.t, message.event.t)
                words = "without a fault" if age == math.inf else f"sent {age:.3f} s before a fault"
                event = message.event
                what = f"{event.direction} {event.stream} number {event.number} arrived again, {words}"
                found.append((age, Violation(event.t, what)))
    found.sort(key=lambda each: each[0], reverse=True)
    return Finding(found[0][0] if found else 0.0, [violation for _, violation in found[:_SLOWEST]])


def _age(history: History, sent: float, repeated: float) -> float:
    """Return how old a message was at the fault between its sending and its repeat."""
    for fault in history.faults:
        # It takes effect between the moment at which it is asked for and that at which Toxiproxy confirms it.
        if fault.took_hold is not None and fault.took_hold >= sent and fault.asked <= repeated:
            return max(0.0, fault.asked - sent)
    return math.inf


#: Checkers of one direction of the traffic, by the name that `expect` calls them, in the order of reports.
STREAM_CHECKERS = (Flaw.LOST, Flaw.REORDERED, Flaw.DUPLICATED, Flaw.CORRUPTED, Flaw.MISDELIVERED)

#: Checkers of the run as a whole.
RUN_CHECKERS: Mapping[str, Callable[[History], Finding]] = {
    "client_disconnects": client_disconnects,
    "upstream_connections": upstream_connections,
    "breaches": breaches,
    "handshake_changes": handshake_changes,
    "within_connection": within_connection,
    "leaks": leaks,
    "memory": memory,
    "recovery_p50": _recovery(0.5),
    "recovery_p99": _recovery(0.99),
    "recovery_max": _recovery(1.0),
    "latency_p50": _latency(0.5),
    "latency_p90": _latency(0.9),
    "latency_p99": _latency(0.99),
    "latency_max": _latency(1.0),
    "repeat_age": repeat_age,
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
    flawed = {way: message_findings(history, way) for way in Direction if history.streams[way]}
    results = [
        CheckResult.of(flaw, direction, findings[flaw], bounds.get((flaw, direction)))
        for flaw in STREAM_CHECKERS
        for direction, findings in flawed.items()
    ]
    for check, find in RUN_CHECKERS.items():
        results.append(CheckResult.of(check, None, find(history), bounds.get((check, None))))
    for expected in expectations:
        if expected.find is not None:
            results.append(CheckResult.of(expected.check, None, expected.find(history), expected.bound))
    doubts = list(_doubts(history, directions))
    doubts += [f"{result.label} had nothing to measure" for result in results if result.verdict is Verdict.UNKNOWN]
    return Judgement.of(results, doubts)


def _doubts(history: History, directions: Iterable[Direction]) -> Iterator[str]:
    """Yield the reasons why the run proves nothing."""
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
            yield f"the fault {fault.name} {fault.target} ({when}) was on while nothing was being sent"


def _named(event: MessageEvent) -> str:
    return f"{event.direction} {event.stream} number {event.number} ({event.kind}, {event.size} bytes)"
