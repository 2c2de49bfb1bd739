"""How busy this process is: whether the load generator keeps up, or is itself the limit of what is measured.

| reading | what it is |
| --- | --- |
| cpu | CPU time in the busiest seconds, in cores: a Python process can use one |
| machine | CPU time of all processes of this machine in its busiest seconds, as a share of its cores |
| lag | how late a greenlet wakes up that sleeps for a moment: everything else is as late |
| late | sends that were later than planned although the link was up |
"""

from __future__ import annotations

import logging
import time
from bisect import insort
from dataclasses import dataclass

import gevent
import psutil

logger = logging.getLogger(__name__)

#: The process is the limit if it uses this share of a core, on average over `CPU_SECONDS`.
FULL_CPU = 0.9
CPU_SECONDS = 5.0

#: It is also the limit if wake-ups are later than this at the 99th percentile, in seconds; or if more than a share of
#: the sends, and more than `LATE_SENDS`, are later than `LATE_SECONDS`.
LAG_SECONDS = 0.1
LATE_SECONDS = 0.1
LATE_SHARE = 0.02
LATE_SENDS = 20

_NAP_SECONDS = 0.05
#: How many lags are kept: the longest ones, to find the 99th percentile.
_KEPT = 2000


@dataclass(slots=True)
class GeneratorReading:
    """The readings of one process."""

    cpu: float = 0.0
    """The busiest `CPU_SECONDS`, in cores."""
    cpu_mean: float = 0.0
    machine: float = 0.0
    lag_p99: float = 0.0
    sends: int = 0
    late: int = 0
    latest: float = 0.0
    """How late the latest send was, in seconds."""

    def limits(self) -> list[str]:
        """Return why this generator, and not its target, was the limit; nothing if it kept up."""
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


class GeneratorLoad:
    """Measures this process while it runs."""

    def __init__(self) -> None:
        self.reading = GeneratorReading()
        self._lags: list[float] = []
        self._naps = 0
        self._warned = False
        self._process = psutil.Process()
        self._greenlet: gevent.Greenlet[..., None] | None = None
        # When measuring began, the CPU seconds until then, and when the CPU time was read last.
        self._began = self._used = self._read_at = 0.0

    def start(self) -> None:
        self._began = self._read_at = time.monotonic()
        self._used = self._cpu_seconds()
        # They count from the call before on.
        self._process.cpu_percent()
        psutil.cpu_percent()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._greenlet is not None and not self._greenlet.dead:
            self._greenlet.kill()
            self._read_cpu(time.monotonic())

    def sent(self, late: float) -> None:
        """Count a planned send, and how late it was, in seconds."""
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
        reading = self.reading
        cpu, machine = self._process.cpu_percent() / 100, psutil.cpu_percent() / 100
        if now - self._read_at > CPU_SECONDS / 2:
            reading.cpu = max(reading.cpu, cpu)
            reading.machine = max(reading.machine, machine)
        reading.cpu_mean = (self._cpu_seconds() - self._used) / max(now - self._began, 1e-3)
        self._read_at = now

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def _nap(self, lag: float) -> None:
        self._naps += 1
        insort(self._lags, lag)
        if len(self._lags) > _KEPT:
            del self._lags[0]
        # The longest hundredth of all naps.
        behind = min(len(self._lags), self._naps // 100 + 1)
        self.reading.lag_p99 = self._lags[-behind]

    def _warn(self) -> None:
        limits = self.reading.limits()
        if limits and not self._warned:
            self._warned = True
            logger.warning("the load generator, and not its target, is the limit: %s", "; ".join(limits))
