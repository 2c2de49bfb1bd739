"""The account of one stream at one receiver: the definition of lost, duplicated, reordered and corrupted messages.

Scenarios and simulations (`checks.judged`), the soak (`soak.ledger_sink`) and load runs (`load.account`) all use this
class. A stream is what one sender says in one conversation; its messages are numbered 1, 2, 3 …

    owed      1 2 3 4 5 6        numbers that were sent, so each has to arrive
    arrived   1 3 2 2     6      2 is reordered, then duplicated; 4 and 5 are missing

- **lost**: a number is owed and does not arrive. It is *missing* while it may still come: until the stream is closed
  (`close`), or until a higher number has overtaken it and it has had enough time (`write_off`).
- **duplicated**: a number arrives that had arrived before.
- **reordered**: a number arrives for the first time after a higher one. If it counted as lost, it no longer does.
- **corrupted**: a message is not as it was sent (size, type, checksum), or was never sent. The reader of the message
  sees this. What was never sent is not in the account. What was sent, and arrives damaged, has arrived; load runs and
  the soak keep it out of the account, since they have no record against which the damaged header could be checked.

Each pair of stream and receiver has its own account: a stream that two clients receive has two. What arrives at a
receiver that the stream is not for is *misdelivered* (`checks.judged`), and in no account.

What is owed is known in one of two ways. Where a record of the sending side exists, `owe` is called for each number.
Otherwise the stream must be `gapless`: then an arrival shows that all lower numbers are owed too.
"""

from __future__ import annotations

import math
import sys
from enum import StrEnum
from typing import NamedTuple


class Flaw(StrEnum):
    """What can be wrong with a message, by the name of the checker that counts it."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    CORRUPTED = "corrupted"
    MISDELIVERED = "misdelivered"


class Arrival(NamedTuple):
    """What the arrival of a number means for its stream."""

    flaw: Flaw | None = None
    """`DUPLICATED`, `REORDERED`, or None where it is in order."""
    since: float | None = None
    """Since when the number was missing, in seconds; None where that is not known."""
    was_lost: bool = False
    """Whether the number had been counted as lost."""
    skipped: int = 0
    """How many numbers of a gapless stream it has overtaken that were not known to be owed before."""


class StreamAccount:
    """Counts the numbers of one stream at one receiver. It knows no clock: moments are seconds of the caller's clock.

    Args:
        furthest: the highest number that had arrived before; all up to it count as arrived.
        gapless: whether all numbers below an arrival are owed, though `owe` was not called for them.
        remembered: how many missing or lost numbers are remembered at most. A number that is not remembered and
            arrives late counts as duplicated.

    Attributes:
        furthest: the highest number that has arrived.

    """

    __slots__ = ("_gapless", "_lost", "_missing", "_remembered", "furthest")

    def __init__(self, furthest: int = 0, *, gapless: bool = False, remembered: int = sys.maxsize) -> None:
        self.furthest = furthest
        self._gapless = gapless
        self._remembered = remembered
        # Each missing number, and since when it is missing, in order of number.
        self._missing: dict[int, float] = {}
        self._lost: set[int] = set()

    @property
    def missing(self) -> int:
        """How many numbers are owed, have not arrived, and do not count as lost."""
        return len(self._missing)

    @property
    def has_lost(self) -> bool:
        """Whether a number counts as lost, and is remembered."""
        return bool(self._lost)

    def owe(self, number: int, now: float = 0.0) -> None:
        """Note that a number was sent, and so has to arrive. Numbers are given in ascending order."""
        self._missing[number] = now

    def take(self, number: int, now: float = 0.0) -> Arrival:
        """Count an arrival of a number."""
        since = self._missing.pop(number, None)
        if number > self.furthest:
            skipped = self._skip(number, now) if self._gapless else 0
            self.furthest = number
            return Arrival(None, since, skipped=skipped)
        if since is not None:
            return Arrival(Flaw.REORDERED, since)
        if number in self._lost:
            self._lost.discard(number)
            return Arrival(Flaw.REORDERED, was_lost=True)
        return Arrival(Flaw.DUPLICATED)

    def write_off(self, before: float = math.inf) -> list[int]:
        """Count as lost the overtaken numbers that are missing since a moment before `before`; return them."""
        lost = []
        for number, since in self._missing.items():
            if number > self.furthest:
                break
            if since < before:
                lost.append(number)
        for number in lost:
            del self._missing[number]
        self._lost.update(lost)
        return lost

    def close(self) -> list[int]:
        """Count as lost all that is missing, since nothing more will arrive; return it."""
        lost = list(self._missing)
        self._missing.clear()
        self._lost.update(lost)
        return lost

    def _skip(self, number: int, now: float) -> int:
        """Note the numbers between the furthest one and `number` as missing; return how many there are."""
        skipped = range(self.furthest + 1, number)
        room = max(0, self._remembered - len(self._missing) - len(self._lost))
        self._missing.update(dict.fromkeys(skipped[:room], now))
        return len(skipped)
