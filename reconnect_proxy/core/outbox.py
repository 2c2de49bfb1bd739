"""The one queue of the system: what a leg still owes its peer.

The messages of a stream are numbered 1, 2, 3 … by the order in which they are pushed. Five counts cut the stream:

    1 ...... proven ...... confirmed ........ sent ........ furthest ........ pushed
      forgotten    forgotten        unconfirmed     to be sent once more     never sent yet
                   without proof    (on this link)  (sent on a dead link)

`proven <= confirmed <= sent <= furthest <= pushed` holds after every call. A message is held from `push` until it is
confirmed. `sent` goes back when a link dies (`rewind`), `furthest` never does: a peer may truthfully confirm what an
earlier link brought it. This is the only place in the proxy that counts.

`proven` differs from `confirmed` only for a mute peer, to which messages are sent at most once. They are released as
soon as they are written, and count as *uncertain* until the peer answers a Ping behind them after all (`prove`). If its
link ends before that, nothing will prove them any more (`write_off`).

Everything held is in one list, and the counts say which part of it is what:

    before ... confirmed ........ sent ................. pushed
      let go of         unconfirmed        pending

Messages that were confirmed leave the list when all of it is confirmed, or more than half. So a confirmation costs next
to nothing for each message, and the outbox of an idle session holds nothing at all.
"""

from __future__ import annotations

from .budget import MemoryBudget
from .interfaces import OutboxOwner
from .message import Message, Opcode

#: Bytes that a held message costs in addition to its payload: a tuple, the head of a bytes object, an entry of a list.
#: Counted, so that a flood of empty messages meets the same limit as one of large messages.
MESSAGE_COST = 100

#: For outboxes that are in no proxy's sum. It has no limit, and its sum is not used.
_NO_BUDGET = MemoryBudget()
#: Stands for each message whose payload was dropped.
_LET_GO: Message = (Opcode.BINARY, b"")


class OutOfRange(ValueError):
    """A peer confirmed an impossible count: below what it confirmed before, or above what was ever sent to it."""

    def __init__(self, n: int, confirmed: int, furthest: int) -> None:
        super().__init__(
            f"cannot confirm {n}: the peer has confirmed {confirmed} and was sent {furthest}, "
            f"so the count must be from {confirmed} to {furthest}"
        )


