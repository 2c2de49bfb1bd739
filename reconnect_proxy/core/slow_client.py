"""Which of several clients of one stream is slow, so that the others need not wait for it.

A full outbox of one client of a shared session holds the upstream back, and so every other client. They wait for
SLOW_AFTER seconds. By then a comparison of what each has confirmed shows whether that client is slow or the upstream is
fast: a burst fills every outbox at once, and no client is slow yet. If none moves, none is slow, and the upstream waits
for them as it would for a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .interfaces import Clock
from .link import Link

#: How long, in seconds, the others wait for one of several clients that is past its high-water mark.
SLOW_AFTER = 1.0


class SlowClientCheck:
    """Compares several clients of one stream by what they confirm within SLOW_AFTER seconds."""

    __slots__ = ("_confirmed", "_timer")

    def __init__(self, clients: Sequence[Link], clock: Clock, over: Callable[[], None]) -> None:
        """Begin, with one of `clients` past its mark. `over` is called when `slow` can be asked."""
        self._confirmed = {client: client.outbox.confirmed for client in clients}
        self._timer = clock.call_later(SLOW_AFTER, over)

    def stop(self) -> None:
        """Compare no longer."""
        self._timer.cancel()

    def slow(self, clients: Sequence[Link]) -> list[Link]:
        """Return those of `clients` that are past their mark while another moves much faster, or has everything.

        A client that came after the beginning takes no part: it shows nothing of the others, nor they of it.
        """
        compared = [client for client in clients if client in self._confirmed]
        moved = {client: client.outbox.confirmed - self._confirmed[client] for client in compared}
        most = max(moved.values(), default=0)
        one_has_all = any(not client.outbox for client in compared)
        return [client for client in compared if client.outbox.full and (one_has_all or 2 * moved[client] < most)]
