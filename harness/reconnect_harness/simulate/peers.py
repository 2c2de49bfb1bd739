"""What the peers of a simulation share: the recorder of the history, and the outbox of an aware peer."""

from __future__ import annotations

from collections.abc import Callable

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageLabel, decode
from reconnect_harness.history.record import End, LinkEvent, MessageEvent
from reconnect_harness.peers.workload import Speaker
from reconnect_harness.simulate.clock import VirtualClock, VirtualTimer
from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind
from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.wire import decode_token, encode_token

#: How often an aware peer pings for a confirmation of what it has sent, in seconds.
ASK_SECONDS = 0.1

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

    def received(self, end: End, name: str, direction: Direction, frame: Frame) -> None:
        """Record a message that arrived."""
        label = decode(frame.payload.decode() if frame.number == Opcode.TEXT else frame.payload)
        self._arrived[direction].add((label.stream, label.number))
        self._message(end, name, "received", direction, label)

    def link(self, end: End, name: str, event: str, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Record an event of a link; the arguments are those of `LinkEvent`."""
        self.history.links.append(LinkEvent(self._clock.time(), end, name, event, asked, code, reason))

    def _message(self, end: End, name: str, event: str, direction: Direction, label: MessageLabel) -> None:
        fields = label.stream, direction, label.number, label.size, label.kind, label.wrong
        self.history.messages.append(MessageEvent(self._clock.time(), end, name, event, *fields))


class AwareOutbox:
    """The messages of an aware peer: kept until the proxy has confirmed them, and sent again on each new link.

    Args:
        clock: the time.
        breach: called with a sentence if the proxy breaks the protocol.

    Attributes:
        confirmed: how many messages the proxy has confirmed.

    """

    def __init__(self, clock: VirtualClock, breach: Callable[[str], None]) -> None:
        self.confirmed = 0
        self._clock = clock
        self._breach = breach
        self._frames: list[Frame] = []
        # How many of the frames were sent on the present link, or confirmed.
        self._cursor = 0
        self._end: ConnectionEnd | None = None
        self._asking: VirtualTimer | None = None

    @property
    def said(self) -> int:
        """How many messages were put in."""
        return len(self._frames)

    def put(self, frame: Frame) -> None:
        """Add a message, and send it if there is a link."""
        self._frames.append(frame)
        self._send()

    def resume(self, end: ConnectionEnd, count: int) -> bool:
        """Continue after message `count` on a new link. Return False if the proxy states an impossible count."""
        if not self.confirmed <= count <= self.said:
            self._breach(f"the proxy states {count}; it had confirmed {self.confirmed} of {self.said}")
            return False
        self.confirmed = self._cursor = count
        self._end = end
        self._send()
        return True

    def on_pong(self, payload: bytes) -> None:
        """Handle a Pong of the present link."""
        number = decode_token(payload)
        if number is not None:
            if number > self._cursor:
                self._breach(f"the proxy has answered {number}, and was sent {self._cursor}")
            self.confirmed = max(self.confirmed, number)

    def link_lost(self) -> None:
        """Send nothing until there is another link."""
        self._end = None

    def _send(self) -> None:
        if self._end is None:
            return
        for frame in self._frames[self._cursor :]:
            self._end.put(frame)
        self._cursor = self.said
        if self._asking is None and self.confirmed < self._cursor:
            self._asking = self._clock.call_later(ASK_SECONDS, self._ask)

    def _ask(self) -> None:
        self._asking = None
        if self._end is not None and self.confirmed < self._cursor:
            self._end.put(Frame(FrameKind.PING, encode_token(self._cursor)))
            self._asking = self._clock.call_later(ASK_SECONDS, self._ask)


def next_frame(speaker: Speaker) -> tuple[MessageLabel, Frame]:
    """Make the next message of a speaker, as a frame."""
    label, whole = speaker.next()
    if isinstance(whole, str):
        return label, Frame(FrameKind.DATA, whole.encode(), Opcode.TEXT)
    return label, Frame(FrameKind.DATA, whole, Opcode.BINARY)
