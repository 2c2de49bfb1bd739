"""What the core is tested with: a clock that moves when told, and legs and a dialler that record what was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from reconnect_harness.simulate.clock import VirtualClock, VirtualTimer
from reconnect_proxy.core.budget import MemoryBudget
from reconnect_proxy.core.context import Context, SessionState
from reconnect_proxy.core.dial import DialAnswer, DialFailure, DialRequest
from reconnect_proxy.core.interfaces import Acceptance, DialListener, Leg, OnRedial
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.message import Message, Opcode
from reconnect_proxy.core.opening import Opening
from reconnect_proxy.core.policy import RECEIVER, Policy
from reconnect_proxy.core.pool import PROBE_PAUSE, Pool
from reconnect_proxy.core.target import UpstreamAddress
from reconnect_proxy.core.upstream import Upstream
from reconnect_proxy.core.wire import Claim, decode_token
from reconnect_proxy.events import Event, SessionEnded, SessionOpened

#: Pings far apart, so that a test about something else may let time pass.
CALM = Policy(ping_interval=1000.0, ping_timeout=1000.0)
SHARED = replace(RECEIVER, shared=True, ping_interval=1000.0, ping_timeout=1000.0)
#: What the proxy holds at most before it holds the sender back, in bytes.
SMALL = 1000
#: A legal session id, for sessions whose id does not matter.
SESSION_ID = "0123456789abcdefABCDEF"


class FakeClock(VirtualClock):
    """Time that stands still until `advance`, and that knows whether a timer was left behind; satisfies `Clock`."""

    def __init__(self) -> None:
        # Not 0, so that a time that was never set is not taken for one that was.
        super().__init__(1000.0)

    @property
    def live(self) -> int:
        """How many timers are neither fired nor cancelled."""
        return sum(timer.callback is not None for _, _, timer in self._due)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> VirtualTimer:
        """Call `callback` once `advance` has gone `delay` seconds further."""
        assert delay >= 0, f"a timer was set {-delay} s into the past"
        return super().call_later(delay, callback)


@dataclass
class FakeLeg:
    """A socket that writes down what it was asked to do; satisfies `Leg`."""

    writable: bool = True
    deflate: bool = False
    sent: list[Message] = field(default_factory=list)
    pings: list[int] = field(default_factory=list)
    # Messages and pings together: ("data", payload) and ("ping", number), in the order they were written.
    wire: list[tuple[str, bytes | int]] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    aborted: bool = False
    paused: bool = False
    bytes_read: int = 0
    # What `acceptance` says.
    accepted: int = 0
    waiting: bool = False
    acknowledges: bool = False
    # Stops being writable after so many further messages; None: never.
    room: int | None = None

    @property
    def payloads(self) -> list[bytes]:
        """The payloads of the messages written."""
        return [payload for _, payload in self.sent]

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write a message down."""
        assert self.closed is None, "a message was sent behind the close frame"
        assert not self.aborted, "a message was sent on an aborted socket"
        self.sent.append((opcode, payload))
        self.wire.append(("data", payload))
        if self.room is not None:
            self.room -= 1
            self.writable = self.room > 0

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping down, as the number it stands for."""
        assert self.closed is None, "a Ping was sent behind the close frame"
        assert not self.aborted, "a Ping was sent on an aborted socket"
        number = decode_token(payload)
        assert number is not None, f"{payload!r} is no ping token"
        self.pings.append(number)
        self.wire.append(("ping", number))

    def close(self, code: int, reason: str) -> None:
        """Write the close down; only the first counts, as on a socket."""
        if self.closed is None:
            self.closed = (code, reason)

    def abort(self) -> None:
        """Write the abort down."""
        self.aborted = True

    def pause_reading(self) -> None:
        """Stop being read."""
        assert not self.paused, "paused twice"
        self.paused = True

    def resume_reading(self) -> None:
        """Be read again."""
        assert self.paused, "resumed without having been paused"
        self.paused = False

    def progress(self) -> int:
        """Return how many bytes a test says have arrived."""
        return self.bytes_read

    def acceptance(self) -> Acceptance:
        """Tell what a test says."""
        return Acceptance(self.accepted, self.waiting, self.acknowledges)


class FakeDialler:
    """Writes each dial down and leaves it to the test to answer it; satisfies `Dialler`."""

    def __init__(self) -> None:
        self.dials: list[DialRequest] = []
        self.cancels = 0
        # The dial under way, and who hears of it.
        self.under_way: tuple[DialRequest, Upstream] | None = None

    def dial(self, dial: DialRequest, upstream: DialListener) -> None:
        """Write a dial down."""
        assert isinstance(upstream, Upstream)
        assert self.under_way is None, "two dials at a time"
        self.dials.append(dial)
        self.under_way = (dial, upstream)

    def cancel(self) -> None:
        """Forget the dial under way."""
        self.cancels += 1
        self.under_way = None

    def answer(self, answer: DialAnswer | None = None, leg: Leg | None = None) -> tuple[Leg, Link | None]:
        """Answer the dial under way with a 101; returns its socket and what the core made of it."""
        assert self.under_way is not None, "no dial is under way"
        (dial, upstream), self.under_way = self.under_way, None
        leg = leg or FakeLeg()
        return leg, upstream.on_connected(dial, leg, answer or DialAnswer())

    def fail(
        self, detail: str = "connection refused", status: int = 0, body: bytes = b"", incurable: bool = False
    ) -> None:
        """Fail the dial under way."""
        assert self.under_way is not None, "no dial is under way"
        (dial, upstream), self.under_way = self.under_way, None
        upstream.on_failed(dial, DialFailure(detail, status, body, incurable=incurable))


class SessionRig:
    """A session with everything around it: the clock, the dialler, the pool, and a list of its events."""

    def __init__(
        self,
        policy: Policy | None = None,
        urls: Sequence[str] = ("ws://one",),
        session_id: str | None = SESSION_ID,
        max_dials: int = 64,
        sharing: SessionRig | None = None,
        budget: MemoryBudget | None = None,
        on_redial: OnRedial | None = None,
    ) -> None:
        """Make a session; `sharing` the clock and the upstreams of another one."""
        self.clock = sharing.clock if sharing else FakeClock()
        self.dialler = FakeDialler()
        self.events: list[Event] = []
        self.ended = 0
        self.openings: list[Opening] = []
        self.policy = policy or (sharing.policy if sharing else Policy())
        # What the pool says is not heard: these tests are about the session. Its pauses are short, and always the same.
        servers = [UpstreamAddress(url) for url in urls]
        self.pool = sharing.pool if sharing else Pool(servers, self.clock, lambda event: None, max_dials, draw=min)
        around = (self.pool, self.dialler, self.clock, self.policy, self.events.append, self._on_ended, budget)
        self.context = Context(session_id, *around, on_redial=on_redial)

    def _on_ended(self, context: Context) -> None:
        assert context is self.context
        self.ended += 1

    def seen(self, kind: type[Event]) -> list[Event]:
        """Return the events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def open(self) -> None:
        """Dial for the first time, with one client waiting for the outcome."""
        self.context.when_opened(self.openings.append)
        self.context.open()

    def connect(self, answer: DialAnswer | None = None) -> tuple[FakeLeg, Link]:
        """Answer the dial under way; returns the upstream's socket and its link."""
        leg = FakeLeg()
        _, link = self.dialler.answer(answer, leg)
        assert link is not None
        return leg, link

    def reconnect(self, answer: DialAnswer | None = None) -> tuple[FakeLeg, Link]:
        """Wait for the redial and answer it: for up to 3 s, and then for the next probe if the upstream is out."""
        self.clock.advance(3.0)
        if self.dialler.under_way is None:
            self.clock.advance(2 * PROBE_PAUSE)
        return self.connect(answer)

    def client(
        self, received: int | None = None, leg: FakeLeg | None = None, claim: Claim | None = None
    ) -> tuple[FakeLeg, Link]:
        """Attach a client as the listener does: settle the counts, then hand the socket over."""
        leg = leg or FakeLeg()
        claim = claim or Claim(received=received)
        self.context.admit(claim)
        return leg, self.context.attach(leg, claim)


