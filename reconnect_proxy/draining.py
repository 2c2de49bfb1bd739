"""What a planned stop waits for, and what it has to say in the end.

    told to stop --> draining: no new sessions; those that there are go on, and clients may come back to them,
                     until the backlog is delivered, or the time is over
                 --> settling: no messages are taken any more; peers have a second to confirm what they were sent last
                 --> stopped: clients are closed with 1012

A client that is there can talk as long as it likes: what it says while the proxy drains is delivered too, and what it
says when the proxy settles was not received, as if the socket had been closed a moment before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .core.context import Context

#: Seconds between two looks at what is waited for.
LOOK_EVERY = 0.02


class Stopped(NamedTuple):
    """What a stop has ended: so many sessions, and the messages of each direction that they could not deliver."""

    sessions: int
    undelivered_c2u: int
    undelivered_u2c: int


class Backlog:
    """What was owed to peers when a stop began.

    A stop waits for that, and for what is kept for a peer that is not there or takes no more; not for the talk that
    goes on, since of that something is always on its way.
    """

    def __init__(self, contexts: Iterable[Context]) -> None:
        """Take note of the last message of each outbox."""
        self._last = {outbox: outbox.pushed for context in contexts for outbox in context.outboxes}

    def delivered(self, contexts: Iterable[Context]) -> bool:
        """Tell whether all of it is confirmed by now, and nothing of the `contexts` is kept back."""
        return not any(
            outbox.pending or outbox.confirmed < self._last.get(outbox, 0)
            for context in contexts
            for outbox in context.outboxes
        )


async def wait_until(reached: Callable[[], bool], seconds: float) -> None:
    """Wait until `reached`, `seconds` at the most."""
    deadline = time.monotonic() + seconds
    # An event instead would have to be set on the path of every message.
    while not reached() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY)
