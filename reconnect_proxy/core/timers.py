"""Tens of thousands of timers, few of which ever fire: they share one timer of the event loop.

    call_later --> the slot of its moment, rounded up to GRAIN --> at that moment, each call that is left is made

A session always has a few timers, and sets and cancels others with each dial and each burst of messages. A timer of an
event loop takes half a KiB, and an entry of a heap. Here it is an entry of the dict of all that are due at about the
same time; the loop has one timer, for the first slot.

**A frozen process.** If the process was stopped for a while (SIGSTOP, a suspended machine), an event loop makes the
calls that have become due before it reads any socket. They would judge peers by what has not been read yet. So calls
that are LATE wait once more, for READ_FIRST: meanwhile the loop reads.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from .interfaces import Clock, Timer

#: Seconds by which a call may be late; and the grain of event loops, by which it may be early.
GRAIN = 0.01
_EARLY = 0.001
#: A delay of this many seconds or more is rounded up to COARSE grains, so that many timers share a slot.
LONG = 2.0
COARSE = 10
#: Calls that are so many seconds late were held up by the whole process, and wait for so many further seconds.
LATE = 1.0
READ_FIRST = 0.2


class SlotTimer:
    """A call that is still to come (`Timer`)."""

    __slots__ = ("callback", "slot")

    def __init__(self, callback: Callable[[], None], slot: dict[SlotTimer, None]) -> None:
        self.callback: Callable[[], None] | None = callback
        self.slot = slot

    def cancel(self) -> None:
        """Cancel the call."""
        self.callback = None
        self.slot.pop(self, None)


class Timers:
    """A `Clock` that needs only one timer of another clock."""

    __slots__ = ("_armed", "_clock", "_due", "_moments", "_slots", "_thawing", "_timer", "time")

    def __init__(self, clock: Clock) -> None:
        """Keep time by `clock`, an event loop or a counter."""
        #: The present time in seconds.
        self.time = clock.time
        self._clock = clock
        # For each moment, counted in GRAINs, its timers in the order in which they were set; and a heap of the moments.
        self._slots: dict[int, dict[SlotTimer, None]] = {}
        self._moments: list[int] = []
        # The timers whose moment has come, the last one first.
        self._due: list[SlotTimer] = []
        # The timer of `clock`, and the moment that it is for.
        self._timer: Timer | None = None
        self._armed: float = math.inf
        # The calls were LATE, and wait for sockets to be read.
        self._thawing = False

    def call_later(self, delay: float, callback: Callable[[], None], /) -> SlotTimer:
        """Call `callback` once, `delay` seconds from now or up to GRAIN later; for a LONG delay up to COARSE grains."""
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
        """Make no more calls."""
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
        late = self.time() - self._armed * GRAIN
        self._timer = None
        # Timers that are set meanwhile are seen when this is done.
        self._armed = -math.inf
        if not self._thawing and LATE <= late < math.inf:
            self._thawing = True
            self._timer = self._clock.call_later(READ_FIRST, self._on_time)
            return
        self._thawing = False
        last = (self.time() + _EARLY) / GRAIN
        while self._moments and self._moments[0] <= last:
            slot = self._slots.pop(heapq.heappop(self._moments))
            self._due[:0] = reversed(slot)
            # A slot and its timers refer to each other, and would keep ended sessions in memory.
            slot.clear()
        try:
            while self._due:
                callback = self._due.pop().callback
                if callback is not None:
                    callback()
        finally:
            # If a call has failed, its exception goes to the owner of the clock, and the other calls still follow.
            self._arm()
