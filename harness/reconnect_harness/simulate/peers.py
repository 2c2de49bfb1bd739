"""The clients of a simulation, ordinary or aware, and what all peers share: the ledger, and what an aware one owes.

They keep PROTOCOL.md and are to `peers.client` what a simulated network is to sockets.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from http import HTTPStatus

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageLabel, decode
from reconnect_harness.history.record import End as Side
from reconnect_harness.history.record import LinkEvent, MessageEvent
from reconnect_harness.peers.workload import Speaker
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.simulate.network import (
    Connection,
    End,
    Frame,
    FrameKind,
    SimulatedLink,
    VirtualClock,
    VirtualTimer,
)
from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.policy import RETRYABLE
from reconnect_proxy.core.wire import Claim, decode_token, encode_token

#: How often an aware peer asks whether what it sent has arrived, in seconds.
ASK_SECONDS = 0.1

#: How long a handshake may take, and the longest wait of a client before it tries again, in seconds.
OPEN_SECONDS = 10.0
RETRY_SECONDS = 1.0

#: How long it takes to learn that nobody listens, in seconds.
REFUSED_SECONDS = 0.001


class Ledger:
    """Records a simulation in a `History`, and counts what is sent and what has arrived."""

    def __init__(self, clock: VirtualClock) -> None:
        self.history = History()
        self.sent = dict.fromkeys(Direction, 0)
        self._clock = clock
        self._arrived: dict[Direction, set[tuple[str, int]]] = {direction: set() for direction in Direction}

    @property
    def progress(self) -> tuple[int, ...]:
        """How many messages were sent and, repeats left out, have arrived; c2u and u2c."""
        return (*self.sent.values(), *map(len, self._arrived.values()))

    @property
    def complete(self) -> bool:
        """Whether all that was sent has arrived."""
        return all(self.sent[direction] == len(self._arrived[direction]) for direction in Direction)

    def said(self, side: Side, name: str, direction: Direction, label: MessageLabel) -> None:
        """Record a message that is about to be sent."""
        self.sent[direction] += 1
        self._note(side, name, "sent", direction, label)

    def heard(self, side: Side, name: str, direction: Direction, frame: Frame) -> None:
        """Record a message that arrived."""
        label = decode(frame.payload.decode() if frame.number == Opcode.TEXT else frame.payload)
        self._arrived[direction].add((label.stream, label.number))
        self._note(side, name, "received", direction, label)

    def link(self, side: Side, name: str, event: str, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Record that a link came or went; the arguments are those of `LinkEvent`."""
        self.history.links.append(LinkEvent(self._clock.time(), side, name, event, asked, code, reason))

    def _note(self, side: Side, name: str, event: str, direction: Direction, label: MessageLabel) -> None:
        fields = label.stream, direction, label.number, label.size, label.kind, label.wrong
        self.history.messages.append(MessageEvent(self._clock.time(), side, name, event, *fields))


class Debt:
    """What an aware peer has said: it is kept until the proxy has confirmed it, and sent again on each new link.

    Args:
        clock: the time.
        breach: called with a sentence when the proxy breaks a promise.

    """

    def __init__(self, clock: VirtualClock, breach: Callable[[str], None]) -> None:
        self.confirmed = 0
        self._clock = clock
        self._breach = breach
        self._frames: list[Frame] = []
        # All up to here is on the present link.
        self._cursor = 0
        self._end: End | None = None
        self._asking: VirtualTimer | None = None

    @property
    def said(self) -> int:
        """How many messages were said."""
        return len(self._frames)

    def say(self, frame: Frame) -> None:
        """Owe one more message, and send it if there is a link."""
        self._frames.append(frame)
        self._send()

    def resume(self, end: End, count: int) -> bool:
        """Go on behind message `count` on a new link. False where the proxy states a count that cannot be."""
        if not self.confirmed <= count <= self.said:
            self._breach(f"the proxy states {count}; it had confirmed {self.confirmed} of {self.said}")
            return False
        self.confirmed = self._cursor = count
        self._end = end
        self._send()
        return True

    def confirm(self, payload: bytes) -> None:
        """Take a Pong of the present link."""
        number = decode_token(payload)
        if number is not None:
            if number > self._cursor:
                self._breach(f"the proxy has answered {number}, and was sent {self._cursor}")
            self.confirmed = max(self.confirmed, number)

    def rest(self) -> None:
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


