"""The bookkeeping of an aware client without sockets, against the harness's own implementation of an aware peer.

`AwareSession` and `UnconfirmedMessages` were written independently from PROTOCOL.md, so each tests the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from reconnect_harness.peers.unconfirmed import ImpossibleCount, UnconfirmedMessages
from reconnect_proxy.client.aware_session import AwareSession, SessionLost, is_final
from reconnect_proxy.core.backoff import CAP, LIVED_LONG
from reconnect_proxy.core.interfaces import Leg
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.message import Message, Opcode
from reconnect_proxy.core.policy import Policy

from ...examples import examples
from ..core.fakes import FakeClock, FakeLeg

ID = "an-id-of-the-client-0123"
COUNT = "X-Reconnect-Received"

#: A link that is silent for 40 s is lost.
POLICY = Policy(retry_for=10.0, ping_interval=20.0, ping_timeout=20.0)


class Layer:
    """The layer over a session: it keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.relieved = 0
        self.losses: list[int] = []

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Keep a message."""
        self.messages.append((opcode, payload))

    def on_relieved(self) -> None:
        """Count the call."""
        self.relieved += 1

    def on_link_lost(self, code: int, reason: str) -> None:
        """Keep the code."""
        self.losses.append(code)


def new_session(
    session_id: str | None = ID, draw: Callable[[float, float], float] = max
) -> tuple[AwareSession, Layer, FakeClock]:
    """Make a session whose waits are as long as they may be."""
    layer, clock = Layer(), FakeClock()
    return AwareSession(layer, clock, POLICY, session_id, draw), layer, clock


def open_link(session: AwareSession, received: int | str | None = 0, session_id: str | None = ID) -> FakeLeg:
    """Answer a handshake of the session with 101, and attach the link."""
    headers = {"X-Connection-Id": session_id, COUNT: None if received is None else str(received)}
    leg = FakeLeg()
    session.attach(leg, session.answered(headers.get)).pump()
    return leg


def lose_link(session: AwareSession) -> None:
    """End the link without a close frame."""
    session.link_ended()
    assert session.goes_on_after(1006)


# Handshakes.


def test_the_first_handshake_opens_a_session_and_the_later_ones_resume_it() -> None:
    """With the count of all messages that were taken, and the id that the peer has given."""
    session, _, _ = new_session(None)
    assert session.request_headers() == {COUNT: "0"}
    open_link(session, session_id="an-id-of-the-proxy-0123")
    assert session.resumable
    for _ in range(3):
        session.take(Opcode.TEXT, b"x")
    assert session.request_headers() == {COUNT: "3", "X-Reconnect-Id": "an-id-of-the-proxy-0123"}


def test_a_chosen_id_is_named_in_the_first_handshake() -> None:
    """So the first dial can be repeated."""
    session, _, _ = new_session()
    assert session.request_headers() == {COUNT: "0", "X-Connection-Id": ID}


@pytest.mark.parametrize(("session_id", "received"), [(None, None), (ID, None), (None, 0)])
def test_a_peer_that_states_no_count_or_no_id_resumes_nothing(session_id: str | None, received: int | None) -> None:
    """The session ends with its first link, whatever the close code."""
    session, _, _ = new_session()
    open_link(session, received, session_id)
    assert session.resumable is False
    session.link_ended()
    assert not session.goes_on_after(1006)


@pytest.mark.parametrize(
    ("received", "session_id", "words"),
    [
        (None, ID, "does not say what it received"),
        ("-1", ID, "does not say what it received"),
        (0, "an-id-of-someone-else-0", "resumed another session"),
        # Two messages were sent, and the first of them was confirmed.
        (3, ID, "disagrees"),
        (0, ID, "disagrees"),
    ],
)
def test_an_answer_that_does_not_go_with_the_session_ends_it(
    received: int | str | None, session_id: str, words: str
) -> None:
    """And the messages that were not confirmed are returned, in order."""
    session, _, clock = new_session()
    leg = open_link(session)
    session.push((Opcode.TEXT, b"1"))
    clock.advance(0.1)
    assert leg.pings == [1]
    assert session.link is not None
    session.link.on_pong((1).to_bytes(8, "big"))
    session.push((Opcode.BINARY, b"2"))
    lose_link(session)
    session.push((Opcode.TEXT, b"3"))
    with pytest.raises(SessionLost, match=words):
        open_link(session, received, session_id)
    assert session.end() == [(Opcode.BINARY, b"2"), (Opcode.TEXT, b"3")]
    assert clock.live == 0


@pytest.mark.parametrize(
    ("status", "final"),
    [
        *((status, True) for status in (400, 403, 404, 409, 410)),
        *((status, False) for status in (302, 408, 425, 429, 500, 503)),
    ],
)
def test_which_statuses_are_final(status: int, final: bool) -> None:
    """PROTOCOL.md section 3: a refusal with 4xx is final, unless the status says that it may pass."""
    session, _, _ = new_session()
    assert is_final(status) is final
    if final:
        with pytest.raises(SessionLost, match=f"HTTP {status}: why") as over:
            session.refused(status, "why")
        assert over.value.status == status
    else:
        session.refused(status, "why")


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 1010, 1014, 3000, 4000, 4321])
def test_a_final_close_ends_the_session(code: int) -> None:
    """PROTOCOL.md section 6; 1014 says that the upstream is lost, and 4000 that another client has the session."""
    session, _, _ = new_session()
    open_link(session)
    session.link_ended()
    assert not session.goes_on_after(code)


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013])
def test_a_lost_link_or_a_restart_ends_no_session(code: int) -> None:
    """It goes on over a new link."""
    session, _, _ = new_session()
    open_link(session)
    session.link_ended()
    assert session.goes_on_after(code)


def test_a_dial_without_an_answer_explains_one_takeover() -> None:
    """Its handshake may reach the proxy late, and take the session over from a link of this very client."""
    session, _, _ = new_session()
    open_link(session)
    session.unanswered()
    session.link_ended()
    assert session.goes_on_after(4000)
    assert not session.goes_on_after(4000)


# Waits, and the retry budget.


def test_waits_grow_up_to_a_limit_and_end_with_the_budget() -> None:
    """And the error names the last failure."""
    session, _, clock = new_session()
    open_link(session)
    lose_link(session)
    lost_at, waits = clock.time(), []
    with pytest.raises(SessionLost, match="no link for 10 s: no answer"):
        while True:
            waits.append(session.next_wait("no answer"))
            clock.advance(waits[-1])
    assert waits[0] == 0.05
    assert max(waits) <= CAP
    assert clock.time() == pytest.approx(lost_at + 10.0)
    assert session.deadline == lost_at + 10.0


def _nothing(session: AwareSession, clock: FakeClock) -> None:
    clock.advance(0.1)


def _receives(session: AwareSession, clock: FakeClock) -> None:
    session.take(Opcode.TEXT, b"x")


def _is_confirmed(session: AwareSession, clock: FakeClock) -> None:
    assert session.link is not None
    session.push((Opcode.TEXT, b"x"))
    session.link.ask()
    session.link.on_pong((1).to_bytes(8, "big"))


def _lives(session: AwareSession, clock: FakeClock) -> None:
    clock.advance(LIVED_LONG)


def _owes(session: AwareSession, clock: FakeClock) -> None:
    session.push((Opcode.TEXT, b"x"))
    _receives(session, clock)
    _lives(session, clock)


def _owes_at_last(session: AwareSession, clock: FakeClock) -> None:
    _lives(session, clock)
    session.push((Opcode.TEXT, b"x"))


@pytest.mark.parametrize(
    ("what", "afresh"),
    [
        (_nothing, False),
        (_owes, False),
        (_receives, True),
        (_is_confirmed, True),
        (_lives, True),
        (_owes_at_last, True),
    ],
)
def test_only_a_link_that_has_made_progress_renews_the_budget(
    what: Callable[[AwareSession, FakeClock], None], afresh: bool
) -> None:
    """As for the proxy's upstream: a message that makes the proxy drop its links is not sent for ever."""
    session, _, clock = new_session()
    open_link(session)
    lose_link(session)
    before = session.deadline
    for _ in range(5):
        clock.advance(session.next_wait("refused"))
    open_link(session)
    what(session, clock)
    lose_link(session)
    assert (session.deadline > before) is afresh
    assert (session.next_wait("") == 0.05) is afresh
    session.end()
    assert clock.live == 0


