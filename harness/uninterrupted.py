"""Blocking calls that are made to their end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def uninterrupted(call: Callable[[], T]) -> T:
    """Make a blocking call in a thread. When cancelled, wait for it all the same, and then be cancelled: nobody
    may heal a link that is still being harmed, or remove a container that is still being made."""
    made = asyncio.ensure_future(asyncio.to_thread(call))
    cancelled: asyncio.CancelledError | None = None
    while not made.done():
        try:
            await asyncio.wait([made])
        except asyncio.CancelledError as request:
            cancelled = request
    if cancelled is not None:
        raise cancelled from made.exception()
    return made.result()