class Outbox:
    """The messages of one stream that one peer has not confirmed, in order. Every operation is O(1) per message."""

    __slots__ = (
        "_before",
        "_budget",
        "_forgotten",
        "_mark",
        "_messages",
        "_owner",
        "bytes_held",
        "confirmed",
        "full",
        "furthest",
        "high_water",
        "proven",
        "pushed",
        "sent",
    )

    def __init__(
        self,
        high_water: int,
        start: int = 0,
        start_bytes: int = 0,
        budget: MemoryBudget = _NO_BUDGET,
        owner: OutboxOwner | None = None,
    ) -> None:
        """Make an empty outbox.

        Args:
            high_water: bytes held above which the outbox is `full`; it stops being full below half of that.
            start: the number of the last message before the first one pushed here.
            start_bytes: the payload bytes of the messages up to that number.
            budget: counts what is held here and elsewhere; while that is too much, this outbox is `full` above a floor.
            owner: told when the outbox is not `full` any more because others hold less. For any other change of `full`
                the caller asks.
        """
        # See the second picture above: the number of the message before the first one in the list, and the list.
        self._before = start
        self._messages: list[Message] = []
        self.proven = start
        self.confirmed = start
        self.sent = start
        self.furthest = start
        # The number of the last message pushed: how many messages of the stream were received from its source.
        self.pushed = start
        # Payload bytes plus MESSAGE_COST for each message held.
        self.bytes_held = 0
        # The same for the messages that are not held any more. So `pushed_bytes` needs no counting at each push.
        self._forgotten = start_bytes + start * MESSAGE_COST
        self.high_water = high_water
        # Set above `high_water`, cleared below half of it, so that its sender is not stopped and started all the time.
        self.full = False
        self._budget = budget
        self._owner = owner
        # Bytes held above which there is something to decide.
        self._mark = min(high_water, self._budget.floor)

    def __len__(self) -> int:
        """Return the number of messages held."""
        return self.pushed - self.confirmed

    @property
    def pushed_bytes(self) -> int:
        """The payload bytes of the messages 1 to `pushed`."""
        return self._forgotten + self.bytes_held - self.pushed * MESSAGE_COST

    @property
    def pending(self) -> int:
        """How many messages wait to be sent on the present link."""
        return self.pushed - self.sent

    @property
    def unconfirmed(self) -> int:
        """How many messages were sent on the present link and are not confirmed."""
        return self.sent - self.confirmed

    @property
    def uncertain(self) -> int:
        """How many messages were sent on any link and are not confirmed: the peer may have them, or not."""
        return self.furthest - self.confirmed

    @property
    def unproven(self) -> int:
        """How many messages were let go of without proof that the peer has them."""
        return self.confirmed - self.proven

    def sibling(self) -> Outbox:
        """Return an empty outbox for another receiver of the same stream, which begins after the last message here."""
        return Outbox(self.high_water, self.pushed, self.pushed_bytes, self._budget, self._owner)

    def push(self, message: Message) -> None:
        """Append a message to the stream."""
        self._messages.append(message)
        self.pushed += 1
        cost = len(message[1]) + MESSAGE_COST
        self._budget.held += cost
        self.bytes_held = held = self.bytes_held + cost
        if held > self._mark:
            self._on_mark()

    def _on_mark(self) -> None:
        pressed = self._budget.presses()
        if self.bytes_held > self.high_water:
            self.full = True
        elif not self.full and pressed:
            self.full = True
            self._budget.held_back[self] = None

    def allowance(self, slack: int) -> float:
        """Return by how many bytes the budget lets this outbox grow while its sender is read for Pongs alone."""
        return self._budget.allowance(slack)

    def relieve(self) -> None:
        """Stop being full because of the budget (`BudgetMember`), which has taken this outbox off its list already."""
        if self.bytes_held <= self.high_water:
            self.full = False
            if self._owner is not None:
                self._owner.regulate()

    def leave_budget(self) -> None:
        """Take what is held out of the budget: it will not be confirmed any more."""
        budget, self._budget = self._budget, _NO_BUDGET
        # Nothing relieves this outbox any more, and its owner refers to it.
        self._owner = None
        budget.held_back.pop(self, None)
        budget.give_back(self.bytes_held)

    def mark_sent(self) -> Message:
        """Count the next pending message as sent and return it. Raises IndexError when nothing is pending."""
        message = self._messages[self.sent - self._before]
        self.sent = sent = self.sent + 1
        if sent > self.furthest:
            self.furthest = sent
        return message

    def check(self, n: int) -> None:
        """Check that a peer can have received `n` messages, and has not confirmed more before. Raises OutOfRange."""
        if not self.confirmed <= n <= self.furthest:
            raise OutOfRange(n, self.confirmed, self.furthest)

    def confirm(self, n: int) -> None:
        """Forget messages up to number `n`: the peer has taken responsibility for them.

        Raises:
            OutOfRange: `n` is below what was confirmed before or above what was ever sent; nothing changes.
        """
        self.check(n)
        self.proven = n
        self._forget(n)

    def release(self, n: int) -> None:
        """Forget messages up to number `n`, which were sent, although the peer has not confirmed them."""
        self._forget(n)

    def prove(self, n: int) -> None:
        """Count messages up to number `n` as delivered, whether or not they were released before."""
        if n > self.confirmed:
            self.confirm(n)
        elif n > self.proven:
            self.proven = n

    def write_off(self) -> int:
        """Give up the proof of what was released: the link is over. Returns how many messages that is."""
        count = self.confirmed - self.proven
        self.proven = self.confirmed
        return count

    def _forget(self, n: int) -> None:
        messages = self._messages
        first, end = self.confirmed - self._before, n - self._before
        freed = (end - first) * MESSAGE_COST
        for _, payload in messages[first:end]:
            freed += len(payload)
        if 2 * end > len(messages):
            del messages[:end]
            self._before = n
        else:
            messages[first:end] = [_LET_GO] * (end - first)
        self.bytes_held -= freed
        self._forgotten += freed
        self.confirmed = n
        if self.sent < n:
            self.sent = n
        if self.full:
            held_back = self in self._budget.held_back
            if self.bytes_held < (self._mark if held_back else self.high_water) / 2:
                self.full = False
                self._budget.held_back.pop(self, None)
        self._budget.give_back(freed)

    def rewind(self, n: int) -> None:
        """Make every held message after number `n` pending again: the link they were sent on is gone.

        Raises:
            OutOfRange: `n` is not between `confirmed` and `sent`; nothing changes.
        """
        if not self.confirmed <= n <= self.sent:
            raise OutOfRange(n, self.confirmed, self.sent)
        self.sent = n

    def drop_payloads(self) -> None:
        """Drop the payloads; the counts stay. For a session that is over, and may stay in memory much longer."""
        self._messages = [_LET_GO] * len(self._messages)