class SimulatedClient:
    """One client: plain, reconnecting or aware, as in `peers.clients`."""

    def __init__(
        self,
        name: str,
        scenario: Scenario,
        link: SimulatedLink,
        accept: Callable[[Connection], None],
        ledger: Ledger,
        seed: int,
    ) -> None:
        self.name = name
        self.tried = False
        self._clock = link.clock
        self._link = link
        self._accept = accept
        self._ledger = ledger
        self._kind = scenario.clients.kind
        self._load = scenario.clients.load
        self._ping = scenario.clients.ping
        self._draw = random.Random(f"{seed} {name} waits")
        self._speaker = Speaker(self._load, name, Direction.C2U, str(seed))
        self._debt = Debt(self._clock, lambda words: ledger.link(Side.CLIENT, name, "breach", False, reason=words))
        self._id = f"{name}-{self._draw.getrandbits(128):032x}"
        self._end: End | None = None
        # The handshake of `_end` is complete; was ever; and what was heard of the present link last.
        self._ready = self._known = False
        self._heard_at = 0.0
        self._received = 0
        self._wait = 0.0
        self._until = 0.0
        self._leaving = False

    def dial(self) -> None:
        """Make a connection."""
        connection = self._link.connect()
        if self._leaving:
            return
        if connection is None:
            self._clock.call_later(REFUSED_SECONDS, lambda: self._unreachable(None))
            return
        end = self._end = connection.near
        end.on_frame = self._take
        self._accept(connection)
        end.put(Frame(FrameKind.REQUEST, claim=self._claim()))
        self._clock.call_later(OPEN_SECONDS, lambda: self._give_up(end))

    def talk(self, seconds: float) -> None:
        """Send, from now on and for so long."""
        self._until = self._clock.time() + seconds
        if self._load.rate:
            self._clock.call_later(self._draw.random() / max(1.0, self._load.rate), self._say)

    def leave(self) -> None:
        """Close the conversation."""
        self._leaving = True
        if self._end is not None and self._ready:
            self._end.close(Frame(FrameKind.CLOSE, number=1000))
            self._ledger.link(Side.CLIENT, self.name, "disconnected", True, 1000)

    def _claim(self) -> Claim:
        if self._kind == "plain":
            return Claim()
        if self._kind == "reconnecting":
            return Claim(connection_id=self._id)
        # Only who has been told that there is a session may ask for it.
        return Claim(reconnect_id=self._id, received=self._received) if self._known else Claim(self._id, received=0)

    def _say(self) -> None:
        if self._clock.time() >= self._until or self._leaving:
            return
        if self._kind == "aware" or (self._ready and self._end is not None and self._end.open):
            label, frame = next_frame(self._speaker)
            self._ledger.said(Side.CLIENT, self.name, Direction.C2U, label)
            if self._kind == "aware":
                self._debt.say(frame)
            elif self._end is not None:
                self._end.put(frame)
        self._clock.call_later(1 / self._load.rate, self._say)

    def _take(self, frame: Frame) -> None:
        assert self._end is not None, "frames come over it"
        self._heard_at = self._clock.time()
        if frame.kind is FrameKind.DATA:
            self._received += 1
            self._ledger.heard(Side.CLIENT, self.name, Direction.U2C, frame)
        elif frame.kind is FrameKind.PING:
            self._end.put(Frame(FrameKind.PONG, frame.payload))
        elif frame.kind is FrameKind.PONG:
            self._debt.confirm(frame.payload)
        elif frame.kind is FrameKind.RESPONSE:
            self._answered(self._end, frame)
        elif self._ready:
            self._lost(frame.number or 1006)
        else:
            self._unreachable(None)

    def _answered(self, end: End, frame: Frame) -> None:
        self.tried = True
        if frame.number != HTTPStatus.SWITCHING_PROTOCOLS:
            end.open = False
            self._unreachable(frame.number)
            return
        self._ready = True
        self._wait = 0.0
        if self._kind != "aware" or not self._known:
            self._ledger.link(Side.CLIENT, self.name, "connected", True)
        self._known = True
        if self._kind == "aware" and not self._debt.resume(end, frame.received or 0):
            end.close(Frame(FrameKind.END))
            self._over(None, "the counts disagree")
        elif self._ping is not None:
            self._clock.call_later(self._ping, lambda: self._check(end))

    def _check(self, end: End) -> None:
        """Ping the proxy when nothing was heard for a while, and give the link up when nothing is heard even then."""
        if end is not self._end or not end.open or self._ping is None:
            return
        silent = self._clock.time() - self._heard_at
        if silent >= 2 * self._ping:
            end.close(Frame(FrameKind.END))
            self._lost(1006)
            return
        if silent >= self._ping:
            end.put(Frame(FrameKind.PING))
        self._clock.call_later(self._ping, lambda: self._check(end))

    def _give_up(self, end: End) -> None:
        if end is self._end and not self._ready and end.open:
            end.close(Frame(FrameKind.END))
            self._unreachable(None)

    def _unreachable(self, status: int | None) -> None:
        self.tried = True
        self._end = None
        if self._kind == "aware" and self._known:
            if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR:
                self._over(status, "the session is lost")
            else:
                self._dial_again()
            return
        self._ledger.link(Side.CLIENT, self.name, "unreachable", False, status)
        if self._kind == "reconnecting":
            self._dial_again()

    def _lost(self, code: int) -> None:
        self._end = None
        self._ready = False
        self._debt.rest()
        if self._kind == "aware" and code in RETRYABLE:
            self._dial_again()
            return
        self._over(code, "")
        if self._kind == "reconnecting":
            self._dial_again()

    def _over(self, code: int | None, reason: str) -> None:
        self._ready = False
        self._ledger.link(Side.CLIENT, self.name, "disconnected", self._leaving, code, reason)

    def _dial_again(self) -> None:
        self._wait = min(RETRY_SECONDS, max(0.05, 2 * self._wait))
        self._clock.call_later(self._wait * self._draw.random(), self.dial)
