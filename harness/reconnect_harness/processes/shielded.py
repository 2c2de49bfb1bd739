"""Blocking calls that are made to their end, even if the task that waits for them is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_shielded(call: Callable[[], T], hurry: Callable[[], None] = lambda: None) -> T:
    """Make a blocking call in a thread, and return its result.

    When cancelled, wait for the call to end before the cancellation is raised: a link must not be healed while a fault
    still changes it, nor a container be removed while it is being made. `hurry` is called at the cancellation, to make
    a call that waits for something return soon.
    """
    made = asyncio.ensure_future(asyncio.to_thread(call))
    cancelled: asyncio.CancelledError | None = None
    while not made.done():
        try:
            await asyncio.wait([made])
        except asyncio.CancelledError as request:
            cancelled = request
            hurry()
    if cancelled is not None:
        raise cancelled from made.exception()
    return made.result()