def started(
    policy: Policy | None = None,
    client_aware: bool = False,
    upstream_aware: bool = False,
    leg: FakeLeg | None = None,
    budget: MemoryBudget | None = None,
) -> tuple[SessionRig, FakeLeg, Link, FakeLeg, Link]:
    """Return a session with both legs connected: the rig, the client's socket and link, the upstream's."""
    rig = SessionRig(policy, budget=budget)
    rig.open()
    upstream_leg, upstream_link = rig.connect(DialAnswer(received=0 if upstream_aware else None))
    client_leg, client_link = rig.client(0 if client_aware else None, leg)
    return rig, client_leg, client_link, upstream_leg, upstream_link


def waiting(policy: Policy | None = None) -> SessionRig:
    """Return a session whose first dial is under way, with one client waiting for its outcome."""
    rig = SessionRig(policy)
    rig.open()
    return rig


def say(link: Link, *payloads: bytes | str) -> None:
    """Let the peer of `link` send messages: text for str, binary for bytes."""
    for payload in payloads:
        if isinstance(payload, str):
            link.on_message(Opcode.TEXT, payload.encode())
        else:
            link.on_message(Opcode.BINARY, payload)


def pong(link: Link, number: int) -> None:
    """Let the peer of `link` answer the Ping that stands for message `number`."""
    link.on_pong(number.to_bytes(8, "big"))


def over(rig: SessionRig) -> bool:
    """Tell whether the session has ended: said so once, and left neither a timer nor a dial nor a link."""
    ended = rig.context.state is SessionState.ENDED
    if ended:
        assert rig.ended == 1
        assert rig.clock.live == 0
        assert rig.dialler.under_way is None
        assert not rig.context.clients.links
        assert rig.context.upstream.link is None
    return ended


def never_was(rig: SessionRig) -> bool:
    """Tell whether the session is over without having opened: no event says that it began, or ended."""
    return over(rig) and rig.seen(SessionOpened) == rig.seen(SessionEnded) == []


def the_end(rig: SessionRig) -> SessionEnded:
    """Return the event of the session's end."""
    assert over(rig)
    [ended] = rig.seen(SessionEnded)
    assert isinstance(ended, SessionEnded)
    return ended


def confirm(leg: FakeLeg, link: Link) -> None:
    """Answer the last Ping that was written to `leg`."""
    pong(link, leg.pings[-1])


def confirm_all(rig: SessionRig, leg: FakeLeg, link: Link) -> None:
    """Let the Ping go out, and answer it; and the one behind it, where there was one in the midst of it all."""
    while link.outbox.unconfirmed:
        rig.clock.advance(0.2)
        confirm(leg, link)
