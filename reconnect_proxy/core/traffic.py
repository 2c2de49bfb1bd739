"""What went over a session, counted: for the account at its end, for operators, and for peers that compare counts.

The outbox of a stream counts nearly all of it. What it cannot know is in `Uncounted`; the two together say what a peer
has sent, and what became of it.
"""

from __future__ import annotations

from typing import NamedTuple

from .outbox import Outbox


class Traffic(NamedTuple):
    """What went in one direction: messages, and the bytes of their payloads."""

    messages: int
    bytes: int

    def plus(self, messages: int, size: int) -> Traffic:
        """Return this and some more messages of `size` bytes together."""
        return Traffic(self.messages + messages, self.bytes + size)


class Uncounted(NamedTuple):
    """What the outbox of a stream does not know of it. In most sessions that is nothing, so they share `NOTHING`."""

    #: What came when there was nobody left to deliver it to.
    late: Traffic = Traffic(0, 0)
    #: Messages that the embedding program has put in: the peer has not sent them.
    added: int = 0
    #: Messages that were sent again on a new link.
    resent: int = 0

    def with_late(self, size: int) -> Uncounted:
        """Return this, and one more message of `size` bytes that came too late."""
        return Uncounted(self.late.plus(1, size), self.added, self.resent)

    def with_added(self) -> Uncounted:
        """Return this, and one more message that was put in."""
        return Uncounted(self.late, self.added + 1, self.resent)

    def with_resent(self, messages: int) -> Uncounted:
        """Return this, and so many more messages that were sent again."""
        return Uncounted(self.late, self.added, self.resent + messages)

    def received(self, outbox: Outbox) -> int:
        """Return how many messages of the stream were received, with those that came too late: they had their Pong."""
        return outbox.pushed + self.late.messages - self.added

    def traffic(self, outbox: Outbox) -> Traffic:
        """Return the stream so far, from its first message, with what came too late."""
        return self.late.plus(outbox.pushed, outbox.pushed_bytes)


#: Of a stream of which the outbox knows all.
NOTHING = Uncounted()
