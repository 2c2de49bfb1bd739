"""The gate of an upstream's links, and its control messages: PROTOCOL.md section 5.

A session with a gate has one `UpstreamGate`, which sees each new link before it carries data:

    101 --begin--> the stored control message is sent, on a redial
                   the first message comes, if the gate opens with it        --> `GateOwner.gate_opens`

and afterwards each message of the upstream: one that is control is stored in place of the last, and is no data. With
`GateKind.OPEN` there is nothing to see, and no object of this class.
"""

from __future__ import annotations

from .interfaces import GateOwner, Leg
from .message import Message
from .policy import Gate
from .stream import Stream


class UpstreamGate:
    """What one session's upstream has announced, and what its present link waits for."""

    __slots__ = ("_awaits_message", "_feeds", "_owner", "_setting", "replay_info")

    def __init__(self, setting: Gate, owner: GateOwner, feeds: Stream) -> None:
        """Make the gate of a session whose upstream has no link yet; `feeds` is the stream of what it sends."""
        # The latest control message, with which the upstream can be reconnected.
        self.replay_info: Message | None = None
        self._setting = setting
        self._owner = owner
        self._feeds = feeds
        # The first message of the present link is still to come, and opens the gate.
        self._awaits_message = False

    def begin(self, leg: Leg, again: bool) -> None:
        """See a new link, whose socket is `leg`. `again`: the upstream was connected before."""
        self._awaits_message = self._setting.opens_with_message
        if again and self.replay_info is not None:
            leg.send(*self.replay_info)
        if not self._awaits_message:
            self._owner.gate_opens()

    def take(self, opcode: int, payload: bytes, now: float | None) -> None:
        """Tell control messages from data. What a link delivers to (`Deliver`)."""
        if self._awaits_message:
            self._awaits_message = False
            self._take_control((opcode, payload))
            self._owner.gate_opens()
        elif self._setting.is_control(payload):
            self._take_control((opcode, payload))
        else:
            self._feeds.intake(opcode, payload, now)

    def _take_control(self, message: Message) -> None:
        self.replay_info = message
        self._owner.gate_control(message)
