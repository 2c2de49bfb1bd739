"""An open loop: messages have moments at which they are due, and these do not wait for answers.

A generator that sends its next message when the last one is answered measures a proxy that stalls for a second once,
and not a thousand times: it omits what it would have sent meanwhile (coordinated omission). Here each message has its
moment before the run begins, and its latency counts from that moment, whenever it was really sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_NANO = 1_000_000_000

# <bits/time.h>, <sys/timerfd.h>
_CLOCK_MONOTONIC, _TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = 1, 0o4000, 0o2000000, 1

#: How often an ordinary timer is looked at where there is none that is exact, in seconds.
_TICK = 0.001


@dataclass(slots=True)
class Schedule:
    """Moments at an even distance: the k-th (from 0) is at `start` + k / `rate`. Seconds, and moments a second."""

    start: float
    rate: float
    taken: int = 0

    def moment(self, k: int) -> float:
        """Return the k-th moment."""
        return self.start + k / self.rate

    def due(self, now: float) -> Iterator[tuple[int, float]]:
        """Yield each moment that has come and was not yielded before, with its number."""
        while (moment := self.moment(self.taken)) <= now:
            self.taken += 1
            yield self.taken - 1, moment


@contextlib.contextmanager
def beating(schedule: Schedule, beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` at, or a little after, each moment of a schedule on time.monotonic(), while the context lasts.

    Timers of event loops count milliseconds, which is much where a message takes a tenth of one; Linux has a timer that
    counts nanoseconds and is a file.
    """
    loop = asyncio.get_running_loop()
    if sys.platform != "linux":
        task = asyncio.ensure_future(_every_tick(beat))
        try:
            yield
        finally:
            task.cancel()
        return
    timer = _timer(schedule)

    def expired() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(timer, 8)
        beat()

    loop.add_reader(timer, expired)
    try:
        yield
    finally:
        loop.remove_reader(timer)
        os.close(timer)


async def _every_tick(beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(_TICK)


def _timer(schedule: Schedule) -> int:
    """Make a file that becomes readable at each moment of the schedule: timerfd_create(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = int(libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC))
    # struct itimerspec: the distance, then the first moment; seconds and nanoseconds each.
    distance = max(1, round(_NANO / schedule.rate))
    first = max(round(schedule.start * _NANO), time.monotonic_ns() + 1)
    value = (ctypes.c_long * 4)(*divmod(distance, _NANO), *divmod(first, _NANO))
    if timer < 0 or libc.timerfd_settime(timer, _TFD_TIMER_ABSTIME, value, None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no timer can be had: {os.strerror(number)}")
    return timer
