"""The open loop: moments that do not wait for answers."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from reconnect_harness.bench import open_loop
from reconnect_harness.bench.open_loop import Schedule, called_on


def test_moments_are_at_an_even_distance_and_do_not_drift() -> None:
    """The millionth one is exact, however late the earlier ones were taken."""
    schedule = Schedule(start=100.0, rate=1000.0)
    assert [schedule.moment(k) for k in (0, 1, 1_000_000)] == pytest.approx([100.0, 100.001, 1100.0])


def test_each_moment_comes_once_and_none_is_left_out() -> None:
    """After a stall all missed ones come at once, with the moments at which they were due."""
    schedule = Schedule(start=0.0, rate=2.0)
    assert list(schedule.due(-1.0)) == []
    assert list(schedule.due(0.0)) == [(0, 0.0)]
    assert list(schedule.due(0.4)) == []
    assert list(schedule.due(2.0)) == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert list(schedule.due(2.0)) == []


@pytest.mark.parametrize("exact", [True, False])
async def test_every_moment_makes_a_call(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a timer of the system, or else with the loop's; no moment is early."""
    if exact and sys.platform != "linux":
        pytest.skip("the timer is one of Linux")
    if not exact:
        monkeypatch.setattr(open_loop.sys, "platform", "another")
    schedule = Schedule(time.monotonic(), 500.0)
    taken: list[tuple[int, float]] = []
    enough = asyncio.Event()

    def send() -> None:
        now = time.monotonic()
        for k, moment in schedule.due(now):
            assert moment <= now
            taken.append((k, moment))
        if len(taken) >= 20:
            enough.set()

    with called_on(schedule, send):
        await enough.wait()
    assert [k for k, _ in taken] == list(range(len(taken)))
    seen = len(taken)
    # A turn of the loop in which it would come, if it still did.
    await asyncio.sleep(0.01)
    assert len(taken) == seen
