"""How fast one client may send: a rate that is kept without losing anything.

A client that is too fast is not read for a while, and TCP holds it back. It is not sent away: one that comes back after
an outage brings what it has saved up all at once, and that is what this proxy is for. The rate is kept by one number,
the time at which the client will have been as slow as it should (the generic cell rate algorithm): a message moves it
on by `1 / rate`, and while it lies in the future the client is not read. One second's worth may come at once.

What one read of the socket brings is taken in any case, so a burst of tiny messages can pass the rate for a moment; it
pays for that with a longer pause. Pongs are not read meanwhile either, as with any leg that is held back: that delays
what the session can forget, and by no more than the pause.
"""

from __future__ import annotations

from collections.abc import Callable

from .clock import Clock, Timer
from .link import Link

#: Seconds' worth of messages that may come at once.
BURST = 1.0
#: Timers have a grain of a millisecond: what is left below that has passed.
GRAIN = 0.001


class Throttle:
    """Counts one client's messages, and says while it is not to be read."""

    __slots__ = ("_changed", "_clock", "_deliver", "_due", "_interval", "_timer")

    def __init__(
        self,
        rate: float,
        clock: Clock,
        deliver: Callable[[Link, int, bytes], None],
        changed: Callable[[bool], None],
    ) -> None:
        """Make a throttle for `rate` messages a second.

        Args:
            rate: messages a second.
            clock: an event loop, or a counter.
            deliver: takes each message, whether or not it came too soon.
            changed: told True when the client is to be held back from now on, and False when it is not any more.
        """
        self._interval = 1.0 / rate
        self._clock = clock
        self._deliver = deliver
        self._changed = changed
        self._due = clock.time() - BURST
        self._timer: Timer | None = None

    @property
    def holding(self) -> bool:
        """Whether the client is not to be read."""
        return self._timer is not None

    def deliver(self, link: Link, opcode: int, payload: bytes) -> None:
        """Pass a message on, and hold the client back if it came too soon."""
        now = self._clock.time()
        self._due = max(self._due, now - BURST) + self._interval
        self._deliver(link, opcode, payload)
        if self._timer is None and self._due > now + GRAIN and not link.dead:
            self._timer = self._clock.call_later(self._due - now, self._on_time)
            self._changed(True)

    def stop(self) -> None:
        """Hold nobody back any more; the count stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        left = self._due - self._clock.time()
        # More came, of what had been read already.
        if left > GRAIN:
            self._timer = self._clock.call_later(left, self._on_time)
        else:
            self._changed(False)