def test_a_silent_peer_is_given_up() -> None:
    """The layer hears of it: the socket is dropped, and the session goes on over the next one."""
    session, layer, clock = new_session()
    leg = open_link(session)
    clock.advance(20.0)
    assert leg.pings == [0]
    clock.advance(20.0)
    assert leg.aborted
    assert layer.losses == [1006]
    lose_link(session)


# Exactly once, in order, over arbitrary cuts.

Frames = deque[tuple[str, bytes]]


class Peer:
    """A server that keeps one session, with the bookkeeping of the harness."""

    def __init__(self, clock: FakeClock) -> None:
        self.owed = UnconfirmedMessages(clock.time)
        self.received: list[bytes] = []
        # What it sends on the present link; None without one.
        self.out: Frames | None = None

    def admit(self, headers: dict[str, str], out: Frames) -> dict[str, str]:
        """Answer a handshake with the headers of a 101."""
        assert ID in (headers.get("X-Connection-Id"), headers.get("X-Reconnect-Id"))
        self.owed.resume(int(headers[COUNT]))
        self.out = out
        self.send()
        return {"X-Connection-Id": ID, COUNT: str(len(self.received))}

    def send(self) -> None:
        """Send what can be sent, and the Pings that are due."""
        if self.out is None:
            return
        for due in self.owed.due():
            assert not isinstance(due, str)
            self.out.append(("ping", due.to_bytes(8, "big")) if isinstance(due, int) else ("data", due))

    def take(self, kind: str, payload: bytes) -> None:
        """Take a frame of the present link."""
        assert self.out is not None
        if kind == "data":
            self.received.append(payload)
        elif kind == "ping":
            self.out.append(("pong", payload))
        else:
            self.owed.pong(int.from_bytes(payload, "big"))
            self.send()


