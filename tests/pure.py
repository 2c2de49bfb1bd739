"""The tests that `make quick` runs: they use no network, start no process, and do not wait for time to pass.

They are marked `pure`. One that uses a network or starts a process all the same fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["PURE"]

HERE = Path(__file__).parent

#: Folders, and modules of folders that have others too.
PURE = (
    "reconnect_harness/bench/test_budgets.py",
    "reconnect_harness/bench/test_cases.py",
    "reconnect_harness/bench/test_figures.py",
    "reconnect_harness/checks",
    "reconnect_harness/containers/test_spec.py",
    "reconnect_harness/faults/test_fault.py",
    "reconnect_harness/history",
    "reconnect_harness/load/test_account.py",
    "reconnect_harness/load/test_tally.py",
    "reconnect_harness/report/test_chart.py",
    "reconnect_harness/report/test_series.py",
    "reconnect_harness/run/test_results_folder.py",
    "reconnect_harness/scenario",
    "reconnect_harness/simulate",
    "reconnect_harness/soak/test_trend.py",
    "reconnect_harness/soak/test_verdict.py",
    "reconnect_proxy/admin/test_token.py",
    "reconnect_proxy/client/test_aware_session.py",
    "reconnect_proxy/config",
    "reconnect_proxy/core",
    "reconnect_proxy/net/test_allow.py",
    "reconnect_proxy/net/test_client_address.py",
    "reconnect_proxy/net/test_forwarding.py",
    "reconnect_proxy/net/test_handshake.py",
    "reconnect_proxy/net/test_head.py",
    "reconnect_proxy/net/test_head_fuzz.py",
    "reconnect_proxy/net/test_pending.py",
    "reconnect_proxy/observe/test_log_table.py",
    "reconnect_proxy/observe/test_logs.py",
    "reconnect_proxy/observe/test_metrics.py",
    "reconnect_proxy/test_architecture.py",
    "reconnect_proxy/test_close_codes.py",
    "reconnect_proxy/test_descriptors.py",
    "reconnect_proxy/test_suggestions.py",
    "reconnect_proxy/test_units.py",
    "reconnect_proxy/workers/test_directory.py",
    "reconnect_proxy/workers/test_merged_metrics.py",
    "reconnect_proxy/workers/test_placement.py",
    "test_pure.py",
)

_PATHS = frozenset(HERE / pure for pure in PURE)

#: What a pure test may not do, as Python's audit events.
BARRED = frozenset(
    {
        *("socket.bind", "socket.connect", "socket.getaddrinfo"),
        *("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"),
    }
)


class _Guard:
    """Bars a test from BARRED while `test` is its name."""

    def __init__(self) -> None:
        self.test: str | None = None
        self._watching = False

    def watch(self) -> None:
        """Hear of audit events from now on: a hook cannot be removed."""
        if not self._watching:
            self._watching = True
            sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.test is not None and event in BARRED:
            raise RuntimeError(f"{self.test} is in tests/pure.py, and must not use {event}")


_guard = _Guard()


@cache
def is_pure(path: Path) -> bool:
    """Return whether a test module, or all in a folder, is pure."""
    return path in _PATHS or (HERE in path.parents and is_pure(path.parent))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "pure: uses no network, starts no process, and does not wait for time to pass")
    absent = [str(path) for path in _PATHS if not path.exists()]
    if absent:
        raise pytest.UsageError(f"tests/pure.py names what is not there: {', '.join(absent)}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m pure`, leave alone what is not: to import all of it takes longer than to run what is."""
    if config.option.markexpr != "pure" or is_pure(collection_path):
        return None
    return not any(path.is_relative_to(collection_path) for path in _PATHS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that are pure."""
    for item in items:
        if is_pure(item.path):
            item.add_marker("pure")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold a test to it."""
    if item.get_closest_marker("pure") is None:
        return (yield)
    _guard.watch()
    _guard.test = item.nodeid
    try:
        return (yield)
    finally:
        _guard.test = None
