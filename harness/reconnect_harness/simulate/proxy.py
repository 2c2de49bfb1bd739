"""The proxy of a simulation: what `reconnect_proxy.proxy` and `net` do around the core, without sockets.

It finds the session of a handshake, dials, and turns frames into calls of the core and back.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from reconnect_harness.simulate.network import Connection, End, Frame, FrameKind, SimulatedLink, VirtualClock
from reconnect_harness.simulate.peers import REFUSED_SECONDS
from reconnect_harness.simulate.upstream import SimulatedUpstream
from reconnect_proxy.core.context import Context
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.opening import Opening
from reconnect_proxy.core.policy import Policy
from reconnect_proxy.core.pool import Pool
from reconnect_proxy.core.target import UpstreamAddress
from reconnect_proxy.core.upstream import DialAnswer, DialFailure, DialRequest, Upstream
from reconnect_proxy.core.wire import Claim, Refusal, new_id


class SimulatedProxy:
    """The sessions of a proxy, as `reconnect_proxy.Proxy` keeps them: finds or makes the one of a handshake.

    Args:
        policy: the mode and the settings.
        clock: the time.
        dialler: makes what reaches the upstream, one for each session.

    """

    def __init__(self, policy: Policy, clock: VirtualClock, dialler: Callable[[], SimulatedDialler]) -> None:
        self._policy = policy
        self._clock = clock
        self._dialler = dialler
        self._pool = Pool([UpstreamAddress("ws://upstream")], clock, lambda event: None)
        self._alive: list[Context] = []
        self._by_id: dict[str, Context] = {}

    @property
    def sessions(self) -> int:
        """How many sessions have not ended."""
        return len(self._alive)

    def accept(self, connection: Connection) -> None:
        """Take a connection of a client."""
        end = connection.far
        end.on_frame = lambda frame: self._greet(end, frame)

    def _greet(self, end: End, frame: Frame) -> None:
        """Answer a handshake when the first dial of its session is decided."""
        if frame.kind is not FrameKind.REQUEST or frame.claim is None:
            return
        claim = frame.claim
        try:
            context = self._enter(claim)
        except Refusal as refusal:
            _refuse(end, refusal.status)
            return

        def opened(opening: Opening) -> None:
            if opening.refusal is not None or opening.failure is not None:
                _refuse(end, opening.refusal.status if opening.refusal else 502)
                return
            try:
                count = context.admit(claim)
            except Refusal as refusal:
                _refuse(end, refusal.status)
                return
            end.put(Frame(FrameKind.RESPONSE, number=HTTPStatus.SWITCHING_PROTOCOLS, received=count))
            leg = SimulatedLeg(end)
            leg.link = context.attach(leg, claim)

        # Until it is answered, all that a client can do is to go away again.
        end.on_frame = lambda last: context.client_left(opened)
        context.when_opened(opened)

    def _enter(self, claim: Claim) -> Context:
        """Return the session of a handshake. Raises Refusal, PROTOCOL.md section 3."""
        named = claim.session_id if self._policy.resumable else None
        found = self._by_id.get(named) if named else None
        if found is not None and found.resumable:
            return found
        if claim.resume_or_fail:
            raise Refusal(HTTPStatus.GONE, "session-gone", "no living session has this id")
        if claim.received:
            raise Refusal(HTTPStatus.CONFLICT, "histories-disagree", "the count of a new session must be 0")
        key = named or new_id()
        context = Context(key, self._pool, self._dialler(), self._clock, self._policy, lambda event: None, self._forget)
        self._alive.append(context)
        self._by_id[key] = context
        context.open()
        return context

    def _forget(self, context: Context) -> None:
        self._alive.remove(context)
        if context.session_id and self._by_id.get(context.session_id) is context:
            del self._by_id[context.session_id]


def _refuse(end: End, status: int) -> None:
    end.put(Frame(FrameKind.RESPONSE, number=status))
    end.close(Frame(FrameKind.END))


class SimulatedLeg:
    """The proxy's end of a connection; satisfies `reconnect_proxy.core.link.Leg`."""

    def __init__(self, end: End) -> None:
        self.writable = True
        # Simulated messages are never compressed.
        self.deflate = False
        # What the core makes of this socket; set as soon as it has made it.
        self.link: Link | None = None
        self._end = end
        end.on_frame = self._take
        end.on_room = self._room

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write a message."""
        self._end.put(Frame(FrameKind.DATA, payload, opcode))
        self.writable = not self._end.blocked

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping."""
        self._end.put(Frame(FrameKind.PING, payload))

    def close(self, code: int, reason: str) -> None:
        """Write a close frame. What still comes is heard, and is nothing to the core."""
        self._end.close(Frame(FrameKind.CLOSE, number=code), hears=True)

    def abort(self) -> None:
        """Drop the socket."""
        self._end.close(Frame(FrameKind.END))

    def pause_reading(self) -> None:
        """Take nothing for a while."""
        self._end.pause()

    def resume_reading(self) -> None:
        """Take what comes."""
        self._end.resume()

    def progress(self) -> int:
        """Return how many frames have come."""
        return self._end.frames

    def flushed(self) -> bool:
        """Tell whether all that was written has left the network."""
        return self._end.out is None or self._end.out.empty

    def _take(self, frame: Frame) -> None:
        link = self.link
        assert link is not None, "frames come when the core has its link"
        if frame.kind is FrameKind.DATA:
            link.on_message(frame.number, frame.payload)
        elif frame.kind is FrameKind.PING:
            link.on_heard()
            self._end.put(Frame(FrameKind.PONG, frame.payload))
        elif frame.kind is FrameKind.PONG:
            link.on_pong(frame.payload)
        else:
            link.on_lost(frame.number or 1006, "")

    def _room(self) -> None:
        self.writable = True
        if self.link is not None:
            self.link.on_writable()


class SimulatedDialler:
    """Reaches the upstream for one session; satisfies `reconnect_proxy.core.upstream.Dialler`."""

    def __init__(self, link: SimulatedLink, upstream: SimulatedUpstream) -> None:
        self._link = link
        self._upstream = upstream
        # The dial under way: its number, and its socket where there is one yet.
        self._number = 0
        self._end: End | None = None

    def dial(self, dial: DialRequest, upstream: Upstream) -> None:
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
        new, known = (None, dial.session_id) if dial.redial else (dial.session_id, None)
        end.put(Frame(FrameKind.REQUEST, claim=Claim(new, known, dial.received)))

    def cancel(self) -> None:
        """Give the dial under way up."""
        self._number += 1
        end, self._end = self._end, None
        if end is not None:
            end.close(Frame(FrameKind.END))

    def _fail(self, number: int, dial: DialRequest, upstream: Upstream, failure: DialFailure) -> None:
        if number == self._number:
            upstream.on_failed(dial, failure)

    def _answered(self, end: End, dial: DialRequest, upstream: Upstream, frame: Frame) -> None:
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
