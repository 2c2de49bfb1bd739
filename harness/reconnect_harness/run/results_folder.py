"""The folder for results, and the files that a run leaves there: `history.jsonl`, `results.json`, `report.html`.

`history.jsonl` has one event a line, in order of time, in seconds from the start of the traffic. `results.json` has the
verdict, each check with its value, bound and first violations, the counts, and the versions of what took part.
`report.html` is a page for people, made from these two (`report.html`).
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from reconnect_harness.checks.judgement import CheckResult
from reconnect_harness.history.message import Direction
from reconnect_harness.report import html as report_html
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.report.summary import sent_messages, sentence
from reconnect_harness.scenario.explain import explain

#: How many violations of each check are kept in results.json.
KEPT = 100


class ResultsError(Exception):
    """The files of a run cannot be written. The message says which, and why."""


def make_folder(out: Path) -> None:
    """Make the folder for results, if it does not exist."""
    if not out.exists():
        # Other processes of pytest-xdist may make it at the same time.
        out.mkdir(parents=True, exist_ok=True)
        # Results do not belong into a project's repository; pytest does the same with its cache.
        (out / ".gitignore").write_text("*\n")


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn the errors of writing into the folder `out` into ResultsError; other errors pass."""
    try:
        yield
    except OSError as failure:
        # The error of a write to an open file has no name. Such an error is only reported here if the disk is full.
        full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
        where = Path(failure.filename) if isinstance(failure.filename, (str, os.PathLike)) else out
        if not full and (failure.filename is None or not where.absolute().is_relative_to(out.absolute())):
            raise
        raise ResultsError(f"cannot write {where}: {failure.strerror}: name another folder for the results") from None


def write_run(run: RunResult, repeat: str | None = None) -> None:
    """Write `history.jsonl`, `results.json` and `report.html` into the run's folder.

    `repeat` is the command that repeats the run, where there is one.
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
        "audience": run.history.audience and run.history.audience._asdict(),
        "toxiproxy": run.toxiproxy,
        "seconds": round(run.seconds, 3),
        "messages": {
            direction: {"sent": sent_messages(run, direction), "arrived": run.history.count("received", direction)}
            for direction in Direction
        },
        "faults": [
            {key: round(value, 6) if isinstance(value, float) else value for key, value in fault._asdict().items()}
            for fault in (fault.shifted(-run.history.start) for fault in run.history.faults)
        ],
        "checks": [_check(run.history.start, result) for result in run.judgement.results],
        "versions": _versions(),
    }


def _check(start: float, result: CheckResult) -> dict[str, Any]:
    endless = result.value is not None and math.isinf(result.value)
    return {
        "check": result.check,
        "direction": result.direction,
        # JSON has no infinity, which stands for a stream that never recovered.
        "value": "never" if endless else result.value,
        "bound": result.bound,
        "verdict": result.verdict,
        "wrong": [
            {"t": round(violation.t - start, 6), "what": violation.what} for violation in result.violations[:KEPT]
        ],
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("reconnect-proxy", "websockets", "pytest"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
