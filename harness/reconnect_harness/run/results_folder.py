"""What a run leaves behind: `history.jsonl`, `results.json` and `report.html` in its folder, and lines for people.

`history.jsonl` has one event a line, in order of time, seconds from the start of the traffic. `results.json` has the
verdict, each check with its value, bound and first wrong messages, the counts, and what was tested with what.
`report.html` is a page for people, of these two (`report.html`).
"""

from __future__ import annotations

import json
import math
import platform
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from reconnect_harness.checks.checkers import Result, Verdict, Wrong, is_size, is_timed, percentile, recovery_times
from reconnect_harness.history.message import Direction
from reconnect_harness.report import html as report_html
from reconnect_harness.run.runner import Run
from reconnect_harness.scenario.explain import explain

#: How many wrong messages are printed, and how many are kept in results.json for each check.
PRINTED = 5
KEPT = 100

_WORDS = {"lost": "lost", "duplicated": "repeated", "reordered": "reordered", "corrupted": "corrupted"}


def write(run: Run, repeat: str | None = None) -> None:
    """Write `history.jsonl`, `results.json` and `report.html` into the run's folder.

    `repeat` is the command that makes the run again, where there is one.
    """
    run.history.write(run.folder / "history.jsonl")
    results = {**_results(run), "repeat": repeat}
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    (run.folder / "results.json").write_text(text + "\n", encoding="utf-8")
    report_html.write(run.folder, run.history, results)


def proven(run: Run) -> str:
    """Say in one sentence, with numbers, what a run has shown."""
    scenario, history = run.scenario, run.history
    faults = Counter(f"{fault.name} {fault.target}" for fault in history.faults if fault.took_hold is not None)
    suffered = ", ".join(f"{label} x {count}" for label, count in faults.items()) or "no faults"
    clients = f"{scenario.clients.count} {scenario.clients.kind} client" + "s" * (scenario.clients.count != 1)
    parts = [f"{clients}, {suffered}"]
    for direction in Direction:
        if sent := _sent(run, direction):
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
        elif result.check.startswith(("latency", "memory")) and result.bound is not None and result.value is not None:
            parts.append(f"{result.check.replace('_', ' ')} {_value(result, result.value)}")
    times = [seconds for seconds, _ in recovery_times(history)]
    if times:
        p50, p99, most = (_seconds(percentile(times, share)) for share in (0.5, 0.99, 1.0))
        parts.append(f"recovery p50 {p50}, p99 {p99}, max {most}")
    return "; ".join(parts)


def _counted(run: Run, direction: Direction) -> str:
    """Say what came of the messages of one direction: first what was asserted, then what is only reported."""
    asserted: list[str] = []
    reported: list[str] = []
    for result in run.judgement.results:
        # Integrity is worth a word only when it failed.
        if result.direction is direction and result.value is not None and (result.check != "corrupted" or result.value):
            counted = f"{result.value:,.0f} {_WORDS[result.check]}"
            (reported if result.bound is None else asserted).append(counted)
    parts = [", ".join(asserted)] if asserted else []
    return " and ".join([*parts, f"(only reported) {', '.join(reported)}"] if reported else parts)


def accusation(run: Run) -> Iterator[str]:
    """Yield the lines that say why a run is not valid: bounds that were passed, first wrong messages, doubts."""
    for result in run.judgement.results:
        if result.verdict is not Verdict.INVALID:
            continue
        yield f"{result.label}: {_value(result, result.value)}, and may be {_value(result, result.bound)}"
        for wrong in result.wrong[:PRINTED]:
            yield f"    {_told(run, wrong)}"
        if len(result.wrong) > PRINTED and not _timed(result):
            yield f"    … and {len(result.wrong) - PRINTED:,} more"
    for doubt in run.judgement.doubts:
        yield f"nothing is proven: {doubt}"


def _told(run: Run, wrong: Wrong) -> str:
    on = run.history.faults_on(wrong.t)
    spans = [f"{fault.name} {fault.target} {_at(run, fault.took_hold)} to {_at(run, fault.cleared)}" for fault in on]
    return f"at {_at(run, wrong.t)}: {wrong.what}" + (f" [{'; '.join(spans)}]" if spans else "")


def _at(run: Run, t: float | None) -> str:
    return "the end" if t is None else f"{t - run.history.start:.3f} s"


def _sent(run: Run, direction: Direction) -> int:
    return sum(len(stream.sent) for stream in run.history.streams[direction])


def _timed(result: Result) -> bool:
    return is_timed(result.check)


def _value(result: Result, value: float | None) -> str:
    if is_size(result.check) and value is not None:
        return f"{value / 1e6:,.0f} MB"
    return _seconds(value) if _timed(result) else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "never" if math.isinf(value) else f"{value:.3f} s"


def _results(run: Run) -> dict[str, Any]:
    return {
        "scenario": run.scenario.name,
        "summary": run.scenario.summary.strip(),
        "seed": run.seed,
        "verdict": run.judgement.verdict,
        "proven": proven(run),
        "doubts": list(run.judgement.doubts),
        "setup": explain(run.scenario)[3:],
        "system_under_test": run.system,
        "echoed": run.history.echoed,
        "shared": run.history.shared,
        "toxiproxy": run.toxiproxy,
        "seconds": round(run.seconds, 3),
        "messages": {
            direction: {"sent": _sent(run, direction), "arrived": run.history.count("received", direction)}
            for direction in Direction
        },
        "faults": [
            {
                **fault._asdict(),
                **{key: _relative(run, getattr(fault, key)) for key in ("asked", "took_hold", "cleared")},
            }
            for fault in run.history.faults
        ],
        "checks": [_check(run, result) for result in run.judgement.results],
        "versions": _versions(),
    }


def _check(run: Run, result: Result) -> dict[str, Any]:
    endless = result.value is not None and math.isinf(result.value)
    return {
        "check": result.check,
        "direction": result.direction,
        # JSON knows no infinity: a stream that never recovered.
        "value": "never" if endless else result.value,
        "bound": result.bound,
        "verdict": result.verdict,
        "wrong": [{"t": _relative(run, wrong.t), "what": wrong.what} for wrong in result.wrong[:KEPT]],
    }


def _relative(run: Run, t: float | None) -> float | None:
    return None if t is None else round(t - run.history.start, 6)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("reconnect-proxy", "websockets", "pytest"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
