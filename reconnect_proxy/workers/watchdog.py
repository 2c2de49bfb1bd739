"""Whether a worker responds: the supervisor asks it every second, and replaces one that has not answered for long.

A process may be there and do nothing: it was stopped by a signal, or a hook waits without an end. Its clients would
hang, and so would everything that asks all workers.

What counts is the number of questions without an answer, each with its own time, and not the time between two answers.
A machine that sleeps, or a program that is stopped as a whole, freezes the supervisor too: at most one answer is late.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

#: The longest time, in seconds, between two questions and for an answer. After this time a worker counts as silent.
LONGEST_STEP = 1.0
#: A worker is given up after at least so many questions without an answer.
FEWEST = 4


class Watchdog:
    """Watches one process of a worker."""

    def __init__(self, timeout: float | None) -> None:
        """Make a watchdog that gives a worker up after `timeout` seconds; None: never."""
        self._step = LONGEST_STEP if timeout is None else min(LONGEST_STEP, timeout / FEWEST)
        self._most = math.inf if timeout is None else math.ceil(timeout / self._step)
        #: Set while the worker does not respond.
        self.silence = asyncio.Event()

    async def run(self, ask: Callable[[float], Awaitable[object]]) -> None:
        """Return when the worker is to be given up.

        Args:
            ask: asks the worker, for at most so many seconds. Raises TimeoutError, or anything else if it has ended.
        """
        unanswered = 0
        while unanswered < self._most:
            try:
                await ask(self._step)
            except TimeoutError:
                unanswered += 1
                self.silence.set()
            else:
                unanswered = 0
                self.silence.clear()
                await asyncio.sleep(self._step)
