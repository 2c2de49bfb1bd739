"""The account of one user: which of its messages came back, which pushed messages arrived, and what is wrong with them.

    own      1 … 17   what the user sent; each number has to come back:      missing {16, 17}, furthest 15
    pushed   1 … 9    the stream of another sender, which begins with 1:     missing {7}, furthest 9

A stream that is for another user is in no account: its messages are misdelivered.

The rules are those of `checks.stream_account`. An overtaken message is lost if it has not come after a while; all that
is missing when the conversation ends is lost too. Nothing here knows a socket, a clock or locust.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from reconnect_harness.checks.stream_account import Flaw, StreamAccount
from reconnect_harness.history.message import Direction


class Stamp(NamedTuple):
    """What a message says about itself: its stream, its number, and when it was sent, in seconds since 1970."""

    session: str
    number: int
    sent_at: float | None = None
    direction: str = Direction.C2U
    wrong: str | None = None
    """How it differs from what was sent, as a sentence; None where it does not."""


class Receipt(NamedTuple):
    """What a message that arrived means for the user."""

    answer: bool
    """Whether it is one of the user's own messages that came back; else it was pushed."""
    delay: float | None
    """Seconds since it was sent; None where that is not known."""
    flaw: Flaw | None = None
    was_lost: bool = False
    """Whether it had been counted as lost."""


class UserAccount:
    """What is owed to the user of one conversation. Times are `time.monotonic()` seconds.

    Args:
        stream: the name of the user's own stream.
        late: seconds after which an overtaken message counts as lost.
        hears: whether the user has to receive the stream of another sender.

    Attributes:
        sent: how many messages the user has sent, which is the number of the last one.
        closed: whether the account is closed: messages that arrive later are not counted.

    """

    __slots__ = ("_hears", "_late", "_own", "_pushed", "closed", "sent", "stream")

    def __init__(self, stream: str, late: float, hears: Callable[[Stamp], bool] = lambda stamp: True) -> None:
        self.stream = stream
        self._hears = hears
        self.sent = 0
        self.closed = False
        self._late = late
        self._own = StreamAccount()
        self._pushed: dict[str, StreamAccount] = {}

    @property
    def in_flight(self) -> int:
        """How many messages have not arrived and are not lost yet."""
        if not self._pushed:
            return self._own.missing
        return self._own.missing + sum(stream.missing for stream in self._pushed.values())

    @property
    def unanswered(self) -> int:
        """How many of the user's own messages have not come back and are not lost yet."""
        return self._own.missing

    def send(self, now: float, *, answered: bool = True) -> int:
        """Count a message that is about to be sent, and return its number; `answered`: it has to come back."""
        self.sent += 1
        if answered:
            self._own.owe(self.sent, now)
        return self.sent

    def take(self, stamp: Stamp, now: float, wall: float) -> Receipt:
        """Count a message that arrived; `wall` is the same moment as `now` in seconds since 1970."""
        own = stamp.session == self.stream and stamp.direction == Direction.C2U
        if stamp.wrong is not None or (own and stamp.number > self.sent):
            return Receipt(own, None, Flaw.CORRUPTED)
        if not own and not self._hears(stamp):
            return Receipt(False, None, Flaw.MISDELIVERED)
        if own:
            arrival = self._own.take(stamp.number, now)
            delay = None if arrival.since is None else now - arrival.since
        else:
            arrival = self._pushed_stream(stamp).take(stamp.number, now)
            # The clocks of two machines may differ by more than the message took.
            delay = None if stamp.sent_at is None else max(0.0, wall - stamp.sent_at)
        return Receipt(own, delay, arrival.flaw, arrival.was_lost)

    def give_up(self, now: float) -> int:
        """Count as lost what was overtaken and has been missing for too long; return how many messages that were."""
        before = now - self._late
        return sum(len(stream.write_off(before)) for stream in (self._own, *self._pushed.values()))

    def close(self) -> int:
        """Close the account: what is missing is lost. Return how many messages that were."""
        lost = self.in_flight
        self.closed = True
        self._own = StreamAccount()
        self._pushed.clear()
        return lost

    def _pushed_stream(self, stamp: Stamp) -> StreamAccount:
        stream = self._pushed.get(stamp.session)
        if stream is None:
            # What a server pushes to this user begins with 1. The stream of another user may have begun earlier.
            furthest = 0 if stamp.direction == Direction.U2C else stamp.number - 1
            stream = self._pushed[stamp.session] = StreamAccount(furthest, gapless=True)
        return stream
