"""Blocking calls that are made to their end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_shielded(call: Callable[[], T], hurry: Callable[[], None] = lambda: None) -> T:
    """Make a blocking call in a thread. When cancelled, wait for it all the same, and then be cancelled: nobody
    may heal a link that is still being harmed, or remove a container that is still being made. `hurry` is called
    then, to tell a call that waits for something to wait no longer."""
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