class WireLeg(FakeLeg):
    """A leg that writes to the network."""

    def __init__(self, out: Frames) -> None:
        super().__init__()
        self.out = out

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write a message."""
        self.out.append(("data", payload))
        super().send(opcode, payload)

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping."""
        self.out.append(("ping", payload))


class CutMachine(RuleBasedStateMachine):
    """A client and a server talk over links that are cut at any place, also during a handshake.

    The client's library answers a Ping when it arrives, before the layer has taken the messages in front of it, as
    websockets does.
    """

    session_type = AwareSession

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.layer = Layer()
        self.session = self.session_type(self.layer, self.clock, POLICY, ID, draw=min)
        self.peer = Peer(self.clock)
        self.sent: list[bytes] = []
        self.pushed: list[bytes] = []
        # What is under way on the present link, and what has arrived at the client and was not taken.
        self.up: Frames = deque()
        self.down: Frames = deque()
        self.buffer: list[bytes] = []
        self.leg: WireLeg | None = None

    # The two programs.

    @rule(count=st.sampled_from([1, 1, 2, 5, 70]))
    def client_sends(self, count: int) -> None:
        """Messages, with a link or without."""
        for _ in range(count):
            self.sent.append(b"%d" % len(self.sent))
            self.session.push((Opcode.BINARY, self.sent[-1]))

    @rule(count=st.sampled_from([1, 1, 2, 5, 70]))
    def server_sends(self, count: int) -> None:
        """Messages, with a link or without."""
        for _ in range(count):
            self.pushed.append(b"%d" % len(self.pushed))
            self.peer.owed.add(self.pushed[-1])
        self.peer.send()

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.1, 0.3]))
    def time_passes(self, seconds: float) -> None:
        """Pings become due."""
        self.clock.advance(seconds)
        self.peer.send()

    @rule(writable=st.booleans())
    def socket_fills_or_empties(self, writable: bool) -> None:
        """Its buffer takes nothing for a while."""
        if self.leg is not None and self.leg.writable is not writable:
            self.leg.writable = writable
            if writable and self.session.link is not None:
                self.session.link.on_writable()

    # The network.

    @precondition(lambda self: self.leg is None)
    @rule(arrives=st.booleans(), answered=st.booleans())
    def dial(self, arrives: bool, answered: bool) -> None:
        """The handshake, or its answer, may get lost."""
        headers = self.session.request_headers()
        self.up, self.down = deque(), deque()
        if not arrives:
            self.session.unanswered()
            return
        answer = self.peer.admit(headers, self.down)
        if not answered:
            self.session.unanswered()
            self.peer.out = None
            return
        self.leg = WireLeg(self.up)
        self.session.attach(self.leg, self.session.answered(answer.get)).pump()

    @precondition(lambda self: self.leg is not None)
    @rule(up=st.integers(0, 90), down=st.integers(0, 90))
    def frames_arrive(self, up: int, down: int) -> None:
        """So many of those under way in each direction."""
        for _ in range(min(up, len(self.up))):
            self.peer.take(*self.up.popleft())
        for _ in range(min(down, len(self.down))):
            kind, payload = self.down.popleft()
            if kind == "data":
                self.buffer.append(payload)
            elif kind == "ping":
                self.up.append(("pong", payload))
            elif self.session.link is not None:
                self.session.link.on_pong(payload)

    @rule(count=st.integers(0, 90))
    def layer_takes(self, count: int) -> None:
        """What has arrived."""
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        for payload in taken:
            self.session.take(Opcode.BINARY, payload)

    @precondition(lambda self: self.leg is not None)
    @rule(up=st.integers(0, 90), down=st.integers(0, 90))
    def link_is_cut(self, up: int, down: int) -> None:
        """Some of what was under way arrives in front of the cut; Pongs to that get lost."""
        self.frames_arrive(up, down)
        assert self.session.link is not None
        self.session.link.die()
        self.layer_takes(len(self.buffer))
        self.session.link_ended()
        assert self.session.goes_on_after(1006)
        self.peer.out = self.leg = None

    # What must hold.

    @invariant()
    def each_side_has_a_beginning_of_what_the_other_has_sent(self) -> None:
        """Each message once, in order."""
        assert self.peer.received == self.sent[: len(self.peer.received)]
        assert self.taken == self.pushed[: len(self.taken)]
        assert self.session.received == len(self.taken)

    @invariant()
    def nothing_is_forgotten_that_may_be_missing(self) -> None:
        """What is confirmed has arrived."""
        assert self.session.outbox.confirmed <= len(self.peer.received)
        assert self.peer.owed.confirmed <= len(self.taken) + len(self.buffer)

    @property
    def taken(self) -> list[bytes]:
        """What the program has received."""
        return [payload for _, payload in self.layer.messages]

    def teardown(self) -> None:
        """Without further cuts all arrives, and all is confirmed."""
        if self.leg is not None:
            self.socket_fills_or_empties(True)
        else:
            self.dial(True, True)
        for _ in range(100):
            if not len(self.session.outbox) and not len(self.peer.owed) and not self.buffer:
                break
            self.frames_arrive(1000, 1000)
            self.layer_takes(1000)
            self.time_passes(0.1)
        assert self.peer.received == self.sent
        assert self.taken == self.pushed
        assert not len(self.session.outbox)
        assert not len(self.peer.owed)
        self.session.end()
        assert self.clock.live == 0


