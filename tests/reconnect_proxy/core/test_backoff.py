"""The bound of a wait before a dial."""

from __future__ import annotations

import pytest

from reconnect_proxy.core.backoff import BASE, CAP, longest_wait

LONG = 1000.0


def test_the_bound_doubles_up_to_the_cap() -> None:
    """Exponential backoff, where nothing else bounds it."""
    bounds = [longest_wait(attempts, LONG, LONG) for attempts in range(12)]
    assert bounds[:4] == [BASE, 2 * BASE, 4 * BASE, 8 * BASE]
    assert bounds[-1] == CAP
    assert longest_wait(10**6, LONG, LONG) == CAP


@pytest.mark.parametrize("away", [0.0, 0.3])
def test_no_wait_is_longer_than_the_outage_so_far(away: float) -> None:
    """However many attempts have failed in it."""
    assert longest_wait(50, away, LONG) == max(BASE, away)


@pytest.mark.parametrize("left", [0.0, 0.3])
def test_there_is_always_another_attempt_within_the_budget(left: float) -> None:
    """The bound is half of what is left, but the attempts do not crowd at the end."""
    assert longest_wait(50, LONG, left) == max(BASE, left / 2)
