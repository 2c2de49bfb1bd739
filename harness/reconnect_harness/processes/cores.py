"""Cores and processes: which cores a process runs on, the CPU time of a tree of processes, and its memory.

Linux has all of these. Elsewhere nothing is pinned, CPU time has the resolution of psutil's clock, and memory is not
measured.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import psutil

#: Linux: the clock of all threads of a process, CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes it from a process id.
_PROCESS_CLOCK = 2


class Cores(NamedTuple):
    """Which cores (numbers of CPUs) the contender, the generator and the server run on: perhaps the same."""

    contender: frozenset[int]
    generator: frozenset[int]
    server: frozenset[int]

    @property
    def load(self) -> int:
        """How many cores the generator and the server have together."""
        return len(self.generator | self.server)

    def describe(self) -> str:
        """Return in words which processes share a core."""
        if not self.contender:
            return "nothing is pinned: this system cannot pin processes"
        if self.contender == self.generator:
            return "one core for everything: the contender competes with the generator"
        if self.generator == self.server:
            return "the contender has a core of its own; the generator and the server share another"
        return "the contender, the generator and the server have a core each"


def assign_cores(available: Sequence[int]) -> Cores:
    """Assign the cores: the last one to the contender, the first ones to the load."""
    ordered = sorted(available)
    if not ordered:
        return Cores(frozenset(), frozenset(), frozenset())
    *rest, last = ordered
    generator, server = (rest or [last])[0], (rest or [last])[-1]
    return Cores(frozenset([last]), frozenset([generator]), frozenset([server]))


def available() -> list[int]:
    """Return the cores that this process may use, none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Run this thread, and the processes that it starts in this context, on these cores.

    A program that starts sees only these cores, and makes as many threads.
    """
    if sys.platform != "linux" or not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """Return a process and its descendants; an empty list if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [pid, *(child.pid for child in first.children(recursive=True))]
    return []


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time, user and system, that these processes have used so far, in seconds.

    Raises ProcessLookupError if one of them has ended.
    """
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    if sys.platform == "linux":
        # In nanoseconds, where /proc/PID/stat counts in ticks of 10 ms.
        try:
            return time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
        except OSError:
            raise ProcessLookupError(f"the process {pid} has ended") from None
    try:
        user, system, *_ = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"the process {pid} has ended") from None
    return float(user + system)


def memory(pids: Sequence[int]) -> int | None:
    """Return the sum of the proportional set sizes of these processes in bytes, None where it is not known."""
    if sys.platform != "linux":
        return None
    return sum(_proportional(pid) for pid in pids)


def _proportional(pid: int) -> int:
    # Not memory_full_info(): it reads every mapping, which takes a second where there are many.
    with open(f"/proc/{pid}/smaps_rollup") as lines:  # noqa: PTH123  # not a path that a user gives
        for line in lines:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
