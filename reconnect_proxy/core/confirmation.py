"""Which Pings are in flight on a link, what they cover, and when the next one is due (PROTOCOL.md section 4).

    sent:   1 ... 64 (Ping 64) 65 ... 80 (Ping 80) 81 82 83
                      in flight           in flight  uncovered: no Ping has followed them yet

The Pong for n confirms 1..n. What no Ping covers yet is counted: after so many messages or bytes a Ping follows at
once, and otherwise soon after the *first* of them, so a steady trickle is confirmed as fast as a single message.

| a Ping follows | when |
| --- | --- |
| the last of EVERY_MESSAGES messages or EVERY_BYTES bytes | at once, in the same write |
| a message that comes RIDES_AFTER or more after the first uncovered one | at once, in the same write |
| the last message before a pause | AFTER seconds after the first uncovered one, by a timer |
| what is sent again on a new link | at once, behind the last of it |
| any message, while as many are in flight as may be | when a Pong arrives, if it is due by then |

A trickle is asked about by the second rule, which needs no timer and no system call of its own.

The counts are attributes, and `Link.pump` adds to them itself: a call for each message would cost more than the rest
of this file.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

#: A Ping follows after this many messages …
EVERY_MESSAGES = 64
#: … or after this many bytes of payload …
EVERY_BYTES = 256 * 1024
#: … or with the first message that is written this many seconds after the first uncovered one …
RIDES_AFTER = 0.05
#: … or this many seconds after the first uncovered one. Shared timers may be 10 ms late (`Timers`), so the Ping goes
#: out within 100 ms.
AFTER = 0.09
#: Most Pings in flight on a link.
IN_FLIGHT = 4


class Pongs(Enum):
    """What is known of the peer's answers to Pings."""

    #: It has not answered one yet.
    UNPROVEN = auto()
    ANSWERED = auto()
    #: It sends data and answers no Ping, and its outbox was full (`silence`). What is written to it is released,
    #: unproven.
    MUTE = auto()


class SentPing(NamedTuple):
    """A Ping in flight: the number of the last message before it, and since when its Pong is awaited, in seconds."""

    number: int
    since: float


class Confirmation:
    """The Pings of one link that are in flight, and the count of what they do not cover."""

    __slots__ = ("bytes", "in_flight", "messages", "pongs", "since")

    def __init__(self) -> None:
        self.pongs = Pongs.UNPROVEN
        # Oldest first. A tuple, since an idle link has none, and the empty one takes no memory.
        self.in_flight: tuple[SentPing, ...] = ()
        # What was written since the last Ping: messages, bytes of payload, and when the first of them was written.
        self.messages = 0
        self.bytes = 0
        self.since: float | None = None

    @property
    def room(self) -> bool:
        """Whether another Ping may be sent now."""
        return len(self.in_flight) < IN_FLIGHT

    @property
    def much(self) -> bool:
        """Whether so much is uncovered that a Ping is due, however recent it is."""
        return self.messages >= EVERY_MESSAGES or self.bytes >= EVERY_BYTES

    def covers(self, number: int) -> bool:
        """Tell whether the latest Ping in flight asks about message `number`."""
        return bool(self.in_flight) and self.in_flight[-1].number == number

    def sent(self, number: int, now: float) -> None:
        """Take a Ping into account that is sent behind message `number`, the last one written."""
        self.in_flight = (*self.in_flight, SentPing(number, now))
        self.messages = self.bytes = 0
        self.since = None

    def make_room(self) -> None:
        """Await one Pong less if as many as may be are in flight. The oldest and the latest Ping stay.

        For a peer that answers none: a late Pong to the oldest still counts, and a new Ping covers what came since.
        """
        if not self.room:
            middle = IN_FLIGHT // 2
            self.in_flight = self.in_flight[:middle] + self.in_flight[middle + 1 :]

    def answered(self, number: int | None) -> bool:
        """Take a Pong into account, which also ends muteness. Returns False if it answers no Ping in flight.

        RFC 6455 section 5.5.3: a peer may answer only the latest of several Pings. Its Pong stands for all of them.
        """
        for place, ping in enumerate(self.in_flight):
            if ping.number == number:
                self.in_flight = self.in_flight[place + 1 :]
                self.pongs = Pongs.ANSWERED
                return True
        return False

    def shift(self, since: float, now: float) -> None:
        """Do not count the time from `since` to `now`, in which no Pong could be read."""
        self.in_flight = tuple(SentPing(n, at + now - max(at, since)) for n, at in self.in_flight)

    def forget(self) -> None:
        """Forget all Pings: the link is over."""
        self.in_flight = ()
        self.messages = self.bytes = 0
        self.since = None
