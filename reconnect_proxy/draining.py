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
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .core.context import Context

#: Seconds between two checks of a condition.
CHECK_EVERY = 0.02


class Stopped(NamedTuple):
    """What a stop has ended: the number of sessions, and the messages of each direction that were not delivered."""

    sessions: int
    undelivered_c2u: int
    undelivered_u2c: int


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
