"""The ordinary clients of a simulation: plain or reconnecting. `peers.client` has the real ones.

`simulate.aware_client` has what an aware client does differently.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from http import HTTPStatus

from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End
from reconnect_harness.peers.workload import Speaker
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind, SimulatedConnection, SimulatedLink
from reconnect_harness.simulate.peers import REFUSED_SECONDS, SimulationRecorder, frame_of
from reconnect_proxy.core.wire import Claim

#: How long a handshake may take, and the longest wait before a client tries again, in seconds.
OPEN_SECONDS = 10.0
RETRY_SECONDS = 1.0


class SimulatedClient:
    """One client.

    Args:
        name: its name, and that of its stream.
        scenario: says of which kind it is, and what it sends.
        link: its way to the proxy.
        accept: called with each connection that it makes.
        recorder: records what it sees.
        seed: what its waits and messages are drawn from.

    Attributes:
        tried: whether its first handshake is over.

    """

    def __init__(
        self,
        name: str,
        scenario: Scenario,
        link: SimulatedLink,
        accept: Callable[[SimulatedConnection], None],
        recorder: SimulationRecorder,
        seed: int,
    ) -> None:
        self.name = name
        self.tried = False
        self._clock = link.clock
        self._link = link
        self._accept = accept
        self._recorder = recorder
        self._kind = scenario.clients.kind
        self._load = scenario.clients.load
        self._ping = scenario.clients.ping
        self._draw = random.Random(f"{seed} {name} waits")
        self._speaker = Speaker(self._load, name, Direction.C2U, str(seed))
        self._id = f"{name}-{self._draw.getrandbits(128):032x}"
        self._end: ConnectionEnd | None = None
        # Whether the handshake of `_end` is done.
        self._ready = False
        self._heard_at = 0.0
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
        """Send for so many seconds from now on."""
        self._until = self._clock.time() + seconds
        if self._load.rate:
            self._clock.call_later(self._draw.random() / max(1.0, self._load.rate), self._say)

    def leave(self) -> None:
        """Close the conversation."""
        self._leaving = True
        if self._end is not None and self._ready:
            self._end.close(Frame(FrameKind.CLOSE, number=1000))
            self._recorder.link(End.CLIENT, self.name, "disconnected", True, 1000)

    def _claim(self) -> Claim:
        return Claim(connection_id=self._id) if self._kind == "reconnecting" else Claim()

    def _say(self) -> None:
        if self._clock.time() >= self._until or self._leaving:
            return
        if self._can_send():
            label, message = self._speaker.next()
            self._recorder.sent(End.CLIENT, self.name, Direction.C2U, label)
            self._send(frame_of(message))
        self._clock.call_later(1 / self._load.rate, self._say)

    def _can_send(self) -> bool:
        return self._ready and self._end is not None and self._end.open

    def _send(self, frame: Frame) -> None:
        assert self._end is not None, "without a link nothing is sent"
        self._end.put(frame)

    def _take(self, frame: Frame) -> None:
        assert self._end is not None, "the frame came over it"
        self._heard_at = self._clock.time()
        if frame.kind is FrameKind.DATA:
            self._recorder.received(End.CLIENT, self.name, Direction.U2C, frame)
        elif frame.kind is FrameKind.PING:
            self._end.put(Frame(FrameKind.PONG, frame.payload))
        elif frame.kind is FrameKind.RESPONSE:
            self._answered(self._end, frame)
        elif frame.kind in (FrameKind.CLOSE, FrameKind.END):
            if self._ready:
                self._lost(frame.number or 1006, frame.payload.decode())
            else:
                self._unreachable(None, unanswered=True)

    def _answered(self, end: ConnectionEnd, frame: Frame) -> None:
        self.tried = True
        if frame.number != HTTPStatus.SWITCHING_PROTOCOLS:
            end.open = False
            self._unreachable(frame.number)
            return
        self._ready = True
        self._begin(end, frame)

    def _begin(self, end: ConnectionEnd, frame: Frame) -> None:
        """Use a connection that was answered with 101."""
        self._wait = 0.0
        self._recorder.link(End.CLIENT, self.name, "connected", True)
        if self._ping is not None:
            self._clock.call_later(self._ping, lambda: self._check(end))

    def _check(self, end: ConnectionEnd) -> None:
        """Ping the proxy if it has been silent for `ping`, and give the link up if it has been for twice as long."""
        if end is not self._end or not end.open or self._ping is None:
            return
        silent = self._clock.time() - self._heard_at
        if silent >= 2 * self._ping:
            end.close(Frame(FrameKind.END))
            self._lost(1006, "")
            return
        if silent >= self._ping:
            end.put(Frame(FrameKind.PING))
        self._clock.call_later(self._ping, lambda: self._check(end))

    def _give_up(self, end: ConnectionEnd) -> None:
        if end is self._end and not self._ready and end.open:
            end.close(Frame(FrameKind.END))
            self._unreachable(None, unanswered=True)

    def _unreachable(self, status: int | None, *, unanswered: bool = False) -> None:
        """Take a dial that failed: refused with a status, or `unanswered` although its handshake had left."""
        self.tried = True
        self._end = None
        self._recorder.link(End.CLIENT, self.name, "unreachable", False, status)
        if self._kind == "reconnecting":
            self._dial_again()

    def _lost(self, code: int, reason: str) -> None:
        self._end = None
        self._over(code, reason)
        if self._kind == "reconnecting":
            self._dial_again()

    def _over(self, code: int | None, reason: str) -> None:
        self._ready = False
        self._recorder.link(End.CLIENT, self.name, "disconnected", self._leaving, code, reason)

    def _dial_again(self) -> None:
        self._wait = min(RETRY_SECONDS, max(0.05, 2 * self._wait))
        self._clock.call_later(self._wait * self._draw.random(), self.dial)
