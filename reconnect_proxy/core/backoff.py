"""When a lost upstream is dialled again: full-jitter exponential backoff, and the retry budget that ends it.

`longest_wait` is the rule itself, for the proxy and for `connect` alike; `RetryBudget` applies it to one session's
upstream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .interfaces import Clock, Timer

#: Seconds: the longest first wait, and the longest of all.
BASE = 0.05
CAP = 3.0


def longest_wait(attempts: int, away: float, left: float) -> float:
    """Return the upper bound, in seconds, of the wait before the next dial. The wait is drawn uniformly below it.

    It doubles with each attempt, but does not exceed the time that the peer has been away already: a series of short
    draws must not make a session miss the end of a short outage by far. Nor does it exceed what is left of the budget.

    Args:
        attempts: dials that have failed in a row.
        away: seconds since the loss.
        left: seconds until the retry budget is over.
    """
    return min(CAP, BASE * 2.0 ** min(attempts, 10), max(BASE, away), max(BASE, left / 2))


class Wait(NamedTuple):
    """The wait before a dial: its number since the loss (1, 2, …), and how long it takes in seconds."""

    attempt: int
    delay: float


class RetryBudget:
    """How long an upstream has been away, how often it was dialled meanwhile, and for how long it still will be.

    Made when a link is lost; a link that proves itself (`PROVEN_AFTER`) makes it superfluous.
    """

    __slots__ = ("_attempt", "_away_since", "_clock", "_draw", "_retry_for", "_timer")

    def __init__(self, retry_for: float, clock: Clock, draw: Callable[[float, float], float]) -> None:
        """Make a budget of `retry_for` seconds that begins now; `draw` draws a number between two, uniformly."""
        self._retry_for = retry_for
        self._clock = clock
        self._draw = draw
        # Failed attempts in a row, and since when there has been no link that was of use.
        self._attempt = 0
        self._away_since = clock.time()
        # Ends the budget.
        self._timer: Timer | None = None

    @property
    def away(self) -> float:
        """For how long, in seconds, there has been no link that was of use."""
        return self._clock.time() - self._away_since

    def next_wait(self, on_over: Callable[[], None]) -> Wait:
        """Return the wait before the next dial. `on_over` is called when the budget is over, unless it is stopped."""
        away = self.away
        left = max(0.0, self._retry_for - away)
        if self._timer is None:
            self._timer = self._clock.call_later(left, on_over)
        delay = self._draw(0.0, longest_wait(self._attempt, away, left))
        self._attempt += 1
        return Wait(self._attempt, delay)

    def begin_again(self) -> None:
        """Give the new loss the whole budget: the link was brief, but carried something. The waits go on growing."""
        self._away_since = self._clock.time()

    def stop(self) -> None:
        """Stop the timer: there is a link, or the upstream is terminated. What was used stays used."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
