"""Many timers that share one: each is called once, in order, not early, and at most a grain late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconnect_proxy.core.timers import COARSE, GRAIN, LATE, LONG, READ_FIRST, Timers
from tests.reconnect_proxy.core.fakes import FakeClock


class Calls:
    """Timers over a clock that stands still, and what they have called: the name, and when."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = Timers(self.clock)
        self.made: list[tuple[str, float]] = []

    def note(self, name: str) -> None:
        """Be called."""
        self.made.append((name, self.clock.time()))

    @property
    def names(self) -> list[str]:
        """What was called, in order."""
        return [name for name, _ in self.made]


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30))
def test_each_is_called_once_in_its_time_unless_it_was_cancelled(asked: list[tuple[float, bool]]) -> None:
    """Not before its delay is over, but for the grain of an event loop, and not more than some grains behind it."""
    calls = Calls()
    begin = calls.clock.time()
    for number, (delay, stays) in enumerate(asked):
        timer = calls.timers.call_later(delay, lambda number=number: calls.note(str(number)))  # type: ignore[misc]
        if not stays:
            timer.cancel()
    calls.clock.advance(101)
    assert sorted(calls.names) == sorted(str(number) for number, (_, stays) in enumerate(asked) if stays)
    for name, at in calls.made:
        delay, _ = asked[int(name)]
        assert -0.0011 <= at - begin - delay <= (COARSE if delay >= LONG else 1) * GRAIN + 1e-6


def test_those_of_one_moment_are_called_in_the_order_in_which_they_were_set() -> None:
    """And each may cancel a later one of them."""
    calls = Calls()
    calls.timers.call_later(1.0, lambda: calls.note("first"))
    calls.timers.call_later(1.0, lambda: third.cancel())
    third = calls.timers.call_later(1.0, lambda: calls.note("third"))
    calls.timers.call_later(1.0, lambda: calls.note("fourth"))
    calls.clock.advance(2)
    assert calls.names == ["first", "fourth"]
    third.cancel()


def test_after_a_freeze_what_is_due_waits_for_sockets_to_be_read() -> None:
    """Then it is called in order, and timers go on as before."""
    calls = Calls()
    for delay in (5.0, 3.0, 60.0):
        calls.timers.call_later(delay, lambda delay=delay: calls.note(f"{delay:g}"))  # type: ignore[misc]
    calls.clock.freeze(30.0)
    calls.clock.advance(READ_FIRST / 2)
    calls.timers.call_later(0.0, lambda: calls.note("new"))
    assert calls.made == []
    calls.clock.advance(READ_FIRST)
    assert calls.names == ["3", "5", "new"]
    calls.clock.advance(30.0)
    assert calls.names == ["3", "5", "new", "60"]
    assert calls.clock.live == 0


def test_what_is_late_by_less_is_called_at_once() -> None:
    """A busy loop is not a frozen one."""
    calls = Calls()
    calls.timers.call_later(1.0, lambda: calls.note("late"))
    calls.clock.freeze(1.0 + LATE - 0.1)
    calls.clock.advance(0.0)
    assert calls.names == ["late"]


def test_one_timer_of_the_clock_serves_all() -> None:
    """However many are set, and whichever is the first."""
    calls = Calls()
    for delay in (5.0, 3.0, 9.0, 1.0, 3.0):
        calls.timers.call_later(delay, lambda: calls.note("any"))
        assert calls.clock.live == 1
    calls.clock.advance(4)
    assert calls.clock.live == 1
    calls.clock.advance(10)
    assert (len(calls.made), calls.clock.live) == (5, 0)


def test_what_is_set_by_a_call_is_called_in_its_turn() -> None:
    """A timer that sets itself again goes on for as long as it does, even without a delay."""
    calls = Calls()

    def again() -> None:
        calls.note("again")
        if len(calls.made) < 5:
            calls.timers.call_later(0.0 if len(calls.made) < 3 else 1.0, again)

    calls.timers.call_later(1.0, again)
    calls.clock.advance(1.0 + 5 * GRAIN)
    assert len(calls.made) == 3
    calls.clock.advance(3)
    assert len(calls.made) == 5


def test_a_call_that_fails_takes_no_other_with_it() -> None:
    """Its error is the clock's to report; those behind it are called all the same."""
    calls = Calls()

    def fail() -> None:
        raise ValueError("its fault")

    calls.timers.call_later(1.0, fail)
    calls.timers.call_later(1.0, lambda: calls.note("behind it"))
    calls.timers.call_later(2.0, lambda: calls.note("later"))
    with pytest.raises(ValueError, match="its fault"):
        calls.clock.advance(1.5)
    calls.clock.advance(1.5)
    assert calls.names == ["behind it", "later"]


def test_nothing_is_called_after_the_close() -> None:
    """And no timer of the clock stays."""
    calls = Calls()
    calls.timers.call_later(1.0, lambda: calls.note("never"))
    calls.timers.close()
    assert calls.clock.live == 0
    calls.clock.advance(2)
    assert not calls.made
