"""What a planned stop waits for, and what it reports at the end.

    stop signal --> draining: no new sessions; the living ones go on, and clients may come back to them, until the
                    backlog is delivered or the time is over
                --> settling: no messages are taken any more; peers have a second to confirm what they were sent last
                --> stopped: clients are closed with 1012

A connected client may go on sending. What it sends while the proxy drains is delivered too. What it sends while the
proxy settles was not received, as if the socket had been closed a moment before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, Self

from .core.context import Context

#: Seconds between two checks of a condition.
CHECK_EVERY = 0.02


class Stopped(NamedTuple):
    """What a stop has ended: the number of sessions, and the messages of each direction that may be lost.

    Those that are undelivered were never sent; those that are uncertain were sent and not confirmed.
    """

    sessions: int = 0
    undelivered_c2u: int = 0
    undelivered_u2c: int = 0
    uncertain_c2u: int = 0
    uncertain_u2c: int = 0

    @classmethod
    def of(cls, ended: Collection[Context]) -> Self:
        """Sum up sessions that have ended."""
        return cls(
            len(ended),
            sum(each.c2u.undelivered for each in ended),
            sum(each.u2c.undelivered for each in ended),
            sum(each.c2u.uncertain for each in ended),
            sum(each.u2c.uncertain for each in ended),
        )

    @property
    def complete(self) -> bool:
        """Whether every message was delivered."""
        return not any(self[1:])


class Backlog:
    """What was owed to peers when a stop began.

    A stop waits for these messages, and for those that are kept for a peer that is away or does not read. It does not
    wait for later messages: while peers go on sending, some are always on their way.
    """

    def __init__(self, contexts: Iterable[Context]) -> None:
        """Remember the last message of each outbox."""
        self._last = {outbox: outbox.pushed for context in contexts for outbox in context.outboxes}

    def delivered(self, contexts: Iterable[Context]) -> bool:
        """Tell whether all of it is confirmed, and no outbox of the `contexts` holds messages that were not sent."""
        return not any(
            outbox.pending or outbox.confirmed < self._last.get(outbox, 0)
            for context in contexts
            for outbox in context.outboxes
        )


async def wait_until(reached: Callable[[], bool], seconds: float) -> None:
    """Wait until `reached` returns True, at most so many seconds."""
    deadline = time.monotonic() + seconds
    # An event would have to be set on the path of every message.
    while not reached() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(CHECK_EVERY)
