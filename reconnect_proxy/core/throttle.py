"""How fast one client may send: a message rate that is kept without losing anything.

A client that is too fast is not read for a while, and TCP holds it back. It is not closed: one that comes back after an
outage sends everything it has saved at once, and that is what this proxy is for. The rate is kept by one number, the
time at which the client will have been as slow as it should (the generic cell rate algorithm). Each message moves it on
by `1 / rate`, and while it lies in the future the client is not read. One second's worth of messages may come at once.

What one read of the socket brings is taken in any case, so a burst of tiny messages can pass the rate for a moment; the
pause is longer for it. Pongs are not read meanwhile either, as on any leg that is held back. That delays what the
session can forget, and by no more than the pause.
"""

from __future__ import annotations

from collections.abc import Callable

from .interfaces import Clock, Deliver, Timer
from .link import GRAIN, Link

#: Seconds' worth of messages that may come at once.
BURST = 1.0


class Throttle:
    """Counts one client's messages, and says while it is not to be read."""

    __slots__ = ("_changed", "_clock", "_deliver", "_due", "_interval", "_timer")

    def __init__(self, rate: float, clock: Clock, deliver: Deliver, changed: Callable[[bool], None]) -> None:
        """Make a throttle for `rate` messages a second.

        Args:
            rate: messages a second.
            clock: an event loop, or a counter.
            deliver: takes each message, whether or not it came too soon.
            changed: called with True when the client is to be held back, and with False when it is not any more.
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

    def deliver(self, opcode: int, payload: bytes, now: float | None) -> None:
        """Pass a message on, and hold the client back if it came too soon."""
        if now is None:
            now = self._clock.time()
        self._due = max(self._due, now - BURST) + self._interval
        begins = self._timer is None and self._due > now + GRAIN
        if begins:
            self._timer = self._clock.call_later(self._due - now, self._on_time)
        self._deliver(opcode, payload, now)
        # The message may have ended the link, and that stops this throttle.
        if begins and self._timer is not None:
            self._changed(True)

    def stop(self) -> None:
        """Hold the client back no longer; the count stays."""
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


class ClientRates:
    """The throttles of one session's clients. A client cannot get rid of its count by coming back on a new link."""

    __slots__ = ("_absent", "_changed", "_clock", "_deliver", "_rate", "_throttles")

    def __init__(self, rate: float, clock: Clock, deliver: Deliver, changed: Callable[[bool], None]) -> None:
        """Keep each client to `rate` messages a second. For the arguments see `Throttle`."""
        self._rate = rate
        self._clock = clock
        self._deliver = deliver
        self._changed = changed
        self._throttles: dict[Link, Throttle] = {}
        # That of the client that has left, until it comes back.
        self._absent: Throttle | None = None

    def next_throttle(self) -> Throttle:
        """Return the throttle of a client that is about to attach."""
        absent, self._absent = self._absent, None
        return absent or Throttle(self._rate, self._clock, self._deliver, self._changed)

    def attach(self, link: Link, throttle: Throttle) -> None:
        """Keep the client behind `link` to the rate with `throttle`."""
        self._throttles[link] = throttle

    def detach(self, link: Link, comes_back: bool) -> None:
        """Stop the throttle of a link; with `comes_back` the next client is the same one, and finds its count again."""
        throttle = self._throttles.pop(link)
        throttle.stop()
        if comes_back:
            self._absent = throttle

    def too_fast(self, link: Link) -> bool:
        """Tell whether the client behind `link` is not to be read."""
        return self._throttles[link].holding
