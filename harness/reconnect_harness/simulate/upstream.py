"""The upstream of a simulation: an ordinary server, or one that keeps sessions as PROTOCOL.md says.

It is to `peers.ordinary` and `peers.aware` what a simulated network is to sockets.
"""

from __future__ import annotations

import random
from http import HTTPStatus

from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End as Side
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.simulate.network import Connection, End, Frame, FrameKind, VirtualClock
from reconnect_harness.simulate.peers import Debt, Ledger, next_frame
from reconnect_proxy.core.policy import RETRYABLE


class _Session:
    """What an upstream knows of one session."""

    def __init__(self, stream: str, load: Workload, seed: int, debt: Debt) -> None:
        self.speaker = Speaker(load, stream, Direction.U2C, str(seed))
        self.debt = debt
        self.received = 0
        self.end: End | None = None
        self.over = False
        self.pushing = False

    @property
    def stream(self) -> str:
        """What its messages are called."""
        return self.speaker.stream


class SimulatedUpstream:
    """A server: an ordinary one that takes and pushes, or an aware one that keeps sessions."""

    def __init__(self, scenario: Scenario, clock: VirtualClock, ledger: Ledger, seed: int) -> None:
        self.name = "u1"
        # Killed; or stopped, as by SIGSTOP.
        self.is_dead = self.is_stopped = False
        self._aware = scenario.upstream.kind == "aware"
        self._load = scenario.upstream.load
        self._clock = clock
        self._ledger = ledger
        self._seed = seed
        self._sessions: dict[str, _Session] = {}
        self._streams = 0
        self._connections: list[Connection] = []
        self._is_quiet = False
        self._talking = False

    def accept(self, connection: Connection) -> None:
        """Take a connection."""
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
            self._push_on(session, session.end)

    def quiet(self) -> None:
        """Push nothing more."""
        self._is_quiet = True

    def kill(self, draw: random.Random) -> None:
        """End at once, and forget everything."""
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
        """Be there again, without memory."""
        self.is_dead = False

    def stop(self) -> None:
        """Do nothing any more, until `cont`."""
        self.is_stopped = True
        for connection in self._connections:
            connection.far.pause()

    def cont(self) -> None:
        """Go on."""
        if self.is_stopped:
            self.is_stopped = False
            for connection in self._connections:
                connection.far.resume()

    def _admit(self, end: End, frame: Frame) -> None:
        """Answer a handshake."""
        if frame.kind is not FrameKind.REQUEST or frame.claim is None:
            return
        claim = frame.claim
        key = claim.session_id or str(self._streams + 1)
        session = self._sessions.get(key)
        if self._aware and session is None and claim.resume_or_fail:
            self._refuse(end, HTTPStatus.GONE, "no session of this id lives here")
            return
        if session is None:
            session = self._sessions[key] = self._begin()
        if self._aware and not session.debt.confirmed <= (claim.received or 0) <= session.debt.said:
            detail = f"{claim.received} received? {session.debt.confirmed} confirmed, {session.debt.said} sent"
            self._refuse(end, HTTPStatus.CONFLICT, detail)
            return
        if session.end is not None:
            session.end.close(Frame(FrameKind.END))
        session.end = end
        end.on_frame = lambda each: self._take(session, end, each)
        count = session.received if self._aware else None
        end.put(Frame(FrameKind.RESPONSE, number=HTTPStatus.SWITCHING_PROTOCOLS, received=count))
        self._ledger.link(Side.UPSTREAM, session.stream, "connected", True)
        if self._aware:
            session.debt.resume(end, claim.received or 0)
        if self._talking:
            self._push_on(session, end)

    def _begin(self) -> _Session:
        self._streams += 1
        stream = f"{self.name}.{self._streams}"
        debt = Debt(self._clock, lambda words: self._ledger.link(Side.UPSTREAM, stream, "breach", False, reason=words))
        return _Session(stream, self._load, self._seed, debt)

    def _refuse(self, end: End, status: HTTPStatus, detail: str) -> None:
        self._ledger.link(Side.UPSTREAM, self.name, "refused", True, status, detail)
        end.put(Frame(FrameKind.RESPONSE, number=status))
        end.close(Frame(FrameKind.END))

    def _take(self, session: _Session, end: End, frame: Frame) -> None:
        if frame.kind is FrameKind.DATA:
            session.received += 1
            self._ledger.heard(Side.UPSTREAM, self.name, Direction.C2U, frame)
        elif frame.kind is FrameKind.PING:
            end.put(Frame(FrameKind.PONG, frame.payload))
        elif frame.kind is FrameKind.PONG:
            session.debt.confirm(frame.payload)
        elif session.end is end:
            session.end = None
            session.debt.rest()
            code = frame.number or 1006
            self._ledger.link(Side.UPSTREAM, session.stream, "disconnected", False, code)
            if self._aware and code not in RETRYABLE:
                session.over = True
                self._sessions = {key: each for key, each in self._sessions.items() if each is not session}

    def _push_on(self, session: _Session, end: End | None) -> None:
        """Push for as long as the connection lasts; an aware upstream for as long as the session does."""
        if not self._load.rate or (self._aware and session.pushing):
            return
        session.pushing = True

        def push() -> None:
            if self._is_quiet or session.over or (not self._aware and (session.end is not end or end is None)):
                return
            if not self.is_stopped:
                label, frame = next_frame(session.speaker)
                self._ledger.said(Side.UPSTREAM, self.name, Direction.U2C, label)
                if self._aware:
                    session.debt.say(frame)
                elif end is not None:
                    end.put(frame)
            self._clock.call_later(1 / self._load.rate, push)

        self._clock.call_later(0.0, push)
