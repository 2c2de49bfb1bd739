"""The waits before dials, and the retry budget that ends them."""

from __future__ import annotations

import pytest

from reconnect_proxy.core.backoff import BASE, CAP, RetryBudget, longest_wait

from .fakes import FakeClock

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


def spent(clock: FakeClock, ends: list[float], retry_for: float = 10.0) -> RetryBudget:
    """Return a budget of which three dials have used six seconds; it writes down in `ends` when it is over."""
    budget = RetryBudget(retry_for, clock, lambda least, most: most)
    for _ in range(3):
        budget.next_wait(lambda: ends.append(clock.now))
        clock.advance(2.0)
    return budget


def test_a_retry_budget_is_over_so_many_seconds_after_the_loss() -> None:
    """However many dials there are."""
    clock, ends = FakeClock(), list[float]()
    began = clock.now
    budget = spent(clock, ends)
    assert budget.away == 6.0
    clock.advance(20.0)
    assert ends == [began + 10.0]


def test_the_waits_are_numbered_and_grow() -> None:
    """The number is for the events."""
    clock = FakeClock()
    budget = RetryBudget(LONG, clock, lambda least, most: most)
    waits = []
    for _ in range(4):
        waits.append(budget.next_wait(lambda: None))
        clock.advance(10.0)
    assert [wait.attempt for wait in waits] == [1, 2, 3, 4]
    assert [wait.delay for wait in waits] == [BASE, 2 * BASE, 4 * BASE, 8 * BASE]


def test_a_link_stops_a_retry_budget_and_gives_nothing_back() -> None:
    """The next loss has what is left of it."""
    clock, ends = FakeClock(), list[float]()
    budget = spent(clock, ends)
    budget.stop()
    clock.advance(1.0)
    assert (ends, clock.live) == ([], 0)
    budget.next_wait(lambda: ends.append(clock.now))
    lost = clock.now
    clock.advance(20.0)
    assert ends == [lost + 3.0]


def test_a_brief_link_that_carried_something_gives_the_next_loss_the_whole_time() -> None:
    """But no shorter waits: they go on growing."""
    clock, ends = FakeClock(), list[float]()
    budget = spent(clock, ends)
    budget.stop()
    budget.begin_again()
    lost = clock.now
    assert budget.away == 0.0
    assert budget.next_wait(lambda: ends.append(clock.now)).attempt == 4
    clock.advance(20.0)
    assert ends == [lost + 10.0]
