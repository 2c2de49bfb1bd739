"""What the peers of a simulation share: the recorder of the history, and the form of a message."""

from __future__ import annotations

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageLabel, decode
from reconnect_harness.history.record import End, LinkEvent, MessageEvent
from reconnect_harness.simulate.clock import VirtualClock
from reconnect_harness.simulate.network import Frame, FrameKind
from reconnect_proxy.core.message import Opcode

#: After this time a peer learns that a connection was refused, in seconds.
REFUSED_SECONDS = 0.001


class SimulationRecorder:
    """Records a simulation in a `History`, and counts what was sent and what has arrived."""

    def __init__(self, clock: VirtualClock) -> None:
        self.history = History()
        self._clock = clock
        self._sent = dict.fromkeys(Direction, 0)
        self._arrived: dict[Direction, set[tuple[str, int]]] = {direction: set() for direction in Direction}

    @property
    def progress(self) -> tuple[int, ...]:
        """How many messages were sent and, repeats left out, have arrived; c2u and u2c."""
        return (*self._sent.values(), *map(len, self._arrived.values()))

    @property
    def complete(self) -> bool:
        """Whether all that was sent has arrived."""
        return all(self._sent[direction] == len(self._arrived[direction]) for direction in Direction)

    def sent(self, end: End, name: str, direction: Direction, label: MessageLabel) -> None:
        """Record a message that is about to be sent."""
        self._sent[direction] += 1
        self._message(end, name, "sent", direction, label)

    def received(self, end: End, name: str, direction: Direction, frame: Frame, session: str = "") -> None:
        """Record a message that arrived, at an upstream in a session."""
        label = decode(frame.payload.decode() if frame.number == Opcode.TEXT else frame.payload)
        self._arrived[direction].add((label.stream, label.number))
        self._message(end, name, "received", direction, label, session)

    def link(self, end: End, name: str, event: str, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Record an event of a link; the arguments are those of `LinkEvent`."""
        self.history.links.append(LinkEvent(self._clock.time(), end, name, event, asked, code, reason))

    def _message(
        self, end: End, name: str, event: str, direction: Direction, label: MessageLabel, session: str = ""
    ) -> None:
        fields = label.stream, direction, label.number, label.size, label.kind, label.wrong, session
        self.history.messages.append(MessageEvent(self._clock.time(), end, name, event, *fields))


def frame_of(message: str | bytes) -> Frame:
    """Return the frame of a message."""
    if isinstance(message, str):
        return Frame(FrameKind.DATA, message.encode(), Opcode.TEXT)
    return Frame(FrameKind.DATA, message, Opcode.BINARY)
