"""The bytes that all sessions hold together, and how they are kept near a limit.

Each outbox has a high-water mark of its own. That bounds a session, but a thousand sessions may hold a thousand times
as much. So all outboxes of a proxy count into one `MemoryBudget`. While the sum is above its limit, an outbox counts as
full from FLOOR bytes on: its sender is not read, TCP holds it back, and nothing is lost. Below FLOOR a session goes on
as before, so that sessions which hold little do not notice those which hold much.

    Outbox.push ----held +=--->  MemoryBudget  --above the limit-->  `tight`: an outbox is full from FLOOR on
    Outbox.confirm --held -=-->                --below RELIEF of it-->  the outboxes held back for that are relieved

The sum is exact: what an outbox holds is taken out when it is confirmed, and when the outbox is given up with its
session or its client. What is owed to several clients of a shared session counts for each of them, although they share
one payload: the sum says what is owed, and is never less than the memory used.

`Pressure` ends sessions whose peers do not read. No session waits for another here. One whose outboxes are held back
empties them by itself, by the rules that
`Backpressure` has for full ones; relief through others only comes on top.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from ..events import HeldLimitReached, HeldLimitRelieved, Observe
from .interfaces import BudgetMember, Clock

#: Bytes that each outbox may hold, however much the others hold.
FLOOR = 64 * 1024
#: The sum is no longer too much below this share of the limit; between the two nothing changes.
RELIEF = 0.875
#: Where reading must go on for the sake of Pongs, the sum may reach this many times the limit.
HARD_LIMIT = 2
#: Outboxes that are relieved at a time, before other events have their turn.
RELIEVED_AT_ONCE = 64


class MemoryBudget:
    """The sum of what outboxes hold, without a limit."""

    __slots__ = ("held", "held_back", "on_tight")

    #: Bytes that may be held in all (None: any number), and in each outbox however much the others hold.
    limit: int | None = None
    floor: float = math.inf

    def __init__(self) -> None:
        """Make a budget with nothing held."""
        # What is held, counted as by `Outbox.bytes_held`. Outboxes add to it and take out of it.
        self.held = 0
        # The outboxes that count as full because too much is held, in the order in which that began.
        self.held_back: dict[BudgetMember, None] = {}
        # Called when too much is held.
        self.on_tight: Callable[[], None] = lambda: None

    @property
    def exceeded(self) -> bool:
        """Whether more is held than the limit: no new session is to be made."""
        return False

    def presses(self) -> bool:
        """Tell whether an outbox above the floor is to count as full."""
        return False

    def allowance(self, slack: int) -> float:
        """Return by how many bytes an outbox may grow while its sender is read for Pongs alone."""
        return math.inf

    def give_back(self, size: int) -> None:
        """Take `size` bytes out of the sum."""
        self.held -= size


class LimitedBudget(MemoryBudget):
    """The sum of what outboxes hold, and its limit."""

    __slots__ = ("_clock", "_observe", "_relieving", "_since", "floor", "limit", "tight")

    limit: int
    floor: int

    def __init__(self, limit: int, clock: Clock, observe: Observe, floor: int = FLOOR) -> None:
        """Make a budget with nothing held.

        Args:
            limit: bytes that may be held in all.
            clock: an event loop, or a counter.
            observe: hears when the limit is reached, and when that is over.
            floor: bytes that each outbox may hold, however much the others hold.
        """
        super().__init__()
        self.limit = limit
        self.floor = floor
        # Too much is held: set above the limit, cleared below RELIEF of it.
        self.tight = False
        self._clock = clock
        self._observe = observe
        self._since = 0.0
        self._relieving = False

    @property
    def exceeded(self) -> bool:
        """Whether more is held than the limit: no new session is to be made."""
        return self.tight or self.held > self.limit

    def presses(self) -> bool:
        """Tell whether an outbox above the floor is to count as full."""
        if not self.tight and self.held > self.limit:
            self.tight = True
            self._since = self._clock.time()
            self._observe(HeldLimitReached(self.held, self.limit))
            self.on_tight()
        return self.tight

    def allowance(self, slack: int) -> float:
        """Return by how many bytes an outbox may grow while its sender is read for Pongs alone.

        Twice the floor, and what is left of the hard limit. As the sum approaches that, the sessions furthest from
        answering end first. `slack` is what sockets may hold in front of a Pong.
        """
        if not self.tight:
            return math.inf
        return HARD_LIMIT * self.floor + max(0, HARD_LIMIT * self.limit + slack - self.held)

    def give_back(self, size: int) -> None:
        """Take `size` bytes out of the sum."""
        self.held -= size
        if self.tight and self.held < RELIEF * self.limit:
            self.tight = False
            self._observe(HeldLimitRelieved(self.held, self._clock.time() - self._since))
            self._relieve_soon()

    def _relieve_soon(self) -> None:
        # Not at once: an outbox gives back in the middle of an action of its session.
        if self.held_back and not self._relieving:
            self._relieving = True
            self._clock.call_later(0.0, self._relieve)

    def _relieve(self) -> None:
        """Relieve some outboxes, those first that have waited longest: all at once might fill the sum again."""
        self._relieving = False
        if not self.tight:
            for outbox in list(islice(self.held_back, RELIEVED_AT_ONCE)):
                if outbox not in self.held_back:
                    # The relief of the one before has ended this one.
                    continue
                del self.held_back[outbox]
                outbox.relieve()
                if self.tight:
                    return
            self._relieve_soon()


def make_budget(limit: int | None, clock: Clock, observe: Observe, floor: int = FLOOR) -> MemoryBudget:
    """Return a budget with this limit, or without one. For the arguments see `LimitedBudget`."""
    return MemoryBudget() if limit is None else LimitedBudget(limit, clock, observe, floor)
