"""What a server with a login and subscriptions gets again: the preamble of a session, PROTOCOL.md section 5.

    --gate replay:N/M

    first link   client's messages 1 ... N --> upstream     kept (`PreambleOutbox`), and counted like all others
                 its first M answers       --> client
    redial       what was kept             --> upstream     before everything else, not counted
                 its first M answers       --> dropped      the client has them already
                 what is owed              --> upstream

An aware upstream that resumes its session still has its login: it gets nothing again.

Only what is not owed any more is replayed. The rest of the preamble is in the outbox, and follows in its place. If the
first link was lost before the client had all of its M answers, only as many are dropped as it has.
"""

from __future__ import annotations

from ..events import Limit
from .budget import MemoryBudget
from .gate import UpstreamGate
from .interfaces import Clock, GateOwner, Leg, OnRedial, PreambleOwner
from .message import Message
from .outbox import MESSAGE_COST, Outbox
from .policy import Gate, Policy
from .stream import Stream

#: The most bytes of a preamble, with MESSAGE_COST for each message: they are held for as long as the session.
PREAMBLE_BYTES = 1024 * 1024


class PreambleOutbox(Outbox):
    """An outbox that keeps the first messages of its stream after they are confirmed."""

    __slots__ = ("_clock", "_count", "_kept_bytes", "kept")

    _owner: PreambleOwner | None

    def __init__(self, policy: Policy, budget: MemoryBudget, owner: PreambleOwner, clock: Clock) -> None:
        """Make an empty outbox. Its owner ends a session whose preamble exceeds PREAMBLE_BYTES."""
        super().__init__(policy.max_queue, budget=budget, owner=owner)
        #: The messages 1, 2, 3 … as far as they are kept.
        self.kept: list[Message] = []
        self._count = policy.gate.replays
        self._kept_bytes = 0
        self._clock = clock

    def push(self, message: Message) -> None:
        """Append a message to the stream."""
        super().push(message)
        if self.pushed <= self._count and self._kept_bytes <= PREAMBLE_BYTES:
            cost = len(message[1]) + MESSAGE_COST
            self.kept.append(message)
            self._kept_bytes += cost
            self._budget.held += cost
            if self._kept_bytes > PREAMBLE_BYTES:
                # A stream cannot do without its session in the middle of a push.
                self._clock.call_later(0.0, self._on_too_big)

    def _on_too_big(self) -> None:
        if self._owner is not None:
            detail = f"the first {self._count} messages have more than {PREAMBLE_BYTES} bytes"
            self._owner.end_at(Limit.PREAMBLE, detail, 1009, "preamble too big")

    def leave_budget(self) -> None:
        """Take what is held out of the budget."""
        self._budget.give_back(self._kept_bytes)
        super().leave_budget()

    def drop_payloads(self) -> None:
        """Drop the payloads; the counts stay."""
        super().drop_payloads()
        self.kept.clear()


class ReplayGate:
    """The gate of a session whose upstream gets the preamble again; see `gate` for the place of a gate."""

    __slots__ = ("_answers", "_feeds", "_outbox", "_owner", "_to_drop")

    #: There are no control messages.
    replay_info: Message | None = None

    def __init__(self, setting: Gate, owner: GateOwner, feeds: Stream, outbox: PreambleOutbox) -> None:
        """Make the gate of a session whose upstream has no link yet.

        Args:
            setting: how many answers the preamble gets.
            owner: is told when a link may carry data.
            feeds: the stream of what the upstream sends.
            outbox: what it is owed.
        """
        self._answers = setting.answers
        self._owner = owner
        self._feeds = feeds
        self._outbox = outbox
        # Answers on the present link that are still to be dropped.
        self._to_drop = 0

    def begin(self, leg: Leg, again: bool) -> None:
        """See a new link, which carries data at once."""
        self._to_drop = 0
        self._owner.gate_opens()

    def replayed(self) -> list[Message]:
        """Return what a plain upstream is sent again before what it is owed. Its answers are dropped from now on."""
        self._to_drop = min(self._answers, self._feeds.received)
        return self._outbox.kept[: self._outbox.confirmed]

    def take(self, opcode: int, payload: bytes, now: float | None) -> None:
        """Tell answers to what was replayed from data. What a link delivers to (`Deliver`)."""
        if self._to_drop:
            self._to_drop -= 1
        else:
            self._feeds.intake(opcode, payload, now)


def introduce(leg: Leg, on_redial: OnRedial | None, gate: UpstreamGate | ReplayGate | None) -> bool:
    """Send what a plain upstream has to know again before anything else. Returns False if the hook has failed."""
    messages = [] if on_redial is None else on_redial()
    if messages is None:
        return False
    if isinstance(gate, ReplayGate):
        messages += gate.replayed()
    for message in messages:
        leg.send(*message)
    return True
