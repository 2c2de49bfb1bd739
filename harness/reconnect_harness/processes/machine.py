"""The machine that a run was made on: numbers have no meaning without it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

#: Libraries that the generator, the server and this project's proxy use.
_LIBRARIES = ("picows", "uvloop", "websockets")


def machine() -> dict[str, str]:
    """Return the properties of this machine, by name."""
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
