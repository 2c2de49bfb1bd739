"""Timers by the ten thousand, of which hardly one ever runs out: they share one timer of the event loop.

    call_later --> the slot of its moment, rounded up to GRAIN --> that moment has come: each that is left is called

A session has some that are always set, and sets and cancels others with each dial and each burst of messages. A timer
of an event loop takes half a KiB, and a place in a heap. Here it is a place in the dict of all that are due at about
the same time; the loop has one timer, for the first slot.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from .clock import Clock, Timer

#: Seconds by which a call may be late; and the grain of event loops, by which it may be early.
GRAIN = 0.01
_EARLY = 0.001
#: From so many seconds on a delay is rounded up to COARSE grains, so that slots are shared by many.
LONG = 2.0
COARSE = 10


class SlotTimer:
    """A call that is still to come (`Timer`)."""

    __slots__ = ("callback", "slot")

    def __init__(self, callback: Callable[[], None], slot: dict[SlotTimer, None]) -> None:
        self.callback: Callable[[], None] | None = callback
        self.slot = slot

    def cancel(self) -> None:
        """Take the call back."""
        self.callback = None
        self.slot.pop(self, None)


class Timers:
    """A `Clock` that makes do with one timer of another one."""

    __slots__ = ("_armed", "_clock", "_due", "_moments", "_slots", "_timer", "time")

    def __init__(self, clock: Clock) -> None:
        """Keep time by `clock`, an event loop or a counter."""
        #: The present time in seconds.
        self.time = clock.time
        self._clock = clock
        # Those that are called at a moment, counted in GRAINs, in the order in which they were set; and the moments.
        self._slots: dict[int, dict[SlotTimer, None]] = {}
        self._moments: list[int] = []
        # Those whose moment has come, the last one first.
        self._due: list[SlotTimer] = []
        # The timer of `clock`, and the moment that it is for.
        self._timer: Timer | None = None
        self._armed: float = math.inf

    def call_later(self, delay: float, callback: Callable[[], None], /) -> SlotTimer:
        """Call `callback` once, `delay` seconds from now, or up to GRAIN later: COARSE times that if it is LONG."""
        moment = math.ceil((self.time() + delay) / GRAIN)
        if delay >= LONG:
            moment += -moment % COARSE
        slot = self._slots.get(moment)
        if slot is None:
            slot = self._slots[moment] = {}
            heapq.heappush(self._moments, moment)
            if moment < self._armed:
                self._arm()
        timer = SlotTimer(callback, slot)
        slot[timer] = None
        return timer

    def close(self) -> None:
        """Call nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            self._armed = -math.inf
            self._timer = self._clock.call_later(0.0, self._on_time)
        elif self._moments:
            self._armed = float(self._moments[0])
            self._timer = self._clock.call_later(max(0.0, self._armed * GRAIN - self.time()), self._on_time)
        else:
            self._armed = math.inf

    def _on_time(self) -> None:
        self._timer = None
        # Whatever is set meanwhile is seen when this is done.
        self._armed = -math.inf
        last = (self.time() + _EARLY) / GRAIN
        while self._moments and self._moments[0] <= last:
            slot = self._slots.pop(heapq.heappop(self._moments))
            self._due[:0] = reversed(slot)
            # A slot and its timers refer to each other, and through them sessions that are over would be kept.
            slot.clear()
        try:
            while self._due:
                callback = self._due.pop().callback
                if callback is not None:
                    callback()
        finally:
            # Where a call has failed, which is for the owner of the clock to see, the others follow.
            self._arm()
