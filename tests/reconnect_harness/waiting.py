"""Waiting for what another process does: there is no event to await, only its traces to look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

#: How long anything may take on a busy machine, in seconds, before the test fails.
PATIENCE = 60.0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition` holds; TimeoutError if it never does."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.02)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds, in code that is not asynchronous."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it has not come about in {PATIENCE:g} s")
        time.sleep(0.02)
