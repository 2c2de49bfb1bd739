"""The proxy of a simulation: the real core, with frames of a simulated network instead of sockets.

Which session a handshake belongs to is decided by the real `Registry`. This module stands for `reconnect_proxy.net`: it
turns frames into calls of the core and back.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from reconnect_harness.simulate.clock import VirtualClock
from reconnect_harness.simulate.leg import SimulatedLeg
from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind, SimulatedConnection, SimulatedLink
from reconnect_harness.simulate.peers import REFUSED_SECONDS
from reconnect_harness.simulate.upstream import SimulatedUpstream
from reconnect_proxy.core.context import Context
from reconnect_proxy.core.dial import DialAnswer, DialFailure, DialRequest
from reconnect_proxy.core.interfaces import DialListener
from reconnect_proxy.core.opening import Opening
from reconnect_proxy.core.policy import Policy
from reconnect_proxy.core.pool import Pool
from reconnect_proxy.core.registry import Binding, LocalCounts, LocalIds, Registry
from reconnect_proxy.core.target import UpstreamAddress
from reconnect_proxy.core.wire import Claim, Refusal


class SimulatedProxy:
    """A proxy with the registry of `reconnect_proxy.Proxy` and connections of a simulation.

    Args:
        policy: the mode and the settings.
        clock: the time.
        dialler: makes the dialler of each session.

    """

    def __init__(self, policy: Policy, clock: VirtualClock, dialler: Callable[[], SimulatedDialler]) -> None:
        self._policy = policy
        self._clock = clock
        self._dialler = dialler
        self._pool = Pool([UpstreamAddress("ws://upstream")], clock, lambda event: None)
        self._registry = Registry(policy, LocalIds(), LocalCounts())

    @property
    def sessions(self) -> int:
        """How many sessions have not ended."""
        return len(self._registry.contexts)

    def accept(self, connection: SimulatedConnection) -> None:
        """Accept a connection of a client."""
        end = connection.far
        end.on_frame = lambda frame: self._greet(end, frame)

    def _greet(self, end: ConnectionEnd, frame: Frame) -> None:
        """Answer a handshake when the first dial of its session is decided."""
        if frame.kind is not FrameKind.REQUEST or frame.claim is None:
            return
        claim = frame.claim
        try:
            context, _ = self._registry.enter(SimulatedApplicant(claim, self._make))
        except Refusal as refusal:
            _refuse(end, refusal.status)
            return

        def opened(opening: Opening) -> None:
            if opening.refusal is not None:
                _refuse(end, opening.refusal.status)
            elif opening.failure is not None:
                _refuse(end, opening.failure.status)
            else:
                self._registry.when_named(context, attach)

        def attach() -> None:
            try:
                count = context.admit(claim)
            except Refusal as refusal:
                _refuse(end, refusal.status)
                return
            end.put(Frame(FrameKind.RESPONSE, number=HTTPStatus.SWITCHING_PROTOCOLS, received=count))
            leg = SimulatedLeg(end)
            leg.link = context.attach(leg, claim)

        # Until it is answered, a client can only leave.
        end.on_frame = lambda last: context.client_left(opened)
        context.when_opened(opened)

    def _make(self, session_id: str | None, on_ended: Callable[[Context], None]) -> Context:
        return Context(session_id, self._pool, self._dialler(), self._clock, self._policy, lambda event: None, on_ended)


class SimulatedApplicant:
    """A client as the registry sees it (`reconnect_proxy.core.registry.SessionApplicant`)."""

    def __init__(self, claim: Claim, make: Callable[[str | None, Callable[[Context], None]], Context]) -> None:
        self.claim = claim
        self.binding: Binding | None = None
        self.address: str | None = None
        self._make = make

    def open(self, session_id: str | None, shared: bool, on_ended: Callable[[Context], None]) -> Context:
        """Make a new session. No scenario with a shared one is simulated."""
        return self._make(session_id, on_ended)

    def join(self, context: Context) -> None:
        """Let every client join: there are no hooks."""


def _refuse(end: ConnectionEnd, status: int) -> None:
    end.put(Frame(FrameKind.RESPONSE, number=status))
    end.close(Frame(FrameKind.END))


class SimulatedDialler:
    """Dials the upstream for one session; satisfies `reconnect_proxy.core.interfaces.Dialler`."""

    def __init__(self, link: SimulatedLink, upstream: SimulatedUpstream) -> None:
        self._link = link
        self._upstream = upstream
        # The present dial: its number, and its end of the connection, if there is one yet.
        self._number = 0
        self._end: ConnectionEnd | None = None

    def dial(self, dial: DialRequest, upstream: DialListener) -> None:
        """Start a dial."""
        self._number += 1
        number = self._number
        connection = None if self._upstream.is_dead else self._link.connect()
        if connection is None:
            failure = DialFailure("connection refused")
            self._link.clock.call_later(REFUSED_SECONDS, lambda: self._fail(number, dial, upstream, failure))
            return
        end = self._end = connection.near
        end.on_frame = lambda frame: self._answered(end, dial, upstream, frame)
        self._upstream.accept(connection)
        end.put(Frame(FrameKind.REQUEST, claim=dial.claim))

    def cancel(self) -> None:
        """Give the present dial up."""
        self._number += 1
        end, self._end = self._end, None
        if end is not None:
            end.close(Frame(FrameKind.END))

    def _fail(self, number: int, dial: DialRequest, upstream: DialListener, failure: DialFailure) -> None:
        if number == self._number:
            upstream.on_failed(dial, failure)

    def _answered(self, end: ConnectionEnd, dial: DialRequest, upstream: DialListener, frame: Frame) -> None:
        self._end = None
        if frame.kind is not FrameKind.RESPONSE:
            upstream.on_failed(dial, DialFailure("closed during its handshake"))
        elif frame.number != HTTPStatus.SWITCHING_PROTOCOLS:
            end.open = False
            upstream.on_failed(dial, DialFailure("refused", frame.number))
        else:
            leg = SimulatedLeg(end)
            leg.link = upstream.on_connected(dial, leg, DialAnswer(frame.received))
            if leg.link is None:
                leg.abort()
