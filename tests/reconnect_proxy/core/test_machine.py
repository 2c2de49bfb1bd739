"""A session between two peers over a network that loses, delays and cuts: nothing lost, repeated or reordered.

What is checked, after each step or at the moment it happens (`network` checks each message as it passes):

- nothing confirmed is sent again, and an aware peer is sent exactly what follows its count;
- what an aware peer has is a prefix of what the proxy accepted, and all of it when the network has healed;
- what an unaware peer has is the same, repetitions aside (with `drop`, some may be missing and none is repeated); a
  slow one that is lost gets all of it again;
- what is let go without proof, for a mute peer or with `drop`, is counted as uncertain and reported, exactly, and
  nothing else is missing;
- a peer is called mute only if it is plain, its outbox is full, and it was heard after a Ping was due;
- an aware peer's own messages are accepted in order and once, and the proxy keeps the promise of its Pongs;
- what a filter drops or replaces, and what the embedding program adds, changes no peer's count of its own messages;
- nothing that a dead link says changes anything;
- the bytes held are those of the messages held, stay within the limit, and are all given back to the budget;
- while others fill the budget everything still moves, and a message rate delays and loses nothing;
- every message is asked about within 100 ms, so that a cut repeats no more than was sent in that time and a round trip;
- a session ends only for a cause, says how much it could not deliver, and leaves no timer.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconnect_proxy.core.backoff import CAP, LIVED_LONG
from reconnect_proxy.core.backpressure import HARD_LIMIT
from reconnect_proxy.core.budget import HARD_LIMIT as HARD_LIMIT_OF_ALL
from reconnect_proxy.core.budget import RELIEF, make_budget
from reconnect_proxy.core.context import Context, SessionState
from reconnect_proxy.core.dial import DialAnswer, DialFailure
from reconnect_proxy.core.link import Link, Reading
from reconnect_proxy.core.message import Direction, Message, Opcode
from reconnect_proxy.core.opening import Opening
from reconnect_proxy.core.outbox import MESSAGE_COST
from reconnect_proxy.core.policy import Gate, GateKind, GraceOn, Policy, Uncertain
from reconnect_proxy.core.pool import Pool
from reconnect_proxy.core.target import UpstreamAddress
from reconnect_proxy.core.upstream_state import UpstreamState
from reconnect_proxy.core.wire import Claim, encode_token
from reconnect_proxy.events import (
    Event,
    LegMute,
    LegName,
    Limit,
    LimitReached,
    MessagesDropped,
    MessagesUncertain,
    SessionEnded,
    UncertainDropped,
)
from tests.examples import examples

from .fakes import SESSION_ID, FakeClock
from .network import CONTROL, ExpectedStream, Frame, Kind, Manner, Peer, SimDialler, SimLeg, Socket

# About forty seconds on an idle core, and a loaded machine must not turn it red.
pytestmark = pytest.mark.timeout(900)

POLICY = Policy(grace=30.0, retry_for=100.0, connect_timeout=5.0, ping_interval=20.0, ping_timeout=20.0, slack=0)
#: Bytes of a payload in addition to its name, and what the largest message costs.
SIZES = (0, 300)
LARGEST = 320 + MESSAGE_COST
#: A network delivers within so many seconds, or not at all: above that a peer would rightly be taken for a mute one.
MAX_DELAY = 4.0

policies = st.builds(
    lambda queue, gate, uncertain, grace_on, sender, rate: replace(
        POLICY,
        max_queue=queue,
        max_rate=rate,
        gate=gate,
        uncertain=uncertain,
        grace_on=grace_on,
        resumable=not sender,
        grace=0.0 if sender else POLICY.grace,
    ),
    st.sampled_from([600, 2000, 1_000_000]),
    st.sampled_from([Gate(), Gate(GateKind.FIRST_MESSAGE), Gate(GateKind.PREFIX, CONTROL)]),
    st.sampled_from([Uncertain.RESEND, Uncertain.RESEND, Uncertain.DROP, Uncertain.CLOSE]),
    st.sampled_from(GraceOn),
    st.sampled_from([False, False, False, False, True]),
    st.sampled_from([None, None, None, 100]),
)
#: (bytes that all sessions may hold together, bytes that each outbox may hold in any case)
budgets = st.sampled_from([(None, 0), (600, 200), (3000, 500), (3000, 1000)])
#: (aware, what it does with what it reads)
PROMPT, SLOW, MUTE = Manner
peers = st.sampled_from([*2 * [(True, PROMPT), (False, PROMPT)], (False, SLOW), (False, MUTE)])
names = st.sampled_from(["client", "upstream"])
few = st.sampled_from([0, 1, 2, 100])


def filtered_payload(payload: bytes) -> bytes | None:
    """Return what the filter makes of a message: some are dropped, some replaced."""
    number = int(payload[1:].rstrip(b"\0"))
    if number % 7 == 3:
        return None
    return b"r" + payload if number % 7 == 5 else payload


class SessionMachine(RuleBasedStateMachine):
    """One `Context`, a client, an upstream, and the network between them."""

    context: Context

    @initialize(
        policy=policies,
        client=peers,
        upstream=peers,
        replay=st.booleans(),
        reachable=st.sampled_from([True, True, False]),
        filtered=st.booleans(),
        limit_and_floor=budgets,
    )
    def begin(
        self,
        policy: Policy,
        client: tuple[bool, Manner],
        upstream: tuple[bool, Manner],
        replay: bool,
        reachable: bool,
        filtered: bool,
        limit_and_floor: tuple[int | None, int],
    ) -> None:
        """Dial for the first time; the client attaches when it is told how that went."""
        self.policy = policy
        self.clock = FakeClock()
        self.dialler = SimDialler(self._needs_upstream)
        # The proxy has had a link to the upstream.
        self.met = False
        self.events: list[Event] = []
        # Its timer belongs to no session, so it has a clock of its own. And what other sessions hold.
        limit, floor = limit_and_floor
        self.budget_clock = FakeClock()
        self.budget = make_budget(limit, self.budget_clock, self.events.append, floor)
        self.others = 0
        # The least that `c2u` has held since both outboxes are full.
        self.least_held = 0
        self.c2u, self.u2c = ExpectedStream(), ExpectedStream()
        self.client = self._peer(b"c", client, self.u2c)
        self.upstream = self._peer(b"u", upstream, self.c2u)
        self.replay = replay
        # All sockets that may still say something, dead ones too.
        self.sockets: list[Socket] = []
        self.controls = self.additions = 0
        self.last_control: bytes | None = None
        self.steps = 0
        # For how long frames have been on their way at the most.
        self.delay = 0.0
        # Something has happened that ends a session; the upstream has said goodbye.
        self.cause = self.farewell = False
        self.ended = 0
        self.attached_at = self.clock.now
        # Since when the upstream may have been without progress, and whether it is at present: see `_watch_progress`.
        self.proven_at, self.in_series = self.clock.now, False
        self.confirmed_before = 0
        # The link that is up, since when, and how much the upstream was owed in all by then.
        self.up: tuple[Link, float, int] | None = None
        pool = Pool([UpstreamAddress("ws://one"), UpstreamAddress("ws://two")], self.clock, lambda event: None)
        around = (self.dialler, self.clock, policy, self._observe, self._on_ended)
        self.filtered = filtered
        self.context = Context(SESSION_ID, pool, *around, self.budget, self._filter if filtered else None)
        self.context.when_opened(self._on_opened)
        self.context.open()
        if reachable:
            self.upstream_answers(0, True, True)
        else:
            self.dial_fails()
            self.dial_fails()
        self.flush()

    def _peer(self, name: bytes, kind: tuple[bool, Manner], owed: ExpectedStream) -> Peer:
        aware, manner = kind
        may_repeat = not aware and self.policy.uncertain is Uncertain.RESEND
        return Peer(name, aware, manner, owed, may_repeat, self.clock)

    def _on_opened(self, opening: Opening) -> None:
        assert opening.refusal is None
        assert opening.failure is None
        self._connect_client(0)

    def _on_ended(self, context: Context) -> None:
        self.ended += 1

    def _filter(self, direction: Direction, message: Message) -> Message | None:
        opcode, payload = message
        assert payload[:1] == (b"c" if direction is Direction.C2U else b"u"), "the filter is shown what is not for it"
        passed = filtered_payload(payload)
        return None if passed is None else (opcode, passed)

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return self.context.state is SessionState.ENDED

    def _closed(self, peer: Peer) -> bool:
        """Tell whether the session is ending, and the side of this peer is the one that is closed already."""
        ending = self.context.state is SessionState.ENDING
        return ending and self.context.upstream.terminated is (peer is self.upstream)

    # What is true at all times.

    @invariant()
    def the_counts_are_those_of_the_streams(self) -> None:
        """Held, confirmed, sent: as the words of the peers have it, and bounded."""
        self.c2u.agrees_with(self.context.c2u.outbox)
        self.u2c.agrees_with(self.context.u2c.outbox)
        if not self.over:
            assert self.context.c2u.received == len(self.c2u.heard)
            assert self.context.u2c.received == len(self.u2c.heard)
            for stream, expected in ((self.context.c2u, self.c2u), (self.context.u2c, self.u2c)):
                assert stream.uncertain == expected.written_off + expected.confirmed - expected.proven
                assert stream.receivers or expected.confirmed == expected.proven, "a link is over, and nothing was said"
                assert expected.written_off == expected.reported
        assert self.context.u2c.outbox.bytes_held <= self.policy.max_queue + LARGEST
        assert self.context.c2u.outbox.bytes_held <= HARD_LIMIT * self.policy.max_queue + LARGEST
        outboxes = () if self.over else (self.context.c2u.outbox, self.context.u2c.outbox)
        assert self.budget.held == self.others + sum(outbox.bytes_held for outbox in outboxes)
        assert set(self.budget.held_back) <= set(outboxes)
        assert all(outbox.full for outbox in outboxes if outbox in self.budget.held_back)
        self._watch_growth()

    def _watch_growth(self) -> None:
        c2u = self.context.c2u.outbox
        if not (c2u.full and self.context.u2c.outbox.full):
            self.least_held = c2u.bytes_held
        self.least_held = min(self.least_held, c2u.bytes_held)

    @invariant()
    def nothing_waits_without_a_reason(self) -> None:
        """Where the socket takes more and the gate is open, all is sent; and who is not read feeds a full outbox."""
        for link in (*self.context.clients.links, self.context.upstream.link):
            if link is not None and link.open and link.leg.writable:
                assert link.outbox.pending == 0
        upstream = self.context.upstream.link
        assert upstream is None or not upstream.paused or self.context.u2c.outbox.full
        if self.policy.max_rate is None:
            assert not any(client.paused for client in self.context.clients.links) or self.context.c2u.outbox.full

    @invariant()
    def every_message_is_asked_about_within_100_ms(self) -> None:
        """So a trickle is confirmed within that time and a round trip. A mute peer is not asked."""
        for link in (*self.context.clients.links, self.context.upstream.link):
            if link is not None and not link.mute:
                assert isinstance(link.leg, SimLeg)
                assert link.leg.unasked <= 0.1

    @invariant()
    def a_session_ends_for_a_cause_and_leaves_nothing(self) -> None:
        """Its client was away for the grace, its upstream for the budget, or something else has ended it."""
        context, now = self.context, self.clock.now
        assert len(context.clients.links) <= 1
        if context.clients.links:
            self.attached_at = now
        self._watch_progress()
        if context.state is not SessionState.OPEN and not self.cause:
            away = not context.clients.links and now >= self.attached_at + (self.policy.grace or 0.0)
            unavailable = now >= self.proven_at + self.policy.retry_for
            assert away or unavailable or self._is_unused(), f"ended without a cause: {self.events[-3:]}"
            self.cause = True
        ends = [
            (e.undelivered_c2u, e.undelivered_u2c, e.uncertain_c2u, e.uncertain_u2c, e.c2u_messages, e.u2c_messages)
            for e in self.events
            if isinstance(e, SessionEnded)
        ]
        c2u, u2c = self.c2u, self.u2c
        missing = (c2u.undelivered, u2c.undelivered, c2u.uncertain, u2c.uncertain)
        drops = [(e.c2u, e.u2c) for e in self.events if isinstance(e, MessagesDropped)]
        dropped = (self.c2u.dropped, self.u2c.dropped)
        assert drops == ([dropped] if self.over and any(dropped) else [])
        if self.over:
            assert ends == [(*missing, c2u.received, u2c.received)]
            assert self.ended == 1
            assert self.clock.live == 0
            assert self.dialler.under_way is None
            assert self.dialler.answered is None
            assert not context.clients.links
            assert context.upstream.link is None
        else:
            assert ends == []
            assert self.ended == 0

    def _is_unused(self) -> bool:
        """Tell whether the session never had its upstream and holds no message: it ends with its client."""
        held = any(len(stream.accepted) > stream.confirmed for stream in (self.c2u, self.u2c))
        return not (self.met or self.client.aware or self.context.clients.links or held)

    def _needs_upstream(self) -> bool:
        """Tell whether the upstream may be dialled: it knows the session, a client is there, or something is owed."""
        known = self.upstream.aware or self.last_control is not None
        owed = len(self.c2u.accepted) > self.c2u.confirmed
        return known or not self.met or bool(self.context.clients.links) or owed

    def _watch_progress(self) -> None:
        """Watch whether the upstream makes progress: a message is confirmed, or a link lives for long and owes nothing.

        The budget begins with the first loss after that. What is missed here allows an earlier end than there may be.
        """
        outbox, link, now = self.context.c2u.outbox, self.context.upstream.link, self.clock.now
        up = link is not None and link.open
        delivered = self.c2u.proven - self.c2u.written_off
        if delivered > self.confirmed_before:
            self.confirmed_before = delivered
            self.in_series = False
        self.met = self.met or up
        if not up or link is None:
            self.up = None
        elif self.up is None or self.up[0] is not link:
            self.up = (link, now, outbox.pushed)
        elif now >= self.up[1] + LIVED_LONG + 0.2 and not outbox and outbox.pushed == self.up[2]:
            self.in_series = False
        if not self.in_series and up:
            self.proven_at = now
        self.in_series = self.in_series or not up

    # What the peers do.

    @rule(who=names, count=st.sampled_from([1, 1, 2, 5, 70, 330]), size=st.sampled_from(SIZES), arrives=st.booleans())
    def peer_says(self, who: str, count: int, size: int, arrives: bool) -> None:
        """A peer sends messages. They may be fast."""
        peer = self._named(who)
        peer.say(count, size)
        if arrives and peer.socket is not None:
            self._proxy_reads_on(peer.socket)

    @precondition(lambda self: SLOW in (self.client.manner, self.upstream.manner))
    @rule(who=names, frames=few)
    def slow_peer_works(self, who: str, frames: int) -> None:
        """A slow peer comes to some of what it has read."""
        self._named(who).work(frames)

    @precondition(lambda self: self.upstream.socket is not None and self._may_announce())
    @rule()
    def upstream_announces(self) -> None:
        """The upstream sends reconnect data: what opens its gate, or where any message may be that, a new one."""
        self._announce()

    @precondition(lambda self: self.context.resumable and self.policy.resumable)
    @rule(drained=few)
    def client_returns(self, drained: int) -> None:
        """The client opens a new link, whether or not anybody has noticed the loss of the old one."""
        self._connect_client(drained)

    @precondition(lambda self: self.dialler.under_way is not None)
    @rule(drained=few, prompt=st.booleans(), arrives=st.booleans(), meanwhile=st.booleans())
    def upstream_answers(self, drained: int, prompt: bool, arrives: bool, meanwhile: bool = False) -> None:
        """The upstream takes the dial; its 101 is on its way, and what opens its gate, if it is prompt."""
        assert self.dialler.under_way is not None
        dial, upstream = self.dialler.under_way
        peer = self.upstream
        peer.leave(drained)
        socket = Socket(peer)
        socket.dial, socket.count = (dial, upstream), peer.reached if peer.aware else None
        self.dialler.under_way, self.dialler.answered = None, socket
        self.sockets.append(socket)
        peer.socket = socket
        peer.hear_count(dial.received)
        socket.put_to_proxy(Frame(Kind.HELLO))
        if self.policy.gate.kind is not GateKind.FIRST_MESSAGE:
            peer.ready = True
            peer.write()
        elif prompt:
            self._announce()
        if arrives:
            self._proxy_reads_on(socket)
        if meanwhile:
            self.peer_says("client", 1, 0, arrives=True)

    @precondition(lambda self: self.dialler.under_way is not None)
    @rule()
    def dial_fails(self) -> None:
        """No server answers."""
        assert self.dialler.under_way is not None
        (dial, upstream), self.dialler.under_way = self.dialler.under_way, None
        upstream.on_failed(dial, DialFailure("refused"))

    @precondition(lambda self: self.steps > 10)
    @rule(who=names, how=st.sampled_from([1000, 4001, "too big", "stop", "settle"]))
    def finale(self, who: str, how: int | str) -> None:
        """Something happens that may end the session: a goodbye, a message above the limit, the proxy's own stop."""
        peer = self._named(who)
        if how == "settle":
            self._settle_and_stop()
        elif how == "stop":
            self.cause = True
            self.context.close(1012, "service restart")
        elif peer.socket is not None and isinstance(how, int):
            self.farewell = self.farewell or peer is self.upstream
            peer.leave(0, Frame(Kind.CLOSE, number=how))
        elif peer.socket is not None and peer.socket.link is not None and not peer.socket.link.dead:
            self.cause = True
            peer.socket.leg.close(1009, "too big")
            peer.socket.link.on_too_big("too big")

    @rule(who=names, size=st.sampled_from(SIZES))
    def program_adds(self, who: str, size: int) -> None:
        """The embedding program says something itself, to either side."""
        peer, context = self._named(who), self.context
        outbox = (context.c2u if peer is self.upstream else context.u2c).outbox
        if outbox.bytes_held + LARGEST > self.policy.max_queue:
            # It is not held back as a peer is: the limits below are not for it.
            return
        self.additions += 1
        payload = b"p%d" % self.additions + bytes(size)
        taken = not (self.over or self._closed(peer))
        if taken:
            peer.owed.accept(payload)
        leg = LegName.UPSTREAM if peer is self.upstream else LegName.CLIENT
        assert context.add(leg, (Opcode.BINARY, payload)) is taken

    @rule(who=names, behind=st.integers(-1, 3))
    def peer_sends_a_pong_unasked(self, who: str, behind: int) -> None:
        """It names a message of late that no Ping has asked about, and confirms nothing."""
        socket = self._named(who).socket
        if socket is not None and socket.peer.ready:
            socket.put_to_proxy(Frame(Kind.UNASKED_PONG, encode_token(max(socket.peer.owed.furthest - behind, 0))))

    @rule()
    def both_say_more_than_is_wanted(self) -> None:
        """Much arrives from both sides at once, and none of it gets any further for now."""
        for peer in (self.client, self.upstream):
            peer.say(2, SIZES[-1])
            if peer.socket is not None:
                self._proxy_reads_on(peer.socket)

    @precondition(lambda self: self.budget.limit is not None)
    @rule(held=st.sampled_from([0, 500, 2900, 5000]))
    def others_hold(self, held: int) -> None:
        """The other sessions hold more, or less."""
        difference, self.others = held - self.others, held
        if difference > 0:
            self.budget.held += difference
        else:
            self.budget.give_back(-difference)
        self.budget_clock.advance(0.0)

    # What the network does.

    @rule(who=names, towards_proxy=st.booleans(), frames=st.sampled_from([1, 2, 5, 1000]))
    def network_moves(self, who: str, towards_proxy: bool, frames: int) -> None:
        """Some frames arrive."""
        socket = self._named(who).socket
        while socket is not None and frames > 0:
            if towards_proxy and socket.readable_by_proxy():
                self._proxy_reads(socket)
            elif not towards_proxy and socket is socket.peer.socket and socket.readable_by_peer():
                socket.peer.read()
            else:
                break
            frames -= 1

    @rule()
    def old_sockets_speak(self) -> None:
        """What was on its way from sockets that were left arrives."""
        for socket in list(self.sockets):
            if socket is not socket.peer.socket:
                self._proxy_reads_on(socket)

    @rule(
        who=names,
        for_peer=few,
        for_proxy=few,
        code=st.sampled_from([1006, 1006, 1001, 1011]),
        noticed=st.booleans(),
    )
    def network_cuts(self, who: str, for_peer: int, for_proxy: int, code: int, noticed: bool) -> None:
        """A socket breaks; what is kept of each direction still arrives. The proxy may notice, and dial again."""
        socket = self._named(who).socket
        if socket is not None:
            socket.cut(for_peer, for_proxy, code)
            if noticed:
                self._proxy_reads_on(socket)
            if noticed and self.context.upstream.state is UpstreamState.WAITING:
                self._pass(CAP)

    @rule(who=names, for_proxy=few, seconds=st.sampled_from([0.0, 0.0, 12.0, 45.0]))
    def network_falls_silent(self, who: str, for_proxy: int, seconds: float) -> None:
        """A socket moves nothing but the last frames on their way; the proxy may ask, and gets no answer."""
        socket = self._named(who).socket
        if socket is not None:
            socket.fall_silent(for_proxy)
            if seconds > 0:
                self.peer_says("upstream" if who == "client" else "client", 1, 0, arrives=True)
                self._pass(0.15)
                self._proxy_reads_on(socket)
                self.time_passes(seconds)

    @rule(who=names)
    def socket_fills_or_empties(self, who: str) -> None:
        """The proxy's end of a socket takes no more, or takes more again."""
        socket = self._named(who).socket
        if socket is not None:
            self._set_writable(socket, not socket.leg.writable)

    @rule(seconds=st.sampled_from([0.05, 0.15, 0.15, 1.0, 3.0, 12.0, 45.0]))
    def time_passes(self, seconds: float) -> None:
        """Timers fire; a network that is not silent delivers within `MAX_DELAY`."""
        while seconds > 0:
            step = min(seconds, MAX_DELAY)
            if self.delay + step > MAX_DELAY:
                self.flush()
            self._pass(step)
            seconds -= step

    def flush(self) -> None:
        """Let all frames arrive that can."""
        moved, before = 0, -1
        while moved > before:
            before = moved
            for socket in list(self.sockets):
                while socket.readable_by_proxy():
                    self._proxy_reads(socket)
                    moved += 1
                while socket is socket.peer.socket and socket.readable_by_peer():
                    socket.peer.read()
                    moved += 1
            assert moved < 100_000, "the two ends keep each other busy without end"
        self.sockets = [each for each in self.sockets if each.to_proxy or each is each.peer.socket or each.carries()]
        self.delay = 0.0

    # How it is done.

    def _pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.budget_clock.advance(seconds)
        self.delay += seconds
        self.a_session_ends_for_a_cause_and_leaves_nothing()

    def _named(self, who: str) -> Peer:
        self.steps += 1
        return self.client if who == "client" else self.upstream

    def _may_announce(self) -> bool:
        gate = self.policy.gate.kind
        return gate is GateKind.PREFIX or (gate is GateKind.FIRST_MESSAGE and not self.upstream.ready)

    def _announce(self) -> None:
        peer = self.upstream
        assert peer.socket is not None
        self.controls += 1
        peer.socket.put_to_proxy(Frame(Kind.DATA, CONTROL + b"%d" % self.controls))
        peer.ready = True
        peer.write()

    def _set_writable(self, socket: Socket, writable: bool) -> None:
        socket.leg.writable = writable
        if writable and socket.link is not None:
            socket.link.on_writable()

    def _connect_client(self, drained: int) -> None:
        peer = self.client
        peer.leave(drained)
        claim = Claim(SESSION_ID, received=peer.reached if peer.aware else None, replay=self.replay)
        count = self.context.admit(claim)
        socket = peer.socket = Socket(peer)
        self.sockets.append(socket)
        socket.put_to_peer(Frame(Kind.HELLO, number=count))
        self._settle(socket, claim.received)
        socket.link = self.context.attach(socket.leg, claim)
        pushed = [self.last_control] if self.replay and self.last_control and not socket.link.dead else []
        assert socket.leg.controls[: len(pushed)] == pushed

    def _settle_and_stop(self) -> None:
        """The proxy is told to stop: first all that it has accepted is confirmed, where network and peer allow that."""
        dialled = [socket for socket in self.sockets if socket.link is None]
        for socket in self.sockets:
            if socket.link is not None and not socket.link.dead:
                socket.leg.deaf = True
                socket.link.settle()
        self.flush()
        # A redial that succeeds only now may bring more, for which no Ping has asked.
        late = any(socket.link is not None for socket in dialled)
        for socket in [] if late else self.sockets:
            link = socket.link
            # A link that came up only now was not told to settle.
            if link is None or link.dead or link.reading is not Reading.SETTLING or socket.silent or socket.broken:
                continue
            if socket.leg.writable and socket.peer.manner is PROMPT:
                assert link.settled
        self.cause = True
        self.context.close(1012, "service restart")

    def _settle(self, socket: Socket, stated: int | None) -> None:
        """Say where a new link must begin: with what, by then, is not confirmed."""
        owed = socket.peer.owed
        socket.peer.mute = False
        if stated is not None:
            owed.confirm(stated)
        elif owed.furthest > owed.confirmed and self.policy.uncertain is Uncertain.CLOSE:
            self.cause = True
        elif self.policy.uncertain is Uncertain.DROP:
            owed.release(owed.furthest)
            owed.write_off()
        socket.leg.next = owed.confirmed + 1

    def _proxy_reads_on(self, socket: Socket) -> None:
        while socket.readable_by_proxy():
            self._proxy_reads(socket)

    def _proxy_reads(self, socket: Socket) -> None:
        """Give the proxy one frame. On a dead link it changes nothing."""
        frame = socket.leg.take()
        link = socket.link
        if link is None:
            self._upstream_connected(socket, frame)
        elif link.dead:
            before = self._fingerprint()
            self._give(socket, link, frame)
            assert self._fingerprint() == before, f"a dead link's {frame} had an effect"
        elif not (socket.leg.deaf and frame.kind in (Kind.DATA, Kind.PING)):
            self._take_note(socket, link, frame)
            self._watch_growth()
            self._give(socket, link, frame)
            self._watch_progress()
            if frame.kind is Kind.PING:
                socket.put_to_peer(Frame(Kind.PONG, frame.payload))

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, LimitReached) and event.limit is Limit.QUEUE:
            self.cause = True
            assert self._has_grown_too_far()
        if isinstance(event, LegMute):
            self._is_mute(self.client if event.leg is LegName.CLIENT else self.upstream)
        if isinstance(event, MessagesUncertain | UncertainDropped):
            owed = self.client.owed if event.leg is LegName.CLIENT else self.upstream.owed
            owed.write_off()
            owed.reported += event.count

    def _is_mute(self, peer: Peer) -> None:
        """Check that a peer may be called mute; what was written to it is let go."""
        socket = next(each for each in self.sockets if each.peer is peer and each.carries())
        assert not peer.aware
        assert socket.leg.answers_late(self.policy.ping_timeout)
        assert 2 * peer.owed.held >= min(self.policy.max_queue, self.budget.floor), "its outbox is not full"
        peer.mute = True
        peer.owed.release(socket.leg.next - 1)

    def _has_grown_too_far(self) -> bool:
        """Tell whether `c2u` has grown by more than may be while both outboxes were full."""
        held, limit = self.context.c2u.outbox.bytes_held, self.budget.limit
        if held > HARD_LIMIT * self.policy.max_queue:
            return True
        if limit is None or self.budget.held <= RELIEF * limit:
            return False
        left = max(0, HARD_LIMIT_OF_ALL * limit - self.budget.held)
        return held - self.least_held > HARD_LIMIT_OF_ALL * self.budget.floor + left

    def _upstream_connected(self, socket: Socket, frame: Frame) -> None:
        assert socket.dial is not None
        dial, upstream = socket.dial
        self.dialler.answered = None
        if frame.kind is not Kind.HELLO:
            upstream.on_failed(dial, DialFailure("closed during its handshake"))
            return
        replayed = [self.last_control] if upstream.connected_before and self.last_control else []
        if self.policy.gate.kind is not GateKind.FIRST_MESSAGE:
            self._settle(socket, socket.count)
        socket.link = upstream.on_connected(dial, socket.leg, DialAnswer(socket.count))
        assert socket.link is not None
        assert socket.leg.controls == replayed
        assert [each.payload for each in list(socket.to_peer)[: len(replayed)]] == replayed or socket.broken

    def _take_note(self, socket: Socket, link: Link, frame: Frame) -> None:
        """Say what a frame on a live link means, before the proxy hears of it."""
        peer = socket.peer
        self._watch_progress()
        if frame.kind is Kind.PONG:
            number = socket.leg.answered(frame.payload)
            if number is not None:
                peer.owed.confirm(number)
                peer.mute = False
        elif frame.kind is Kind.CLOSE and peer is self.upstream:
            self.cause = self.cause or frame.number in (1000, 4001)
        elif frame.kind is Kind.CLOSE:
            self.cause = self.cause or (
                self.policy.grace_on is GraceOn.ABNORMAL and (peer.aware or frame.number in (1000, 1005))
            )
        elif frame.kind is Kind.DATA and frame.payload.startswith(CONTROL):
            self.last_control = frame.payload
            if not link.open:
                self._settle(socket, socket.count)
        elif frame.kind is Kind.DATA:
            stream = self.c2u if peer is self.client else self.u2c
            # What comes for a side that is closed already is late.
            late = self._closed(self.upstream if peer is self.client else self.client)
            if peer.aware:
                assert frame.payload == peer.stream[len(stream.heard)]
            stream.heard.append(frame.payload)
            passed = filtered_payload(frame.payload) if self.filtered else frame.payload
            if late:
                stream.discarded += 1
            elif passed is None:
                stream.dropped += 1
            else:
                stream.accept(passed)

    def _give(self, socket: Socket, link: Link, frame: Frame) -> None:
        if frame.kind is Kind.DATA:
            link.on_message(Opcode.BINARY, frame.payload)
        elif frame.kind is Kind.PONG or (frame.kind is Kind.UNASKED_PONG and not socket.leg.asks_about(frame.payload)):
            link.on_pong(frame.payload)
        elif frame.kind is Kind.UNASKED_PONG:
            pass
        elif frame.kind is Kind.PING:
            link.on_heard()
        else:
            link.on_lost(frame.number or 1006, "")

    def _fingerprint(self) -> tuple[object, ...]:
        context = self.context
        outboxes = [
            (box.pushed, box.confirmed, box.sent, box.furthest, box.full)
            for box in (context.c2u.outbox, context.u2c.outbox)
        ]
        legs = [(s.leg.closing, s.leg.gone, s.leg.paused, s.leg.next, len(s.to_peer)) for s in self.sockets]
        undelivered = (context.c2u.undelivered, context.u2c.undelivered, context.c2u.uncertain, context.u2c.uncertain)
        where = (context.state, context.upstream.state, context.upstream.replay_info, self.clock.live, self.ended)
        return (where, outboxes, legs, undelivered, len(self.events))

    # How it ends.

    def teardown(self) -> None:
        """Heal the network: everything arrives. Then end the session: nothing is left."""
        if not hasattr(self, "context"):
            return
        self._heal()
        if self.over:
            return
        assert self.context.state is SessionState.OPEN
        for peer, stream in ((self.client, self.c2u), (self.upstream, self.u2c)):
            if peer.aware:
                assert stream.heard == peer.stream
            owed = peer.owed
            assert len(owed.accepted) - peer.received <= owed.written_off + owed.confirmed - owed.proven
        if self.steps % 2 and self.upstream.manner is not MUTE:
            self.client.leave(0, Frame(Kind.CLOSE, number=1001))
            # A client that was too fast is read again only later.
            for seconds in (0.0, 10.0, 31.0):
                self.time_passes(seconds)
                self.flush()
        else:
            self.cause = True
            self.context.close(1012, "service restart")
        assert self.over
        self._check()

    def _heal(self) -> None:
        # At an end that its client has brought about, a session delivers the rest, if it has the time and may.
        in_time = self.clock.now + 10.0 < self.proven_at + self.policy.retry_for
        delivers = not self.farewell and self.upstream.manner is not MUTE and self.policy.uncertain is Uncertain.RESEND
        if self.context.state is SessionState.ENDING and not self.context.upstream.terminated and in_time and delivers:
            self._heal_network()
            assert self.c2u.confirmed == len(self.c2u.accepted), "what the client had said was not delivered at the end"
        else:
            self._heal_network()

    def _heal_network(self) -> None:
        idle = rounds = 0
        while idle < 150 and rounds < 5000:
            before = (self.c2u.confirmed, self.u2c.confirmed)
            for socket in self.sockets:
                if socket.silent:
                    # Now each side is told.
                    socket.silent = socket.broken = False
                    socket.cut(0, 1000, 1006)
                if not socket.leg.writable:
                    self._set_writable(socket, True)
            if self.dialler.under_way is not None:
                self.upstream_answers(100, True, True)
            if self.upstream.socket is not None and not self.upstream.ready:
                self._announce()
            if self.client.socket is None and self.context.resumable and self.policy.resumable:
                self._connect_client(100)
            for peer in (self.client, self.upstream):
                if rounds % 25 == 0 and peer.manner is MUTE:
                    # Only a peer that talks is mute; one that says nothing at all is lost, and comes back.
                    peer.say(1, 0)
            self.flush()
            for peer in (self.client, self.upstream):
                peer.work(100)
            self.flush()
            self._check()
            if self.over or (self.context.state is SessionState.OPEN and self._settled()):
                return
            # A small queue empties in many small steps: each takes up to 100 ms until the Ping.
            moved = before != (self.c2u.confirmed, self.u2c.confirmed)
            idle = 0 if moved else idle + 1
            rounds += 1
            self.time_passes(0.2 if moved else 1.0)
        raise AssertionError(f"the network has healed and still not all has arrived: {self.events[-5:]}")

    def _settled(self) -> bool:
        both = (self.client, self.upstream)
        said = all(not peer.aware or (peer.ready and peer.next == len(peer.stream)) for peer in both)
        # A client that is too fast is read more slowly, and everything else may have come to rest meanwhile.
        unread = any(peer.socket is not None and peer.socket.to_proxy for peer in both)
        return said and not unread and not any(self._unserved(peer) for peer in both)

    def _unserved(self, peer: Peer) -> bool:
        """Tell whether a message has yet to be sent to this peer, or to be confirmed by it.

        One that answers no Ping confirms nothing, and is not called mute while its outbox is not full.
        """
        outbox = self.context.c2u.outbox if peer is self.upstream else self.context.u2c.outbox
        return bool(outbox.pending or outbox.full if peer.manner is MUTE else outbox)

    def _check(self) -> None:
        self.the_counts_are_those_of_the_streams()
        self.nothing_waits_without_a_reason()
        self.a_session_ends_for_a_cause_and_leaves_nothing()


TestSessionMachine = SessionMachine.TestCase
# With HYPOTHESIS_PROFILE=fuzz drawn anew at each run; a failure prints the `@reproduce_failure` that brings it back.
TestSessionMachine.settings = settings(
    max_examples=examples(2000),
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
