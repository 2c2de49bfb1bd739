"""The meter: whether the load generator keeps up, or is itself what is being measured.

| reading | what it says |
| --- | --- |
| cpu | the busiest seconds of this process, in cores: a Python process has one |
| machine | the busiest seconds of all processes of this machine, as a share of its cores |
| lag | how late a greenlet wakes that wanted to sleep for a moment: so late is everything else |
| late | sends that came later than planned although the link was there |
"""

from __future__ import annotations

import logging
import os
import time
from bisect import insort
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import gevent
import psutil

logger = logging.getLogger(__name__)

#: How much of its one core the process may use, averaged over `CPU_SECONDS`, before it is the limit.
FULL_CPU = 0.9
CPU_SECONDS = 5.0

#: How late a wake-up may be at the 99th percentile, and a planned send, in seconds; and the share of sends that may be.
LAG_SECONDS = 0.1
LATE_SECONDS = 0.1
LATE_SHARE = 0.02
#: So many late sends are no accident.
LATE_SENDS = 20

_NAP_SECONDS = 0.05
#: Lags that are kept: the longest ones, of which the 99th percentile is found.
_KEPT = 2000


@dataclass(slots=True)
class Reading:
    """What the meter of one process has read."""

    cpu: float = 0.0
    """The busiest `CPU_SECONDS`, in cores."""
    cpu_mean: float = 0.0
    machine: float = 0.0
    lag_p99: float = 0.0
    lag_max: float = 0.0
    sends: int = 0
    late: int = 0
    latest: float = 0.0
    """The latest send, in seconds."""

    def limits(self) -> list[str]:
        """Say why this generator, and not its target, was the limit; nothing if it kept up."""
        found = []
        if self.cpu >= FULL_CPU:
            found.append(f"its process used {self.cpu:.0%} of a core, the one that it can use")
        if self.lag_p99 > LAG_SECONDS:
            found.append(f"it woke up to {self.lag_p99:.2f} s late (p99)")
        if self.late > max(LATE_SENDS, LATE_SHARE * self.sends):
            found.append(f"{self.late / self.sends:.0%} of its sends were late, by up to {self.latest:.2f} s")
        if found and self.cpu < FULL_CPU <= self.machine:
            found.append(f"it had {self.cpu:.0%} of a core, for others kept this machine busy ({self.machine:.0%})")
        return found

    def to_report(self) -> dict[str, Any]:
        """Return it as a worker reports it."""
        return asdict(self)

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Self:
        """Read what `to_report` has written."""
        return cls(**report)


class Meter:
    """Reads this process while it runs."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._lags: list[float] = []
        self._naps = 0
        self._warned = False
        self._machine = _machine_seconds()
        self._greenlet: gevent.Greenlet[..., None] | None = None
        # When it was begun, and read last, and the CPU seconds of the process at that time.
        self._began = (0.0, 0.0)
        self._read_at = self._used = 0.0

    def start(self) -> None:
        """Begin to read."""
        self._began = self._read_at, self._used = time.monotonic(), _cpu_seconds()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Read no more."""
        if self._greenlet is not None and not self._greenlet.dead:
            self._greenlet.kill()
            self._read_cpu(time.monotonic())

    def sent(self, late: float) -> None:
        """Take note of a planned send, and of how late it came, in seconds."""
        reading = self.reading
        reading.sends += 1
        if late > LATE_SECONDS:
            reading.late += 1
        if late > reading.latest:
            reading.latest = late

    def _run(self) -> None:
        while True:
            before = time.monotonic()
            gevent.sleep(_NAP_SECONDS)
            now = time.monotonic()
            self._nap(max(0.0, now - before - _NAP_SECONDS))
            if now - self._read_at >= CPU_SECONDS:
                self._read_cpu(now)
                self._warn()

    def _read_cpu(self, now: float) -> None:
        spent = _cpu_seconds()
        (began, used_at_first), (read_at, used) = self._began, (self._read_at, self._used)
        if now - read_at > CPU_SECONDS / 2:
            self.reading.cpu = max(self.reading.cpu, (spent - used) / (now - read_at))
        self.reading.cpu_mean = (spent - used_at_first) / max(now - began, 1e-3)
        machine = _machine_seconds()
        if now - read_at > CPU_SECONDS / 2:
            busy, whole = (new - old for new, old in zip(machine, self._machine, strict=True))
            self.reading.machine = max(self.reading.machine, busy / max(whole, 1e-3))
        self._read_at, self._used, self._machine = now, spent, machine

    def _nap(self, lag: float) -> None:
        self._naps += 1
        insort(self._lags, lag)
        if len(self._lags) > _KEPT:
            del self._lags[0]
        self.reading.lag_max = self._lags[-1]
        # The longest hundredth of all naps.
        behind = min(len(self._lags), self._naps // 100 + 1)
        self.reading.lag_p99 = self._lags[-behind]

    def _warn(self) -> None:
        limits = self.reading.limits()
        if limits and not self._warned:
            self._warned = True
            logger.warning("the load generator, and not its target, is the limit: %s", "; ".join(limits))


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _machine_seconds() -> tuple[float, float]:
    """Return the seconds that the cores of this machine have been busy, and have been there."""
    times = psutil.cpu_times()
    whole = sum(times)
    return whole - times.idle - getattr(times, "iowait", 0.0), whole
