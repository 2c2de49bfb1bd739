"""Virtual time: a clock whose seconds pass when the simulation says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

#: More calls than this within one `advance` mean that timers set each other without end.
MAX_CALLS = 1_000_000


class VirtualTimer:
    """A call that is still to be made; satisfies `reconnect_proxy.core.interfaces.Timer`."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """A clock that `advance` moves; satisfies `reconnect_proxy.core.interfaces.Clock`.

    Attributes:
        now: the present time in seconds.

    """

    def __init__(self, start: float = 0.0) -> None:
        self.now = start
        self._due: list[tuple[float, int, VirtualTimer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> VirtualTimer:
        """Call `callback` once, after `delay` seconds."""
        timer = VirtualTimer(callback)
        heapq.heappush(self._due, (self.now + max(0.0, delay), next(self._order), timer))
        return timer

    def freeze(self, seconds: float) -> None:
        """Let so much time pass and make no call: those that have become due are made at the next `advance`, late."""
        self.now += seconds
        self._due = [(max(due, self.now), order, timer) for due, order, timer in self._due]
        heapq.heapify(self._due)

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and make the calls that are due, each at its time."""
        until = self.now + seconds
        calls = 0
        while self._due and self._due[0][0] <= until:
            due, _, timer = heapq.heappop(self._due)
            if timer.callback is not None:
                self.now = due
                callback, timer.callback = timer.callback, None
                callback()
                calls += 1
                assert calls < MAX_CALLS, "the timers set each other without end"
        self.now = until
