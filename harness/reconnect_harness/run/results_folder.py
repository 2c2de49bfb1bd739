"""The files that a run leaves in its folder: `history.jsonl`, `results.json` and `report.html`.

`history.jsonl` has one event a line, in order of time, in seconds from the start of the traffic. `results.json` has the
verdict, each check with its value, bound and first violations, the counts, and the versions of what took part.
`report.html` is a page for people, made from these two (`report.html`).
"""

from __future__ import annotations

import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from reconnect_harness.checks.judgement import CheckResult
from reconnect_harness.history.message import Direction
from reconnect_harness.report import html as report_html
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.report.summary import sent_messages, sentence
from reconnect_harness.scenario.explain import explain

#: How many violations of each check are kept in results.json.
KEPT = 100


def write(run: RunResult, repeat: str | None = None) -> None:
    """Write `history.jsonl`, `results.json` and `report.html` into the run's folder.

    `repeat` is the command that makes the run again, where there is one.
    """
    run.history.write(run.folder / "history.jsonl")
    results = {**_results(run), "repeat": repeat}
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    (run.folder / "results.json").write_text(text + "\n", encoding="utf-8")
    report_html.write(run.folder, run.history, results)


def _results(run: RunResult) -> dict[str, Any]:
    return {
        "scenario": run.scenario.name,
        "summary": run.scenario.summary.strip(),
        "seed": run.seed,
        "verdict": run.judgement.verdict,
        "proven": sentence(run),
        "doubts": list(run.judgement.doubts),
        "setup": explain(run.scenario)[3:],
        "system_under_test": run.system,
        "echoed": run.history.echoed,
        "shared": run.history.shared,
        "toxiproxy": run.toxiproxy,
        "seconds": round(run.seconds, 3),
        "messages": {
            direction: {"sent": sent_messages(run, direction), "arrived": run.history.count("received", direction)}
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


def _check(run: RunResult, result: CheckResult) -> dict[str, Any]:
    endless = result.value is not None and math.isinf(result.value)
    return {
        "check": result.check,
        "direction": result.direction,
        # JSON knows no infinity: a stream that never recovered.
        "value": "never" if endless else result.value,
        "bound": result.bound,
        "verdict": result.verdict,
        "wrong": [{"t": _relative(run, violation.t), "what": violation.what} for violation in result.violations[:KEPT]],
    }


def _relative(run: RunResult, t: float | None) -> float | None:
    return None if t is None else round(t - run.history.start, 6)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("reconnect-proxy", "websockets", "pytest"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
