"""What is measured in a soak, moment by moment, and kept in files: JSON, an object a line.

| file | a line is |
| --- | --- |
| samples.jsonl | a `Sample`: what the system under test holds |
| trips.jsonl | round trips in a calm, in seconds (`soak.probe.Trips`) |
| faults.jsonl | a fault (`faults.nemesis.FaultRecord`) |

Each has its moment `t`, in seconds from the start.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from reconnect_harness.processes import cores
from reconnect_harness.processes.footprint import measure

#: How often samples are taken, in seconds.
EVERY = 1.0

_ASK_SECONDS = 5.0
_LAG = re.compile(r"^reconnect_proxy_event_loop_lag_seconds_(sum|count)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


class Sample(NamedTuple):
    """What a system under test holds at the moment `t`.

    `memory` is bytes of all its processes together: their proportional set size, or resident where the system knows no
    better; `files`, `threads` and `processes` are counts. `sessions`, and `lag` in seconds, are None where it does not
    say. `harness` is resident bytes of the harness. `fair` is whether there was no fault just then.
    """

    t: float
    fair: bool
    memory: int
    files: int
    threads: int
    processes: int
    harness: int
    sessions: int | None = None
    lag: float | None = None


class Sampler:
    """Takes samples.

    Args:
        pid: the first process of the system under test.
        admin: the URL of its admin listener, if it has one like this project's proxy.

    """

    def __init__(self, pid: int, admin: str | None) -> None:
        self._pid = pid
        self._admin = admin
        self._lag = (0.0, 0.0)

    def take(self, t: float, *, fair: bool) -> Sample | None:
        """Take a sample; None where the system under test has ended. It may take a moment, and is for a thread."""
        found = measure([(self._pid, self._admin)], "during")
        if found is None:
            return None
        memory = found.memory
        # A process of a tree may end between the two looks.
        with contextlib.suppress(OSError):
            memory = cores.memory(cores.tree(self._pid)) or memory
        processes = found.children + 1
        return Sample(
            t, fair, memory, found.files, found.threads, processes, self._ours(), found.sessions, self._lag_since()
        )

    def _ours(self) -> int:
        """Return the resident bytes of this process and all that it has started, but for the system under test."""
        theirs = set(cores.tree(self._pid))
        total = 0
        for pid in cores.tree(os.getpid()):
            # A process may end meanwhile.
            with contextlib.suppress(psutil.NoSuchProcess):
                total += 0 if pid in theirs else psutil.Process(pid).memory_info().rss
        return total

    def _lag_since(self) -> float | None:
        """Return how late the event loop has been since the last sample, on average; None where nobody says."""
        if self._admin is None:
            return None
        # A handler without proxies: the environment may name one, which is not the way to loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self._admin}/metrics", timeout=_ASK_SECONDS) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        now = [0.0, 0.0]
        for which, value in _LAG.findall(text):
            now[which == "count"] += float(value)
        seconds, times = now[0] - self._lag[0], now[1] - self._lag[1]
        self._lag = (now[0], now[1])
        return seconds / times if times > 0 else None


def append(path: Path, fields: Mapping[str, Any]) -> None:
    """Append a line to a file of samples."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of such a file, none where it does not exist."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
