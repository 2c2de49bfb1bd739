"""When a lost upstream is dialled again: full-jitter exponential backoff, the retry budget, and what resets both.

`wait_before` is the rule of the waits, for the proxy and for `connect` alike. `progress` is the rule that says which
links end a series of losses. `RetryBudget` applies both to one session's upstream.

**Only progress resets.** A message that makes its server drop the link is sent again on the next link, and again. So a
link that was merely connected must not reset anything: such a message would be sent again without a pause, and for as
long as the proxy runs. A network that fails every second while messages get through costs nothing.

    link lost --> budget --> wait, dial --> link --> progress? --yes--> no budget: the next loss begins a new series
                    ^                                  |
                    +------------- no, and lost -------+
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from .interfaces import Clock, Timer

#: Seconds: the longest first wait and the shortest of all others, the longest of all, and how short the longest one may
#: become at the end of the budget.
BASE = 0.05
CAP = 3.0
LAST = 1.0
#: A link that has lived this long, in seconds, and owes nothing is progress. That is more than the longest wait: two
#: sessions of one user whose server allows one connection push each other out at each redial, and make none.
LIVED_LONG = 5.0

#: Draws a number between two, uniformly.
Draw = Callable[[float, float], float]


def wait_before(attempts: int, away: float, left: float, draw: Draw = random.uniform) -> float:
    """Return the wait before the next dial, in seconds.

    It is drawn below a bound that doubles with each attempt, but does not exceed the time that the peer has been away
    already: a series of short draws must not make a session miss the end of a short outage by far. Towards the end of
    the budget the bound shrinks, so that the last dial is not long before the end, but no further than to a quarter of
    the outage, or LAST: the dials must not crowd there. The first dial may follow at once, and no other within BASE.

    Args:
        attempts: dials that have failed in a row.
        away: seconds since the loss.
        left: seconds until the retry budget is over.
        draw: draws a number between two, uniformly.
    """
    if attempts == 0:
        return draw(0.0, BASE)
    longest = min(CAP, BASE * 2.0 ** min(attempts, 10), away, max(left / 2, min(LAST, away / 4)))
    return draw(BASE, max(2 * BASE, longest))


class Carried(NamedTuple):
    """What the upstream leg of a session has carried so far: messages of its peer, and those that it has confirmed."""

    confirmed: int
    received: int


NOTHING_CARRIED = Carried(0, 0)


class Progress(Enum):
    """What a link was good for, since the last loss."""

    #: Nothing: the series of losses goes on.
    NONE = auto()
    #: It brought messages. The upstream is worth the whole budget again, but the waits go on growing.
    BROUGHT = auto()
    #: The series is over.
    MADE = auto()


def progress(before: Carried, now: Carried, owed: int, lived: float, aware: bool) -> Progress:
    """Return what a link was good for.

    | on the link | progress |
    | --- | --- |
    | a message was confirmed | MADE |
    | none was, and some are owed: perhaps they make the upstream drop its links | NONE |
    | nothing is owed, and it lived for LIVED_LONG | MADE |
    | nothing is owed, and an aware upstream sent a message, which it never sent before | MADE |
    | nothing is owed, and a plain upstream sent a message: perhaps the greeting that it always sends | BROUGHT |
    | nothing is owed, and nothing came | NONE |

    Args:
        before: what had been carried at the last loss.
        now: what has been carried by now.
        owed: messages that the upstream is owed.
        lived: for how long there has been the link, in seconds.
        aware: the upstream counts what it receives.
    """
    if now.confirmed > before.confirmed:
        return Progress.MADE
    if owed:
        return Progress.NONE
    brought = now.received > before.received
    if lived >= LIVED_LONG or (brought and aware):
        return Progress.MADE
    return Progress.BROUGHT if brought else Progress.NONE


class Wait(NamedTuple):
    """The wait before a dial: its number since the loss (1, 2, …), and how long it takes in seconds."""

    attempt: int
    delay: float


class RetryBudget:
    """How long an upstream has been away, how often it was dialled meanwhile, and for how long it still will be.

    Made when a link is lost; a link that makes progress makes it superfluous.
    """

    __slots__ = ("_attempt", "_away_since", "_clock", "_draw", "_retry_for", "_timer", "carried", "ends_at")

    def __init__(self, retry_for: float, clock: Clock, draw: Draw, carried: Carried = NOTHING_CARRIED) -> None:
        """Make a budget of `retry_for` seconds that begins now; the upstream leg has `carried` so much."""
        self._retry_for = retry_for
        self._clock = clock
        self._draw = draw
        # What had been carried when the budget began, and at each loss since then.
        self.carried = carried
        # Failed attempts in a row, and since when there has been no link that made progress.
        self._attempt = 0
        self._away_since = clock.time()
        #: The time at which the budget is over.
        self.ends_at = self._away_since + retry_for
        # Ends the budget.
        self._timer: Timer | None = None

    @property
    def away(self) -> float:
        """For how long, in seconds, there has been no link that made progress."""
        return self._clock.time() - self._away_since

    def next_wait(self, on_over: Callable[[], None] | None = None) -> Wait:
        """Return the wait before the next dial. `on_over` is called when the budget is over, unless it is stopped."""
        left = max(0.0, self.ends_at - self._clock.time())
        if self._timer is None and on_over is not None:
            self._timer = self._clock.call_later(left, on_over)
        delay = wait_before(self._attempt, self.away, left, self._draw)
        self._attempt += 1
        return Wait(self._attempt, delay)

    def is_over_with(self, carried: Carried, owed: int, lived: float, aware: bool) -> bool:
        """Tell whether the present link, or the one just lost, ends the series of losses; see `progress`."""
        made = progress(self.carried, carried, owed, lived, aware)
        self.carried = carried
        if made is Progress.BROUGHT:
            self.renew()
        return made is Progress.MADE

    def renew(self) -> None:
        """Give what follows the whole time. The waits go on growing."""
        self.ends_at = self._clock.time() + self._retry_for

    def stop(self) -> None:
        """Stop the timer: there is a link, or the upstream is terminated. What was used stays used."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
