"""The upstream of a simulation: an ordinary server, or one that keeps sessions as PROTOCOL.md says.

`peers.ordinary` and `peers.aware` are the real ones.
"""

from __future__ import annotations

import random
from http import HTTPStatus

from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.simulate.clock import VirtualClock
from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind, SimulatedConnection
from reconnect_harness.simulate.peers import AwareOutbox, SimulationRecorder, next_frame
from reconnect_proxy.core.policy import RETRYABLE


class _UpstreamSession:
    """What an upstream knows of one session."""

    def __init__(self, stream: str, load: Workload, seed: int, outbox: AwareOutbox) -> None:
        self.speaker = Speaker(load, stream, Direction.U2C, str(seed))
        self.outbox = outbox
        self.received = 0
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
        if self._aware and not session.outbox.confirmed <= (claim.received or 0) <= session.outbox.said:
            detail = f"{claim.received} received? {session.outbox.confirmed} confirmed, {session.outbox.said} sent"
            self._refuse(end, HTTPStatus.CONFLICT, detail)
            return
        if session.end is not None:
            session.end.close(Frame(FrameKind.END))
        session.end = end
        end.on_frame = lambda each: self._take(session, end, each)
        count = session.received if self._aware else None
        end.put(Frame(FrameKind.RESPONSE, number=HTTPStatus.SWITCHING_PROTOCOLS, received=count))
        self._recorder.link(End.UPSTREAM, session.stream, "connected", True)
        if self._aware:
            session.outbox.resume(end, claim.received or 0)
        if self._talking:
            self._begin_push(session, end)

    def _new_session(self) -> _UpstreamSession:
        self._streams += 1
        stream = f"{self.name}.{self._streams}"

        def breach(words: str) -> None:
            self._recorder.link(End.UPSTREAM, stream, "breach", False, reason=words)

        return _UpstreamSession(stream, self._load, self._seed, AwareOutbox(self._clock, breach))

    def _refuse(self, end: ConnectionEnd, status: HTTPStatus, detail: str) -> None:
        self._recorder.link(End.UPSTREAM, self.name, "refused", True, status, detail)
        end.put(Frame(FrameKind.RESPONSE, number=status))
        end.close(Frame(FrameKind.END))

    def _take(self, session: _UpstreamSession, end: ConnectionEnd, frame: Frame) -> None:
        if frame.kind is FrameKind.DATA:
            session.received += 1
            self._recorder.received(End.UPSTREAM, self.name, Direction.C2U, frame)
        elif frame.kind is FrameKind.PING:
            end.put(Frame(FrameKind.PONG, frame.payload))
        elif frame.kind is FrameKind.PONG:
            session.outbox.on_pong(frame.payload)
        elif session.end is end:
            session.end = None
            session.outbox.link_lost()
            code = frame.number or 1006
            self._recorder.link(End.UPSTREAM, session.stream, "disconnected", False, code)
            if self._aware and code not in RETRYABLE:
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
                label, frame = next_frame(session.speaker)
                self._recorder.sent(End.UPSTREAM, self.name, Direction.U2C, label)
                if self._aware:
                    session.outbox.put(frame)
                elif end is not None:
                    end.put(frame)
            self._clock.call_later(1 / self._load.rate, push)

        self._clock.call_later(0.0, push)
