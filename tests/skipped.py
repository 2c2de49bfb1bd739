"""What was skipped, at the end of a run: by cause, since one cause skips many tests."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

__all__ = ["by_cause"]


def by_cause(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> dict[str, Counter[str]]:
    """Return how many tests of each module were skipped for each reason; the reason that skipped most comes first."""
    causes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        assert isinstance(report.longrepr, tuple), "a skipped test's is its file, its line, and its reason"
        causes[report.longrepr[2].removeprefix("Skipped: ")][report.nodeid.partition("::")[0]] += 1
    return dict(sorted(causes.items(), key=lambda cause: -cause[1].total()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write what was skipped, and why."""
    causes = by_cause(terminalreporter.stats.get("skipped", []))
    if not causes:
        return
    terminalreporter.section(f"{sum(modules.total() for modules in causes.values())} skipped, by cause")
    for reason, modules in causes.items():
        terminalreporter.line(f"{modules.total()} skipped: {reason}")
        for module, count in modules.items():
            terminalreporter.line(f"    {count:3} in {module}")
