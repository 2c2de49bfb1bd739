"""The upstream of a simulation: an ordinary server, or one that keeps sessions as PROTOCOL.md says.

`peers.ordinary` and `peers.aware` are the real ones. The aware one has the bookkeeping of `peers.aware`, which shares
no code with the proxy, so that it tests the core.
"""

from __future__ import annotations

import random
from http import HTTPStatus

from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End
from reconnect_harness.peers.aware import RESUMABLE
from reconnect_harness.peers.unconfirmed import ImpossibleCount, UnconfirmedMessages
from reconnect_harness.peers.workload import Speaker
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.simulate.clock import VirtualClock, VirtualTimer
from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind, SimulatedConnection
from reconnect_harness.simulate.peers import SimulationRecorder, frame_of


class _UpstreamSession:
    """What an upstream knows of one session."""

    def __init__(self, speaker: Speaker, clock: VirtualClock) -> None:
        self.speaker = speaker
        self.owed = UnconfirmedMessages(clock.time)
        self.received = 0
        # Set while a Ping will be due.
        self.asking: VirtualTimer | None = None
        self.end: ConnectionEnd | None = None
        self.over = False
        self.pushing = False

    @property
    def stream(self) -> str:
        """The name of its stream."""
        return self.speaker.stream


class SimulatedUpstream:
    """A server that receives and pushes: an ordinary one, or an aware one that keeps sessions.

    Attributes:
        is_dead: whether it was killed, and has not been started again.
        is_stopped: whether it was stopped, as by SIGSTOP.

    """

    def __init__(self, scenario: Scenario, clock: VirtualClock, recorder: SimulationRecorder, seed: int) -> None:
        self.name = "u1"
        self.is_dead = self.is_stopped = False
        self._aware = scenario.upstream.kind == "aware"
        self._load = scenario.upstream.load
        self._clock = clock
        self._recorder = recorder
        self._seed = seed
        self._sessions: dict[str, _UpstreamSession] = {}
        self._streams = 0
        self._connections: list[SimulatedConnection] = []
        self._is_quiet = False
        self._talking = False

    def accept(self, connection: SimulatedConnection) -> None:
        """Accept a connection."""
        self._connections = [each for each in self._connections if each.far.open]
        self._connections.append(connection)
        end = connection.far
        end.on_frame = lambda frame: self._admit(end, frame)
        if self.is_stopped:
            end.pause()

    def talk(self) -> None:
        """Begin to push."""
        self._talking = True
        for session in self._sessions.values():
            self._begin_push(session, session.end)

    def quiet(self) -> None:
        """Push nothing more."""
        self._is_quiet = True

    def kill(self, draw: random.Random) -> None:
        """End at once, and forget all sessions."""
        self.is_dead = True
        self.is_stopped = False
        for connection in self._connections:
            connection.far.open = False
            connection.cut(draw)
        for session in self._sessions.values():
            session.over = True
        self._sessions.clear()
        self._connections.clear()

    def restart(self) -> None:
        """Start again, without sessions."""
        self.is_dead = False

    def stop(self) -> None:
        """Do nothing until `cont`."""
        self.is_stopped = True
        for connection in self._connections:
            connection.far.pause()

    def cont(self) -> None:
        """Go on after `stop`."""
        if self.is_stopped:
            self.is_stopped = False
            for connection in self._connections:
                connection.far.resume()

    def _admit(self, end: ConnectionEnd, frame: Frame) -> None:
        """Answer a handshake."""
        if frame.kind is not FrameKind.REQUEST or frame.claim is None:
            return
        claim = frame.claim
        key = claim.session_id or str(self._streams + 1)
        session = self._sessions.get(key)
        if self._aware and session is None and claim.resume_or_fail:
            self._refuse(end, HTTPStatus.GONE, "there is no session with this id")
            return
        if session is None:
            session = self._sessions[key] = self._new_session()
        if self._aware:
            try:
                session.owed.resume(claim.received or 0)
            except ImpossibleCount as impossible:
                self._refuse(end, HTTPStatus.CONFLICT, str(impossible))
                return
        if session.end is not None:
            session.end.close(Frame(FrameKind.END))
        session.end = end
        end.on_frame = lambda each: self._take(session, end, each)
        count = session.received if self._aware else None
        end.put(Frame(FrameKind.RESPONSE, number=HTTPStatus.SWITCHING_PROTOCOLS, received=count))
        self._recorder.link(End.UPSTREAM, session.stream, "connected", True)
        if self._aware:
            self._send(session)
        if self._talking:
            self._begin_push(session, end)

    def _new_session(self) -> _UpstreamSession:
        self._streams += 1
        stream = f"{self.name}.{self._streams}"
        return _UpstreamSession(Speaker(self._load, stream, Direction.U2C, str(self._seed)), self._clock)

    def _refuse(self, end: ConnectionEnd, status: HTTPStatus, detail: str) -> None:
        self._recorder.link(End.UPSTREAM, self.name, "refused", True, status, detail)
        end.put(Frame(FrameKind.RESPONSE, number=status))
        end.close(Frame(FrameKind.END))

    def _take(self, session: _UpstreamSession, end: ConnectionEnd, frame: Frame) -> None:
        if frame.kind is FrameKind.DATA:
            session.received += 1
            self._recorder.received(End.UPSTREAM, self.name, Direction.C2U, frame, session.stream)
        elif frame.kind is FrameKind.PING:
            end.put(Frame(FrameKind.PONG, frame.payload))
        elif frame.kind is FrameKind.PONG:
            try:
                session.owed.pong(int.from_bytes(frame.payload, "big"))
            except ImpossibleCount as impossible:
                self._recorder.link(End.UPSTREAM, session.stream, "breach", False, reason=str(impossible))
            self._send(session)
        elif session.end is end:
            session.end = None
            code = frame.number or 1006
            self._recorder.link(End.UPSTREAM, session.stream, "disconnected", False, code)
            if self._aware and code not in RESUMABLE:
                session.over = True
                self._sessions = {key: each for key, each in self._sessions.items() if each is not session}

    def _begin_push(self, session: _UpstreamSession, end: ConnectionEnd | None) -> None:
        """Push as long as the connection lasts; an aware upstream as long as the session lasts."""
        if not self._load.rate or (self._aware and session.pushing):
            return
        session.pushing = True

        def push() -> None:
            if self._is_quiet or session.over or (not self._aware and (session.end is not end or end is None)):
                return
            if not self.is_stopped:
                label, message = session.speaker.next()
                self._recorder.sent(End.UPSTREAM, self.name, Direction.U2C, label)
                if self._aware:
                    session.owed.add(message)
                    self._send(session)
                elif end is not None:
                    end.put(frame_of(message))
            self._clock.call_later(1 / self._load.rate, push)

        self._clock.call_later(0.0, push)

    def _send(self, session: _UpstreamSession) -> None:
        """Send the messages that the proxy has not received, and the Pings that ask for their confirmation."""
        if session.asking is not None:
            session.asking.cancel()
            session.asking = None
        if session.end is None:
            return
        for due in session.owed.due():
            session.end.put(Frame(FrameKind.PING, due.to_bytes(8, "big")) if isinstance(due, int) else frame_of(due))
        seconds = session.owed.due_in()
        if seconds is not None:
            session.asking = self._clock.call_later(seconds, lambda: self._send(session))
