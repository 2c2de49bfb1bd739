"""Whether processes that should be gone are gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil


def descendants() -> set[int]:
    """Return the processes that this one and its children have started and that still run."""
    return {child.pid for child in psutil.Process().children(recursive=True) if _runs(child)}


def family(pid: int | None) -> list[psutil.Process]:
    """Return a process and all its children."""
    assert pid is not None
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def survivors(processes: Iterable[psutil.Process], within: float = 30.0) -> list[psutil.Process]:
    """Return which of the processes still run after at most `within` seconds: none, if all is well.

    One that has ended and that its new parent has not yet waited for is gone.
    """
    left = list(processes)
    deadline = time.monotonic() + within
    while (left := [process for process in left if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
