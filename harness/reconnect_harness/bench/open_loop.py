"""An open loop: messages are due at planned moments, and do not wait for answers.

A generator that sends its next message when the last one is answered measures a proxy that stalls for a second only
once: it omits the messages that it would have sent meanwhile (coordinated omission). Here each message has its moment
before the run begins, and its latency counts from that moment, whenever it was really sent.
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

#: How often the schedule is checked where there is no exact timer, in seconds.
_TICK = 0.001


@dataclass(slots=True)
class Schedule:
    """Moments at equal distances: the k-th (from 0) is at `start` + k / `rate`, in seconds.

    `taken` is how many moments `due` has yielded.
    """

    start: float
    rate: float
    taken: int = 0

    def moment(self, k: int) -> float:
        """Return the k-th moment."""
        return self.start + k / self.rate

    def due(self, now: float) -> Iterator[tuple[int, float]]:
        """Yield each moment up to `now` that was not yielded before, with its number."""
        while (moment := self.moment(self.taken)) <= now:
            self.taken += 1
            yield self.taken - 1, moment


@contextlib.contextmanager
def called_on(schedule: Schedule, call: Callable[[], None]) -> Iterator[None]:
    """Call `call` at each moment of a schedule, or a little later, while the context lasts (time.monotonic()).

    Timers of event loops count in milliseconds, which is coarse when a message takes a tenth of one. On Linux a timer
    with nanoseconds is used, which is a file.
    """
    loop = asyncio.get_running_loop()
    if sys.platform != "linux":
        task = asyncio.ensure_future(_every_tick(call))
        try:
            yield
        finally:
            task.cancel()
        return
    timer = _timer(schedule)

    def expired() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(timer, 8)
        call()

    loop.add_reader(timer, expired)
    try:
        yield
    finally:
        loop.remove_reader(timer)
        os.close(timer)


async def _every_tick(call: Callable[[], None]) -> None:
    while True:
        call()
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
        raise OSError(number, f"no timer could be made: {os.strerror(number)}")
    return timer
