"""One direction of a session: what one peer sends, and what the other one is owed of it.

    sender's link --take--> [filter] --> outbox --Link.pump--> receiver's link

A session has two: `c2u`, from its client to its upstream, and `u2c`, back. They are alike, so what is true of both
is here once. A stream knows who receives it, keeps every message for each receiver until that one has confirmed it, and
says how much came and what became of it.

**Receivers.** `c2u` has one, the upstream. So has `u2c`, but in the shared session of `receiver` mode: there each
client is a receiver with an outbox of its own, which begins where the stream is when it attaches. The messages in these
outboxes are the same objects. While there is no receiver, `outbox` keeps what comes for the first one that attaches;
the last receiver to leave leaves its outbox for that.

**Counts.** `Outbox` counts, and nothing else in the proxy does. What it cannot know is counted here: messages that
came when there was no receiver left (`late`), that the embedding program put in (`added`), that its filter dropped,
that were sent again on a new link (`resent`), and that were sent and will never be proven (`written_off`).

**The filter** of the embedding program sees a message once, when it is received, and what it returns is what the stream
consists of: a message that is sent again after a lost link is not shown again. Towards its sender a dropped message was
received, and is in the count of `X-Reconnect-Received`; towards the receiver it never existed, and takes no number.
Control messages (PROTOCOL.md section 5) are no data, and never come here.

    OPEN --close--> CLOSED --end--> ENDED
      |  the receivers are closed: what still comes is `late`
      +----------------------end--> ENDED: what is still held is undelivered, or uncertain if it was sent

**The cost of a message** is one call, and a single test that is not about the message: a link delivers to `intake`,
which is `take` itself if there is no filter, and `take` goes straight on if there is just one receiver.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from .budget import MemoryBudget
from .interfaces import Deliver, Filter, OutboxOwner
from .link import Link
from .message import Direction, Message
from .outbox import Outbox


class StreamState(Enum):
    """Whether a stream has receivers, now or later; see the picture above."""

    OPEN = auto()
    CLOSED = auto()
    ENDED = auto()


# Asked for with messages and Pongs. In CPython 3.11 looking up a member in its enum takes longer than comparing it.
_OPEN = StreamState.OPEN


class Volume(NamedTuple):
    """How much came: messages, and the bytes of their payloads."""

    messages: int
    bytes: int


# Shared by all streams to which nothing has come late, which is nearly all of them.
_NOTHING = Volume(0, 0)


class Stream:
    """One direction of one session. `receivers` are the links that carry it to its receivers."""

    __slots__ = (
        "_added",
        "_filter",
        "_late",
        "_only",
        "_owner",
        "direction",
        "dropped",
        "outbox",
        "receivers",
        "resent",
        "state",
        "written_off",
    )

    def __init__(
        self,
        direction: Direction,
        owner: OutboxOwner,
        high_water: int,
        budget: MemoryBudget,
        message_filter: Filter | None = None,
    ) -> None:
        """Make a stream without receivers.

        Args:
            direction: which of the two it is; the filter is told.
            owner: hears when an outbox is full, and when it is not any more.
            high_water: bytes in an outbox above which it is full.
            budget: counts what all sessions hold.
            message_filter: sees each message that is received.
        """
        self.state = StreamState.OPEN
        # In the order in which they attached.
        self.receivers: tuple[Link, ...] = ()
        # The receiver, if there is just one and the stream is open.
        self._only: Link | None = None
        self.direction = direction
        self._owner = owner
        self._filter = message_filter
        # What the one receiver is owed; of several, the one that attached first; of none, the next one.
        self.outbox = Outbox(high_water, budget=budget, owner=owner)
        self._late = _NOTHING
        self._added = 0
        # Messages that the filter dropped, that were sent again on a new link, and that were sent once and for which no
        # link will bring a proof that they have arrived.
        self.dropped = 0
        self.resent = 0
        self.written_off = 0

    # What comes.

    @property
    def intake(self) -> Deliver:
        """What takes the messages of the sender."""
        return self.take if self._filter is None else self._take_filtered

    def take(self, opcode: int, payload: bytes, now: float | None = None) -> None:
        """Keep a message for each receiver, and send it where it can be sent. `now` is the time, where it is known."""
        message = (opcode, payload)
        only = self._only
        if only is not None:
            self.outbox.push(message)
            only.pump(now)
            full = self.outbox.full
        elif self.state is not _OPEN:
            self._late = Volume(self._late.messages + 1, self._late.bytes + len(payload))
            return
        elif self.receivers:
            full = False
            for link in self.receivers:
                outbox = link.outbox
                outbox.push(message)
                link.pump(now)
                full = full or outbox.full
        else:
            self.outbox.push(message)
            full = self.outbox.full
        if full:
            self._owner.regulate()

    def _take_filtered(self, opcode: int, payload: bytes, now: float | None = None) -> None:
        """Take what the filter makes of a message. One that comes too late is not shown: nothing depends on it."""
        if self._filter is None or self.state is not _OPEN:
            self.take(opcode, payload, now)
            return
        message = self._filter(self.direction, (opcode, payload))
        if message is None:
            self.dropped += 1
        else:
            opcode, payload = message
            self.take(opcode, payload, now)

    def add(self, message: Message) -> bool:
        """Put in a message of the embedding program's own. Returns False if there is no receiver for it any more.

        Its filter does not see it.
        """
        if self.state is not _OPEN:
            return False
        self._added += 1
        self.take(*message)
        return True

    # Who receives it.

    def next_outbox(self) -> Outbox:
        """Return the outbox for the next receiver. With others there already, the stream begins now for this one."""
        return self.outbox.sibling() if self.receivers else self.outbox

    def attach(self, link: Link) -> None:
        """Let `link` carry this stream. Its outbox is the `next_outbox`."""
        self._set_receivers((*self.receivers, link))

    def detach(self, link: Link) -> None:
        """Take `link` off. Of several outboxes its own goes with it; that of the last receiver stays."""
        if len(self.receivers) > 1:
            self._set_receivers(tuple(other for other in self.receivers if other is not link))
            self.outbox = self.receivers[0].outbox
            link.outbox.leave_budget()
        else:
            self._set_receivers(())

    def _set_receivers(self, links: tuple[Link, ...]) -> None:
        self.receivers = links
        self._only = links[0] if len(links) == 1 and self.state is _OPEN else None

    @property
    def outboxes(self) -> list[Outbox]:
        """Everything that is owed: one outbox for each receiver, or for the next one."""
        return [link.outbox for link in self.receivers] or [self.outbox]

    @property
    def holds_back(self) -> bool:
        """Whether the sender is to be held back: an outbox is full, and will be emptied."""
        if self.state is not _OPEN:
            return False
        return self.outbox.full if len(self.receivers) < 2 else any(link.outbox.full for link in self.receivers)

    def passes_compressed(self) -> bool:
        """Tell whether every receiver that is there reads compressed messages. For a later one they are inflated."""
        return all(link.leg.deflate for link in self.receivers)

    # What came of it.

    @property
    def received(self) -> int:
        """How many messages the sender has sent and the proxy has read: the number that it is told."""
        return self.outbox.pushed + self._late.messages - self._added + self.dropped

    @property
    def volume(self) -> Volume:
        """Everything in the stream so far, as the filter let it pass, and what came too late for it.

        With several receivers a message still counts once.
        """
        late = self._late
        return Volume(late.messages + self.outbox.pushed, late.bytes + self.outbox.pushed_bytes)

    @property
    def delivered(self) -> int:
        """How many messages the receiver has confirmed; of several, the one that attached first."""
        return self.outbox.proven - self.written_off

    @property
    def undelivered(self) -> int:
        """How many messages were read, never sent, and cannot be delivered any more."""
        unsent = self.outbox.pushed - self.outbox.furthest
        return self._late.messages + (unsent if self.state is StreamState.ENDED else 0)

    @property
    def uncertain(self) -> int:
        """How many messages were sent, and nothing proves that they have arrived.

        While the stream goes on, that excludes those that can still be confirmed, or sent again.
        """
        if self.state is StreamState.ENDED:
            return self.doubtful
        return self.written_off + sum(outbox.unproven for outbox in self.outboxes)

    @property
    def doubtful(self) -> int:
        """How many messages would be uncertain if the stream ended now; with several receivers, to the first."""
        return self.written_off + self.outbox.furthest - self.outbox.proven

    # The end.

    def close(self) -> None:
        """Count what still comes as late: the receivers are closed."""
        self.state = StreamState.CLOSED
        self._only = None

    def end(self) -> None:
        """End the stream with its session: what is held will not be confirmed."""
        self.state = StreamState.ENDED
        self._only = None
        self.outbox.leave_budget()

    def forget(self) -> None:
        """Drop the payloads, and the references that would keep an ended session in memory. The counts stay."""
        self.outbox.drop_payloads()
        self._filter = None
        del self._owner
