"""Whose something is that outlives processes, such as a container: a line that names the process, and can be checked.

    hostname/pid namespace pid start
    build-7/4026531836 4711 1764000000.1

A process is known by its number and the moment it was started at, since numbers come again. Numbers mean nothing on
another machine or in another PID namespace: of an owner there nobody here can say whether it lives.
"""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

#: How far two readings of one process's start may be apart, in seconds: it is counted from the machine's, which is
#: adjusted when the clock is set.
_TOLERANCE = 5.0


def mine() -> str:
    """Return the line that names this process."""
    process = psutil.Process()
    return f"{_place()} {process.pid} {process.create_time():.1f}"


def is_dead(owner: str) -> bool:
    """Return whether the process that `owner` names is certainly gone. False for a line that is none of ours."""
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
    """Return where numbers of processes mean what they mean here."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()}/{namespace.stat().st_ino if namespace.exists() else 0}"
