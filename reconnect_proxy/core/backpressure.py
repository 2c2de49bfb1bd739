"""The two exceptions to backpressure, where it would hold somebody back for ever, or too many.

The rule is `Context.regulate`: a full outbox stops the reading of the leg that feeds it, TCP holds the sender back, and
nothing is lost.

**Pongs.** What empties an outbox are Pongs, and they arrive on the leg that the other outbox may have stopped. With
both full, neither would ever empty. So a client that has been sent all that it is owed is read all the same, for its
Pongs alone; what it says besides lets `c2u` grow past its mark. That is an `Overdraft`, and it has a limit.

**Several clients.** A full outbox of one would hold the upstream back for all. The others wait for a second; then a
`SlowClientCheck` has shown whether that client is slow or the upstream is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .budget import MemoryBudget
from .clock import Clock
from .link import Link
from .outbox import Outbox

#: How far the `c2u` outbox may pass its high-water mark while the client is read for its Pongs alone, as a factor.
HARD_LIMIT = 2
#: How long, in seconds, the others wait for one of several clients that is past its high-water mark.
SLOW_AFTER = 1.0


class ReadForPongs:
    """What a full outbox holds of a peer that is read for its Pongs alone, from when that began."""

    __slots__ = ("_budget", "_held_at_first", "_outbox", "_slack")

    def __init__(self, outbox: Outbox, budget: MemoryBudget, slack: int) -> None:
        """Begin. `slack` is what the sockets may hold in front of a Pong, in bytes."""
        self._outbox = outbox
        self._budget = budget
        self._slack = slack
        self._held_at_first = outbox.bytes_held

    @property
    def exceeded(self) -> bool:
        """Whether it has grown too far.

        It may come to HARD_LIMIT times its mark, or pass the mark by what sockets may hold in front of a Pong; and
        where all sessions together hold too much, it may grow by what the budget allows.
        """
        held, mark, slack = self._outbox.bytes_held, self._outbox.high_water, self._slack
        too_much = held > max(HARD_LIMIT * mark, mark + slack)
        return too_much or held - self._held_at_first > self._budget.allowance(slack)


class SlowClientCheck:
    """Compares several clients of one stream by what they confirm within SLOW_AFTER seconds.

    A burst fills every outbox at once; then the upstream is held back, and nobody is slow yet. If none moves, none is
    slow: the upstream waits for them as it would for one.
    """

    __slots__ = ("_confirmed", "_timer")

    def __init__(self, clients: Sequence[Link], clock: Clock, over: Callable[[], None]) -> None:
        """Begin, with one of `clients` past its mark; `over` is called when it can be said who is `slow`."""
        self._confirmed = {client: client.outbox.confirmed for client in clients}
        self._timer = clock.call_later(SLOW_AFTER, over)

    def stop(self) -> None:
        """Compare no longer."""
        self._timer.cancel()

    def slow(self, clients: Sequence[Link]) -> list[Link]:
        """Return those of `clients` that are past their mark while another moves much faster, or has all.

        Who has come since it began has not run with the others: it shows nothing of them, nor they of it.
        """
        runners = [client for client in clients if client in self._confirmed]
        moved = {client: client.outbox.confirmed - self._confirmed[client] for client in runners}
        most = max(moved.values(), default=0)
        one_has_all = any(not client.outbox for client in runners)
        return [client for client in runners if client.outbox.full and (one_has_all or 2 * moved[client] < most)]
