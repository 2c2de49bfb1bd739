"""An aware client of a simulation: `AwareSession`, the bookkeeping of `reconnect_proxy.connect`, in virtual time."""

from __future__ import annotations

import math
from typing import Any

from reconnect_harness.history.message import Direction
from reconnect_harness.history.record import End
from reconnect_harness.simulate.client import SimulatedClient
from reconnect_harness.simulate.leg import SimulatedLeg
from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind
from reconnect_proxy.client.aware_session import AwareSession, SessionLost
from reconnect_proxy.core.policy import Policy
from reconnect_proxy.core.wire import CONNECTION_ID, RECEIVED, Claim


class SimulatedAwareClient(SimulatedClient):
    """A client whose session outlives its links. The arguments are those of `SimulatedClient`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        silence = math.inf if self._ping is None else self._ping
        policy = Policy(ping_interval=silence, ping_timeout=silence)
        self._session = AwareSession(self, self._clock, policy, self._id, self._draw.uniform)

    def leave(self) -> None:
        """Close the session."""
        super().leave()
        self._session.end()

    # What an aware client does differently.

    def _claim(self) -> Claim:
        return self._session.claim

    def _can_send(self) -> bool:
        """Send with a link or without: the session keeps the message."""
        return True

    def _send(self, frame: Frame) -> None:
        self._session.push((frame.number, frame.payload))

    def _begin(self, end: ConnectionEnd, frame: Frame) -> None:
        if not self._session.resumable:
            self._recorder.link(End.CLIENT, self.name, "connected", True)
        leg = SimulatedLeg(end)
        try:
            received = self._session.answered({CONNECTION_ID: self._id, RECEIVED: str(frame.received)}.get)
            leg.link = link = self._session.attach(leg, received)
        except SessionLost as over:
            self._recorder.link(End.CLIENT, self.name, "breach", False, reason=over.detail)
            end.close(Frame(FrameKind.END))
            self._over(None, over.detail)
        else:
            link.pump()

    def _unreachable(self, status: int | None, *, unanswered: bool = False) -> None:
        if not self._session.resumable:
            super()._unreachable(status)
            return
        self._end = None
        if unanswered:
            self._session.unanswered()
        try:
            if status is not None:
                self._session.refused(status)
        except SessionLost:
            self._over(status, "the session is lost")
        else:
            self._dial_again()

    def _dial_again(self) -> None:
        try:
            wait = self._session.next_wait("it cannot be reached")
        except SessionLost as over:
            self._over(None, over.detail)
        else:
            self._clock.call_later(wait, self.dial)

    # What the session calls: `reconnect_proxy.client.aware_session.SessionListener`.

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Record a message."""
        self._recorder.received(End.CLIENT, self.name, Direction.U2C, Frame(FrameKind.DATA, payload, opcode))

    def on_relieved(self) -> None:
        """Send without regard to what is not confirmed yet."""

    def on_link_lost(self, code: int, reason: str) -> None:
        """Dial again, if the session goes on."""
        self._end = None
        self._ready = False
        self._session.link_ended()
        if self._session.goes_on_after(code):
            self._dial_again()
        else:
            self._over(code, reason)
