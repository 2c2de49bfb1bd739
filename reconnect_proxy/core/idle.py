"""Notices that nothing moves any more, without a timer for each message: it looks at a count from time to time."""

from __future__ import annotations

from collections.abc import Callable

from .interfaces import Clock, Timer

#: How many times it looks within the time after which a session counts as idle.
LOOKS = 4


class IdleWatch:
    """Calls back when a count has not changed for some time. It notices that within a quarter of that time."""

    __slots__ = ("_clock", "_count", "_last", "_moved_at", "_on_idle", "_timer", "timeout")

    def __init__(
        self, timeout: float, clock: Clock, count: Callable[[], int | None], on_idle: Callable[[], None]
    ) -> None:
        """Start watching.

        Args:
            timeout: seconds for which the count must not change.
            clock: an event loop, or a counter.
            count: returns a number that changes with every message, or None while there is nothing to judge.
            on_idle: called once; then the watch is over.
        """
        self.timeout = timeout
        self._clock = clock
        self._count = count
        self._on_idle = on_idle
        self._last: int | None = None
        self._moved_at = clock.time()
        self._timer: Timer | None = None
        self._look()

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now, count = self._clock.time(), self._count()
        if count is None or count != self._last:
            self._last = count
            self._moved_at = now
        elif now >= self._moved_at + self.timeout:
            self._on_idle()
            return
        self._timer = self._clock.call_later(self.timeout / LOOKS, self._look)
