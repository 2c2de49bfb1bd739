"""What a soak measures moment by moment, in files: JSON, one object a line.

| file | a line is |
| --- | --- |
| samples.jsonl | a `ResourceSample`: what the system under test holds |
| trips.jsonl | round trips in a quiet period, in seconds (`soak.probe`) |
| faults.jsonl | a fault (`faults.nemesis.FaultRecord`) |

Each line has its moment `t`, in seconds from the start.
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

#: The files, in the folder of the soak.
SAMPLES, TRIPS, FAULTS = "samples.jsonl", "trips.jsonl", "faults.jsonl"

#: How often samples are taken, in seconds.
EVERY = 1.0

_ANSWER_SECONDS = 5.0
_LAG = re.compile(r"^reconnect_proxy_event_loop_lag_seconds_(sum|count)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


class ResourceSample(NamedTuple):
    """What all processes of a system under test hold together at one moment, `t` seconds from the start."""

    t: float
    quiet: bool
    """Whether there was no fault just then."""
    memory: int
    """Bytes: the proportional set size, or the resident one where the operating system does not know that."""
    files: int
    threads: int
    processes: int
    harness: int
    """Resident bytes of the harness itself."""
    sessions: int | None = None
    """None where the system does not say."""
    lag: float | None = None
    """How late its event loop was on average since the last sample, in seconds; None where it does not say."""


class Sampler:
    """Takes samples of a system under test: its first process, and its admin listener if it has one like our proxy."""

    def __init__(self, pid: int, admin: str | None) -> None:
        self._pid = pid
        self._admin = admin
        self._lag = (0.0, 0.0)

    def take(self, t: float, *, quiet: bool) -> ResourceSample | None:
        """Take a sample; None where the system under test has ended. It blocks, so call it in a thread."""
        found = measure([(self._pid, self._admin)], "during")
        if found is None:
            return None
        memory = found.memory
        # A process of the tree may have ended since.
        with contextlib.suppress(OSError):
            memory = cores.memory(cores.tree(self._pid)) or memory
        processes = found.children + 1
        harness, lag = self._own_memory(), self._lag_since()
        return ResourceSample(t, quiet, memory, found.files, found.threads, processes, harness, found.sessions, lag)

    def _own_memory(self) -> int:
        """Return the resident bytes of this process and all that it has started, but for the system under test."""
        theirs = set(cores.tree(self._pid))
        total = 0
        for pid in cores.tree(os.getpid()):
            # A process may have ended since.
            with contextlib.suppress(psutil.NoSuchProcess):
                total += 0 if pid in theirs else psutil.Process(pid).memory_info().rss
        return total

    def _lag_since(self) -> float | None:
        """Return how late the event loop was on average since the last sample; None where that is not known."""
        if self._admin is None:
            return None
        # A handler without proxies: the environment may name one, which cannot reach loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self._admin}/metrics", timeout=_ANSWER_SECONDS) as answer:
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
    """Append a line to one of the files."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of one of the files; none where it does not exist."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
