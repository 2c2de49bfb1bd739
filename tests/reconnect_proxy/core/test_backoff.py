"""The waits before dials, and the retry budget that ends them."""

from __future__ import annotations

import random

import pytest

from reconnect_proxy.core.backoff import (
    BASE,
    CAP,
    LAST,
    LIVED_LONG,
    Carried,
    Progress,
    RetryBudget,
    progress,
    wait_before,
)

from .fakes import FakeClock

LONG = 1000.0


def highest(attempts: int, away: float, left: float) -> float:
    """Return the longest wait there can be."""
    return wait_before(attempts, away, left, max)


def test_the_bound_doubles_up_to_the_cap() -> None:
    """Exponential backoff, where nothing else bounds it."""
    bounds = [highest(attempts, LONG, LONG) for attempts in range(12)]
    assert bounds[:4] == [BASE, 2 * BASE, 4 * BASE, 8 * BASE]
    assert bounds[-1] == CAP
    assert highest(10**6, LONG, LONG) == CAP


@pytest.mark.parametrize("away", [0.0, 0.3])
def test_no_wait_is_longer_than_the_outage_so_far(away: float) -> None:
    """However many attempts have failed in it."""
    assert highest(50, away, LONG) == max(2 * BASE, away)


@pytest.mark.parametrize(("left", "longest"), [(4.0, 2.0), (2.0, LAST), (0.0, LAST)])
def test_the_bound_is_half_of_what_is_left_but_does_not_become_short(left: float, longest: float) -> None:
    """There is always another attempt within the budget, and the attempts do not crowd at the end."""
    assert highest(50, LONG, left) == longest


def test_a_short_budget_has_short_last_waits() -> None:
    """No longer than a quarter of the outage, where that is less."""
    assert highest(50, 0.8, 0.1) == pytest.approx(0.2)


def test_the_first_dial_may_follow_at_once_and_no_other_within_the_base() -> None:
    """For every random draw."""
    assert wait_before(0, 0.0, LONG, min) == 0.0
    for attempts in range(1, 12):
        for away in (0.0, 0.1, LONG):
            for left in (0.0, 0.1, LONG):
                assert wait_before(attempts, away, left, min) == BASE
                assert highest(attempts, away, left) >= 2 * BASE


@pytest.mark.parametrize("seed", range(50))
def test_a_budget_of_ten_seconds_is_not_used_up_by_thirty_dials(seed: int) -> None:
    """Each refused at once. With waits that shrank to nothing at the end of the budget it was."""
    draw, away, dials = random.Random(seed).uniform, 0.0, 0
    while (away := away + wait_before(dials, away, 10.0 - away, draw)) < 10.0:
        dials += 1
    assert 10 <= dials <= 25


# What a link was good for.

BEFORE = Carried(confirmed=7, received=5)


@pytest.mark.parametrize(
    ("now", "owed", "lived", "aware", "made"),
    [
        # A message was confirmed.
        (Carried(8, 5), 0, 0.0, False, Progress.MADE),
        (Carried(8, 5), 3, 0.0, False, Progress.MADE),
        # Something is owed, and was not confirmed.
        (Carried(7, 5), 1, 0.0, False, Progress.NONE),
        (Carried(7, 5), 1, 1000.0, False, Progress.NONE),
        (Carried(7, 9), 1, 1000.0, True, Progress.NONE),
        # Nothing is owed.
        (Carried(7, 5), 0, LIVED_LONG, False, Progress.MADE),
        (Carried(7, 5), 0, LIVED_LONG - 0.1, False, Progress.NONE),
        (Carried(7, 6), 0, LIVED_LONG - 0.1, False, Progress.BROUGHT),
        (Carried(7, 6), 0, LIVED_LONG - 0.1, True, Progress.MADE),
    ],
)
def test_what_is_progress(now: Carried, owed: int, lived: float, aware: bool, made: Progress) -> None:
    """A message confirmed, or a link that lived for long and owed nothing."""
    assert progress(BEFORE, now, owed, lived, aware) is made


# The budget.


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


def test_a_budget_that_is_renewed_has_the_whole_time_and_no_shorter_waits() -> None:
    """It is not known that the losses are over."""
    clock, ends = FakeClock(), list[float]()
    budget = spent(clock, ends)
    budget.stop()
    budget.renew()
    lost = clock.now
    wait = budget.next_wait(lambda: ends.append(clock.now))
    assert (wait.attempt, wait.delay) == (4, 8 * BASE)
    assert budget.away == 6.0
    clock.advance(20.0)
    assert ends == [lost + 10.0]
