"""How late the event loop runs what is due: the one number that tells that a process has too much to do.

Every message waits for its turn of the loop, so what delays a timer delays them all. One timer a second is cheap enough
to be left on, and a stall is seen by the timer that was due in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds between two samples.
INTERVAL = 1.0


@contextmanager
def lag_of_loop(observe: Callable[[float], None]) -> Iterator[None]:
    """Call `observe` once a second with the seconds by which the running loop was late, until the block ends."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def wait() -> None:
        nonlocal timer
        timer = loop.call_later(INTERVAL, sample, time.monotonic() + INTERVAL)

    def sample(due: float) -> None:
        # Not the loop's own clock: it stands still while a turn of the loop lasts.
        observe(max(0.0, time.monotonic() - due))
        wait()

    wait()
    try:
        yield
    finally:
        timer.cancel()
