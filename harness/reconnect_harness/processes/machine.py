"""The machine that a run was made on: without it numbers mean nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

#: Libraries that the generator, the server or this project's proxy are made of.
_LIBRARIES = ("picows", "uvloop", "websockets")


def machine() -> dict[str, str]:
    """Return what there is to know of this machine, by what it is called."""
    load = ", ".join(f"{minutes:.1f}" for minutes in os.getloadavg())
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "reconnect-proxy": version("reconnect-proxy"),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "load before the run": load,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