SETTINGS = settings(
    max_examples=examples(200), stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestCutMachine = CutMachine.TestCase
TestCutMachine.settings = SETTINGS


class _IgnoresWhatADeadLinkBrought(AwareSession):
    """Counts only what its link brings while it lives."""

    def take(self, opcode: int, payload: bytes) -> None:
        if self.link is None or not self.link.dead:
            super().take(opcode, payload)


class _BelievesNoCount(AwareSession):
    """Sends everything again that no Pong has confirmed."""

    def attach(self, leg: Leg, received: int | None) -> Link:
        return super().attach(leg, None)


class _ForgetsWhatWasSent(AwareSession):
    """Takes what was written for received."""

    def link_ended(self) -> None:
        self.outbox.confirm(self.outbox.furthest)
        super().link_ended()


@pytest.mark.parametrize("wrong", [_IgnoresWhatADeadLinkBrought, _BelievesNoCount, _ForgetsWhatWasSent])
def test_the_machine_finds_a_session_that_is_wrong(wrong: type[AwareSession]) -> None:
    """It fails with each of these mistakes."""
    machine = type("WrongMachine", (CutMachine,), {"session_type": wrong})
    # The first failure is enough: it is not made smaller.
    once = settings(SETTINGS, max_examples=300, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises((AssertionError, ImpossibleCount, SessionLost)):
        run_state_machine_as_test(machine, settings=once)
