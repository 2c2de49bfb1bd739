"""The account of one user: what it sent and was pushed, and what of it arrived once, in order, again, or never.

    said     1 … 17   what the user sent; each number has to come back:   waiting {16, 17}, furthest 15
    pushed   1 … 9    each stream that others send, which begins with 1:  missing {7}, furthest 9

A number that was overtaken by a later one is lost when it has not come after a while, and lost too when the
conversation ends without it; where it comes after all it was late: reordered. Nothing here knows a socket, a clock or
locust.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from reconnect_harness.history.message import Direction


class Stamp(NamedTuple):
    """What a message says of itself: whose it is, its number, and when it was sent, in seconds since 1970."""

    session: str
    number: int
    sent_at: float | None = None
    direction: str = Direction.C2U
    wrong: str | None = None
    """A sentence, where it is not what was sent."""


class Wrong(StrEnum):
    """What can have become of a message; each is a failure by this name in locust's statistics."""

    LOST = "lost"
    REPEATED = "repeated"
    REORDERED = "reordered"
    DAMAGED = "damaged"


class Arrival(NamedTuple):
    """What a message that arrived was. `delay` is seconds, None where it says nothing of when it was sent."""

    answer: bool
    """Whether it was one of the user's own that came back; else it was pushed."""
    delay: float | None
    wrong: Wrong | None = None
    found_again: bool = False
    """Whether it had been counted as lost."""


class _Stream:
    """The numbers of one stream in the order in which they should come."""

    __slots__ = ("furthest", "given_up", "open")

    def __init__(self, furthest: int = 0) -> None:
        self.furthest = furthest
        # Numbers that have not come, and the moment since which that is so.
        self.open: dict[int, float] = {}
        self.given_up: set[int] = set()

    def take(self, number: int) -> tuple[float | None, Wrong | None, bool]:
        """Note that a number came; return since when it was open, what is wrong with that, and whether it was lost."""
        since = self.open.pop(number, None)
        if number > self.furthest:
            self.furthest = number
            return since, None, False
        if since is not None:
            return since, Wrong.REORDERED, False
        if number in self.given_up:
            self.given_up.discard(number)
            return None, Wrong.REORDERED, True
        return None, Wrong.REPEATED, False

    def give_up(self, before: float) -> int:
        """Count as lost what was overtaken and has been open since before that moment; return how many."""
        # Numbers are opened in order, but for gaps, and those are few.
        lost = [number for number, since in self._overtaken() if since < before]
        for number in lost:
            del self.open[number]
        self.given_up.update(lost)
        return len(lost)

    def _overtaken(self) -> Iterator[tuple[int, float]]:
        for number, since in self.open.items():
            if number > self.furthest:
                return
            yield number, since


class Account:
    """What one conversation owes its user. Times are `time.monotonic()` seconds.

    Args:
        stream: the name of the user's own stream.
        late: seconds after which what was overtaken counts as lost.

    Attributes:
        sent: how many messages the user has sent, which is the number of the last one.
        closed: whether the account is closed: what arrives then is nobody's any more.

    """

    __slots__ = ("_late", "_pushed", "_said", "closed", "sent", "stream")

    def __init__(self, stream: str, late: float) -> None:
        self.stream = stream
        self.sent = 0
        self.closed = False
        self._late = late
        self._said = _Stream()
        self._pushed: dict[str, _Stream] = {}

    @property
    def in_flight(self) -> int:
        """How many messages have not come and are not lost yet."""
        if not self._pushed:
            return len(self._said.open)
        return len(self._said.open) + sum(len(stream.open) for stream in self._pushed.values())

    @property
    def unanswered(self) -> int:
        """How many of the user's own messages have not come back and are not lost yet."""
        return len(self._said.open)

    def send(self, now: float, *, answered: bool = True) -> int:
        """Count a message that is about to be sent, and return its number; `answered`: it has to come back."""
        self.sent += 1
        if answered:
            self._said.open[self.sent] = now
        return self.sent

    def take(self, stamp: Stamp, now: float, wall: float) -> Arrival:
        """Count a message that arrived; `wall` is the same moment in seconds since 1970."""
        mine = stamp.session == self.stream and stamp.direction == Direction.C2U
        if stamp.wrong is not None or (mine and stamp.number > self.sent):
            return Arrival(mine, None, Wrong.DAMAGED)
        if mine:
            since, wrong, again = self._said.take(stamp.number)
            return Arrival(True, None if since is None else now - since, wrong, again)
        stream = self._stream_of(stamp)
        for number in range(stream.furthest + 1, stamp.number):
            stream.open[number] = now
        _, wrong, again = stream.take(stamp.number)
        # The clocks of two machines may differ by more than the message took.
        delay = None if stamp.sent_at is None else max(0.0, wall - stamp.sent_at)
        return Arrival(False, delay, wrong, again)

    def give_up(self, now: float) -> int:
        """Count as lost what was overtaken some time ago; return how many that were."""
        before = now - self._late
        return self._said.give_up(before) + sum(stream.give_up(before) for stream in self._pushed.values())

    def close(self) -> int:
        """Close the account: what has not come is lost. Return how many that were."""
        lost = self.in_flight
        self.closed = True
        self._said.open.clear()
        self._pushed.clear()
        return lost

    def _stream_of(self, stamp: Stamp) -> _Stream:
        stream = self._pushed.get(stamp.session)
        if stream is None:
            # What a server pushes to this user begins with 1; what another user says is heard from somewhere on.
            furthest = 0 if stamp.direction == Direction.U2C else stamp.number - 1
            stream = self._pushed[stamp.session] = _Stream(furthest)
        return stream
