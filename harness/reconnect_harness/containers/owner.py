"""The owner of something that outlives processes, such as a container: a line that identifies the owner's process.

    hostname/pid namespace pid start
    build-7/4026531836 4711 1764000000.1

A process is identified by its number and its start time, because numbers are used again. Numbers have no meaning on
another machine or in another PID namespace: whether such an owner is alive cannot be known here.
"""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

#: How far two readings of one process's start time may differ, in seconds: the kernel counts it from the machine's
#: start, which is adjusted when the clock is set.
_TOLERANCE = 5.0


def this_process() -> str:
    """Return the line that identifies this process."""
    process = psutil.Process()
    return f"{_place()} {process.pid} {process.create_time():.1f}"


def is_dead(owner: str) -> bool:
    """Return whether the process that `owner` identifies is certainly gone. False for a line of another form."""
    try:
        place, pid, start = owner.rsplit(" ", 2)
        number, begun = int(pid), float(start)
    except ValueError:
        return False
    if place != _place():
        return False
    try:
        process = psutil.Process(number)
        same = abs(process.create_time() - begun) < _TOLERANCE
    except psutil.NoSuchProcess:
        return True
    return not same or process.status() == psutil.STATUS_ZOMBIE


def _place() -> str:
    """Return the host and PID namespace in which numbers of processes are unique."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()}/{namespace.stat().st_ino if namespace.exists() else 0}"
