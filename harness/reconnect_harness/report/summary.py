"""What a run has shown, in lines for people: one sentence with numbers, and the reasons why it is not valid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from reconnect_harness.checks.judgement import CheckResult, Verdict, Violation, is_size, is_timed
from reconnect_harness.checks.percentile import percentile
from reconnect_harness.checks.recovery import recovery_times
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history.message import Direction
from reconnect_harness.report.run_result import RunResult

#: How many violations of a check are printed.
PRINTED = 5

#: Checks that are not mentioned where they found nothing, as in most runs.
_RARE = (Flaw.CORRUPTED, Flaw.MISDELIVERED)

_WORDS = {str(flaw): "repeated" if flaw is Flaw.DUPLICATED else str(flaw) for flaw in Flaw}


def sentence(run: RunResult) -> str:
    """Return one sentence, with numbers, that says what a run has shown."""
    scenario, history = run.scenario, run.history
    faults = Counter(f"{fault.name} {fault.target}" for fault in history.faults if fault.took_hold is not None)
    faults_done = ", ".join(f"{label} x {count}" for label, count in faults.items()) or "no faults"
    clients = f"{scenario.clients.count} {scenario.clients.kind} client" + "s" * (scenario.clients.count != 1)
    parts = [f"{clients}, {faults_done}"]
    for direction in Direction:
        if sent := sent_messages(run, direction):
            parts.append(f"{sent:,} messages {direction}: {_counted(run, direction)}")
    ended = next(r.value for r in run.judgement.results if r.check == "client_disconnects") or 0
    parts.append(f"{ended:,.0f} client disconnects")
    said = {expected.check: expected.said for expected in scenario.expect if expected.said}
    for result in run.judgement.results:
        if result.check in said:
            wrong = "nothing to measure" if result.value is None else f"{result.value:,.0f} wrong"
            as_expected = "as expected" if result.verdict is Verdict.VALID else wrong
            parts.append(f"{result.check} ({said[result.check]}): {as_expected}")
        elif result.check == "leaks" and result.bound is not None and result.value is not None:
            parts.append(f"{_value(result, result.value)} leaks")
        elif (
            result.check.startswith(("latency", "memory", "repeat"))
            and result.bound is not None
            and result.value is not None
        ):
            parts.append(f"{result.check.replace('_', ' ')} {_value(result, result.value)}")
    times = [seconds for seconds, _ in recovery_times(history)]
    if times:
        p50, p99, most = (_seconds(percentile(times, share)) for share in (0.5, 0.99, 1.0))
        parts.append(f"recovery p50 {p50}, p99 {p99}, max {most}")
    return "; ".join(parts)


def _counted(run: RunResult, direction: Direction) -> str:
    """Return the counts of one direction: first those with a bound, then those that are only reported."""
    asserted: list[str] = []
    reported: list[str] = []
    for result in run.judgement.results:
        if result.direction is direction and result.value is not None and (result.check not in _RARE or result.value):
            counted = f"{result.value:,.0f} {_WORDS[result.check]}"
            (reported if result.bound is None else asserted).append(counted)
    parts = [", ".join(asserted)] if asserted else []
    return " and ".join([*parts, f"(only reported) {', '.join(reported)}"] if reported else parts)


def reasons(run: RunResult) -> Iterator[str]:
    """Yield the lines that say why a run is not valid: exceeded bounds, the first violations of each, doubts."""
    for result in run.judgement.results:
        if result.verdict is not Verdict.INVALID:
            continue
        yield f"{result.label}: {_value(result, result.value)}, and may be {_value(result, result.bound)}"
        for violation in result.violations[:PRINTED]:
            yield f"    {_described(run, violation)}"
        if len(result.violations) > PRINTED and not is_timed(result.check):
            yield f"    … and {len(result.violations) - PRINTED:,} more"
    for doubt in run.judgement.doubts:
        yield f"nothing is proven: {doubt}"


def _described(run: RunResult, violation: Violation) -> str:
    on = run.history.faults_on(violation.t)
    spans = [
        f"{fault.name} {fault.target} {_moment(run, fault.asked)} to {_moment(run, fault.cleared)}" for fault in on
    ]
    return f"at {_moment(run, violation.t)}: {violation.what}" + (f" [{'; '.join(spans)}]" if spans else "")


def _moment(run: RunResult, t: float | None) -> str:
    return "the end" if t is None else f"{t - run.history.start:.3f} s"


def sent_messages(run: RunResult, direction: Direction) -> int:
    """Return how many messages were sent in one direction."""
    return sum(len(stream.sent) for stream in run.history.streams[direction])


def _value(result: CheckResult, value: float | None) -> str:
    if is_size(result.check) and value is not None:
        return f"{value / 1e6:,.0f} MB"
    return _seconds(value) if is_timed(result.check) else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "never" if math.isinf(value) else f"{value:.3f} s"
