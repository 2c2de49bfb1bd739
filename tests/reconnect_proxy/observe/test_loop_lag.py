"""The lag of the event loop: next to nothing while it has time, and as long as the stall when it has none."""

from __future__ import annotations

import asyncio
import time

import pytest

from reconnect_proxy.observe import loop_lag
from reconnect_proxy.observe.loop_lag import lag_of_loop


async def test_a_stall_is_seen_by_the_sample_that_was_due_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the loop is blocked for 100 ms, the sample is what was left of them when the timer was due."""
    monkeypatch.setattr(loop_lag, "INTERVAL", 0.01)
    seen: asyncio.Queue[float] = asyncio.Queue()
    with lag_of_loop(seen.put_nowait):
        assert await seen.get() >= 0
        # A program at fault: it does not let the loop go on.
        time.sleep(0.1)  # noqa: ASYNC251
        while await seen.get() < 0.08:
            pass


async def test_nothing_is_sampled_behind_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer is gone with it: one that is due at once would fire in the next turns of the loop."""
    monkeypatch.setattr(loop_lag, "INTERVAL", 0.0)
    seen: asyncio.Queue[float] = asyncio.Queue()
    with lag_of_loop(seen.put_nowait):
        await seen.get()
        await seen.get()
    while not seen.empty():
        seen.get_nowait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert seen.empty()
