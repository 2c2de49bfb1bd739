"""`reconnect-harness diff`: two runs side by side, from what they left in their folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconnect_harness.checks.judgement import is_size, is_timed
from reconnect_harness.report.html import ReportError
from reconnect_harness.report.table import ResultTable
from reconnect_harness.run.compare import NOTHING
from reconnect_proxy.units import format_size

#: What is shown in any case; other rows only where the runs differ.
_ALWAYS = ("scenario", "system under test", "verdict")


class RunDiff:
    """The differences between two runs.

    Raises:
        ReportError: a folder holds no run, or one that cannot be read.

    """

    def __init__(self, first: Path, second: Path) -> None:
        self._names = (str(first), str(second))
        told = [_results(folder) for folder in (first, second)]
        self.same_verdict = told[0]["verdict"] == told[1]["verdict"]
        sides = [dict(_rows(results)) for results in told]
        self._rows = [(key, *(side.get(key, NOTHING) for side in sides)) for key in {**sides[0], **sides[1]}]

    def table(self) -> ResultTable:
        """Return what differs, and what the runs were."""
        shown = [row for row in self._rows if row[0] in _ALWAYS or row[1] != row[2]]
        return ResultTable(["", *self._names], shown, 1)

    def note(self) -> str:
        """Return how much is the same."""
        same = sum(first == second for key, first, second in self._rows if key not in _ALWAYS)
        return f"{same} other values are the same"


def _results(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        found["verdict"], found["checks"]  # KeyError where it is another file
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{folder} holds no run: {error}") from None
    return found


def _rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the rows of one run: what it was, its counts and its checks."""
    yield "scenario", f"{results['scenario']}, seed {results['seed']}"
    yield "system under test", str(results["system_under_test"])
    yield "verdict", str(results["verdict"])
    for check in results["checks"]:
        label = " ".join(filter(None, (check["check"], check["direction"])))
        value = _shown(check["check"], check["value"])
        yield label, value if check["verdict"] == "valid" else f"{value} ({check['verdict']})"
        yield f"{label}, the bound", _shown(check["check"], check["bound"])
    for direction, counts in results["messages"].items():
        for what, count in counts.items():
            yield f"{what} {direction}", f"{count:,}"
    for index, fault in enumerate(results["faults"], 1):
        for key in ("took_hold", "cleared"):
            # Moments differ a little from run to run.
            yield f"fault {index}, {fault['name']} {fault['target']}, {key}", _shown("recovery", fault[key], 1)
    for doubt in results["doubts"]:
        yield f"doubt: {doubt}", "yes"
    for name, version in results["versions"].items():
        yield name, str(version)


def _shown(check: str, value: float | str | None, digits: int = 3) -> str:
    if value is None or isinstance(value, str):
        return value or NOTHING
    if is_size(check):
        return format_size(int(value))
    return f"{value:.{digits}f} s" if is_timed(check) else f"{value:,.0f}"
