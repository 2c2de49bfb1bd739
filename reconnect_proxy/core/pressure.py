"""While all sessions together hold too much: end those whose peers do not read, the largest first.

`MemoryBudget` holds senders back while the sum is above its limit, and new sessions are refused. Sessions whose peers
read empty by themselves. A peer that does not read keeps what it is owed in memory until `stall_timeout` has ended its
link, and then for its grace; a client that wants to do harm comes back. So while the sum is too high, a session whose
peer has accepted no byte for STALLED seconds ends, and with it what it holds:

    budget tight --> every LOOK seconds: the sessions that are stalled, the largest first --> 1013
         ^                                                                                     |
         +------------------------- until the sum is below the relief mark --------------------+

A session that moves is not touched, however much it holds. Neither is the shared session of `receiver` mode: it belongs
to no single client, and those of its clients that are too slow are closed anyway (`slow_client`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..events import Limit
from .budget import MemoryBudget
from .context import Context
from .interfaces import Clock

#: Seconds between two looks, and for how long a peer must have refused bytes.
LOOK = 1.0
STALLED = 10.0


class Pressure:
    """Frees memory that is held for peers which do not read, while a budget is tight."""

    __slots__ = ("_budget", "_clock", "_looking", "_sessions")

    def __init__(self, budget: MemoryBudget, sessions: Callable[[], Iterable[Context]], clock: Clock) -> None:
        """Watch nothing yet: `begin` is called when the budget becomes tight.

        Args:
            budget: counts what the sessions hold.
            sessions: returns all that have not ended and belong to one client each.
            clock: an event loop, or a counter.
        """
        self._budget = budget
        self._sessions = sessions
        self._clock = clock
        self._looking = False

    def begin(self) -> None:
        """Look now, to know who accepts bytes from now on, and again until the budget is not tight."""
        if not self._looking:
            self._looking = True
            self._clock.call_later(0.0, self._look)

    def _look(self) -> None:
        if not self._budget.exceeded:
            self._looking = False
            return
        stalled = [(held, context) for context in self._sessions() if (held := self._held_by_stalled(context))]
        for held, context in sorted(stalled, key=lambda each: each[0], reverse=True):
            if not self._budget.exceeded:
                break
            detail = f"{held} bytes are held for a peer that has accepted none for {STALLED:g} s, and all hold too much"
            context.end_at(Limit.STALLED, detail, 1013, "too much is held for a peer that does not read")
        self._clock.call_later(LOOK, self._look)

    def _held_by_stalled(self, context: Context) -> int:
        """Return how many bytes a session holds for peers that accept none."""
        large = [link for link in context.links if link.outbox.bytes_held > self._budget.floor]
        return sum(link.outbox.bytes_held for link in large if link.stalled >= STALLED)
