"""The bytes that all sessions hold together, and how they are kept near a limit.

Each outbox has a mark of its own (`Outbox.high_water`). That bounds a session, but a thousand sessions may hold a
thousand times as much. So all outboxes of a proxy count into one `Budget`. While the sum is above its limit, an outbox
counts as full from FLOOR bytes on: whoever feeds it is no longer read, TCP holds them back, and nothing is lost. Below
FLOOR a session goes on as ever, so that those which hold little do not notice those which hold much.

    Outbox.push ----held +=--->  Budget  --above the limit-->  `tight`: push calls an outbox full from FLOOR on
    Outbox.confirm --held -=-->          --below RELIEF of it-->  those squeezed outboxes are called full no longer

The sum is exact: what an outbox holds is taken out when it is confirmed, and when the outbox is given up with its
session or its client. What is owed to several clients of a shared session counts for each of them, although they share
one payload: the sum says what is owed, and is never less than what is used.

Nobody waits for anybody else here. A session whose outboxes are squeezed empties them by itself, by the rules that
`Context.regulate` has for full ones; the others' relief only comes on top.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Protocol

from ..events import HeldLimitReached, HeldLimitRelieved, Observe
from .clock import Clock

#: Bytes that each outbox may hold whatever the others hold.
FLOOR = 64 * 1024
#: The sum is no longer too much below this share of the limit; in between nothing changes.
RELIEF = 0.875
#: Where reading must go on for the sake of Pongs, the sum may come to so many times the limit.
HARD_LIMIT = 2
#: Squeezed outboxes that are relieved at a time, before other events have their turn.
RELIEVED_AT_ONCE = 64


class Squeezed(Protocol):
    """An outbox that counts as full for the sake of the sum alone."""

    def relieve(self) -> None:
        """Stop counting as full, unless for a reason of its own."""


class MemoryBudget:
    """The sum of what the outboxes of a proxy hold, and its limit."""

    __slots__ = ("_clock", "_observe", "_relieving", "_since", "floor", "held", "limit", "squeezed", "tight")

    def __init__(
        self,
        limit: int | None = None,
        clock: Clock | None = None,
        observe: Observe | None = None,
        floor: int = FLOOR,
    ) -> None:
        """Make a budget nothing of which is used.

        Args:
            limit: bytes that may be held in all, None for as many as come.
            clock: an event loop, or a counter; needed with a limit.
            observe: hears when the limit is reached, and when that is over; needed with a limit.
            floor: bytes that each outbox may hold whatever the others hold.
        """
        # What is held, counted as by `Outbox.bytes_held`. Outboxes add to it and take out of it.
        self.held = 0
        self.limit = limit
        self.floor = floor
        # Too much is held: latched above the limit, released below RELIEF of it.
        self.tight = False
        # The outboxes that count as full for that, in the order in which that began.
        self.squeezed: dict[Squeezed, None] = {}
        self._clock = clock
        self._observe = observe
        self._since = 0.0
        self._relieving = False

    @property
    def exceeded(self) -> bool:
        """Whether more is held than may be: no new session is to be made."""
        return self.limit is not None and (self.tight or self.held > self.limit)

    def presses(self) -> bool:
        """Tell whether an outbox above the floor is to count as full."""
        if not self.tight and self.limit is not None and self.held > self.limit:
            assert self._clock is not None and self._observe is not None, "a limit needs both"
            self.tight = True
            self._since = self._clock.time()
            self._observe(HeldLimitReached(self.held, self.limit))
        return self.tight

    def allowance(self, slack: int) -> float:
        """Return how many bytes an outbox may grow by for no other reason than that a Pong behind them is awaited.

        Twice the floor, and what is left of the hard limit: as the sum comes near that, those sessions go first that
        are furthest from answering. `slack` is what sockets may hold in front of a Pong.
        """
        if not self.tight or self.limit is None:
            return math.inf
        return HARD_LIMIT * self.floor + max(0, HARD_LIMIT * self.limit + slack - self.held)

    def give_back(self, size: int) -> None:
        """Take `size` bytes out of the sum."""
        self.held -= size
        if self.tight:
            assert self._clock is not None and self._observe is not None and self.limit is not None, "it was reached"
            if self.held < RELIEF * self.limit:
                self.tight = False
                self._observe(HeldLimitRelieved(self.held, self._clock.time() - self._since))
                self._relieve_soon()

    def _relieve_soon(self) -> None:
        # Not at once: an outbox gives back in the midst of something that its session does.
        if self.squeezed and not self._relieving:
            assert self._clock is not None, "a limit needs one"
            self._relieving = True
            self._clock.call_later(0.0, self._relieve)

    def _relieve(self) -> None:
        """Relieve some, those first that have waited longest: all at once might fill the sum again at once."""
        self._relieving = False
        if not self.tight:
            for outbox in list(islice(self.squeezed, RELIEVED_AT_ONCE)):
                if outbox not in self.squeezed:
                    # What the one before was relieved for has ended this one.
                    continue
                del self.squeezed[outbox]
                outbox.relieve()
                if self.tight:
                    return
            self._relieve_soon()
