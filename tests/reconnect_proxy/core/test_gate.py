"""Control messages and the gate, PROTOCOL.md section 5: what opens it, what waits, who is told."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import pytest

from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.policy import Gate, GateKind, Policy
from reconnect_proxy.core.upstream_state import UpstreamState
from reconnect_proxy.core.wire import Claim, is_id
from reconnect_proxy.events import DialFailed, LegLost, Redial

from .fakes import SESSION_ID, FakeLeg, SessionRig, pong, say, started

FIRST_MESSAGE = Policy(gate=Gate(GateKind.FIRST_MESSAGE))
PREFIX = Policy(gate=Gate(GateKind.PREFIX, b"RECONNECT"))


# The gate.


def test_an_open_gate_knows_no_control_messages() -> None:
    """The first message is data, even if it looks like an id."""
    rig, client, _, _, link = started()
    say(link, "RECONNECT:" + SESSION_ID)
    assert client.payloads == [b"RECONNECT:" + SESSION_ID.encode()]
    assert rig.context.upstream.replay_info is None


def test_first_message_the_client_waits_until_the_gate_opens() -> None:
    """The first message opens it, is stored, and is neither delivered nor counted."""
    rig = SessionRig(FIRST_MESSAGE)
    rig.open()
    upstream, link = rig.connect()
    assert rig.openings == []
    assert rig.context.upstream.state is UpstreamState.GATED
    say(link, "state")
    assert len(rig.openings) == 1
    assert rig.openings[0].refusal is None
    client, client_link = rig.client()
    say(link, "data")
    say(client_link, "question")
    assert (client.payloads, upstream.payloads) == ([b"data"], [b"question"])
    assert rig.context.upstream.replay_info == (Opcode.TEXT, b"state")
    assert rig.context.u2c.received == 1


def test_first_message_a_redial_sends_the_stored_data_first_then_waits_then_sends_what_queued() -> None:
    """The new first message is control again, and replaces what was stored."""
    rig = SessionRig(FIRST_MESSAGE)
    rig.open()
    _, link = rig.connect()
    say(link, b"state 1")
    client, client_link = rig.client()
    link.on_lost(1006, "")
    say(client_link, "waiting")
    second, link = rig.reconnect()
    say(client_link, "still waiting")
    assert second.sent == [(Opcode.BINARY, b"state 1")]
    say(link, b"state 2")
    assert second.payloads == [b"state 1", b"waiting", b"still waiting"]
    assert client.sent == []
    link.on_lost(1006, "")
    third, _ = rig.reconnect()
    assert third.payloads == [b"state 2"]


def test_first_message_the_gate_must_open_within_the_connect_timeout() -> None:
    """Else the dial has failed: the link is closed, and the next dial follows."""
    rig = SessionRig(replace(FIRST_MESSAGE, connect_timeout=5.0))
    rig.open()
    _, link = rig.connect()
    say(link, "state")
    link.on_lost(1006, "")
    while not rig.dialler.under_way:
        rig.clock.advance(0.01)
    gated, gated_link = rig.connect()
    rig.clock.advance(4.9)
    assert not gated_link.dead
    rig.clock.advance(0.2)
    assert gated.closed is not None
    assert gated_link.dead
    assert len(rig.seen(DialFailed)) == 1
    rig.clock.advance(3.0)
    assert len(rig.dialler.dials) == 3


def test_first_message_a_link_lost_at_its_gate_is_a_failed_dial() -> None:
    """The backoff grows, and the budget runs on."""
    rig = SessionRig(FIRST_MESSAGE)
    rig.open()
    _, link = rig.connect()
    say(link, "state")
    link.on_lost(1006, "")
    _, link = rig.reconnect()
    link.on_lost(1011, "")
    assert len(rig.seen(DialFailed)) == 1
    assert [event.attempt for event in rig.events if isinstance(event, Redial)] == [1, 2]


def test_first_message_a_final_close_at_the_gate_of_the_first_dial_is_answered_502() -> None:
    """No client was accepted yet, so it is an HTTP answer and no close code, and no session has opened or ended."""
    rig = SessionRig(FIRST_MESSAGE)
    rig.open()
    _, link = rig.connect()
    link.on_lost(4001, "go away")
    [opening] = rig.openings
    assert opening.refusal is not None
    assert opening.refusal.status is HTTPStatus.BAD_GATEWAY
    assert {type(event) for event in rig.events} <= {LegLost, DialFailed}
    assert (rig.ended, rig.clock.live) == (1, 0)


@pytest.mark.parametrize(
    ("first", "expected"),
    [(SESSION_ID, SESSION_ID), (f"RECONNECT:{SESSION_ID}", SESSION_ID), (f"a#{SESSION_ID}", SESSION_ID)],
)
def test_first_message_brings_the_id_of_a_session_that_has_none(first: str, expected: str) -> None:
    """The message itself, or the part behind its first mark."""
    rig = SessionRig(FIRST_MESSAGE, session_id=None)
    rig.open()
    assert rig.dialler.dials[0].session_id is None
    _, link = rig.connect()
    say(link, first)
    assert rig.context.session_id == expected


def test_first_message_without_an_id_leaves_it_to_the_proxy_to_make_one() -> None:
    """A session always has an id once a client is accepted."""
    rig = SessionRig(FIRST_MESSAGE, session_id=None)
    rig.open()
    _, link = rig.connect()
    say(link, "hello")
    assert rig.context.session_id is not None
    assert is_id(rig.context.session_id)


def test_first_message_does_not_rename_a_session_that_has_an_id() -> None:
    """The client chose it."""
    rig = SessionRig(FIRST_MESSAGE)
    rig.open()
    _, link = rig.connect()
    say(link, "z" * 20)
    assert rig.context.session_id == SESSION_ID


def test_first_message_a_gated_link_is_read_even_while_the_client_takes_nothing() -> None:
    """Its gate opens with a message; backpressure begins behind it."""
    rig = SessionRig(replace(FIRST_MESSAGE, max_queue=1000))
    rig.open()
    _, link = rig.connect()
    say(link, "state")
    client, client_link = rig.client(leg=FakeLeg(writable=False))
    say(link, bytes(2000))
    link.on_lost(1006, "")
    upstream, link = rig.reconnect()
    client_link.on_heard()
    client_link.on_writable()
    assert not upstream.paused
    say(link, "state")
    assert upstream.paused
    assert client.sent == []


def test_prefix_messages_with_it_are_control_at_any_time() -> None:
    """Stored, neither delivered nor counted; all others are data, and the gate opens with the handshake."""
    rig = SessionRig(PREFIX)
    rig.open()
    _, link = rig.connect()
    assert len(rig.openings) == 1
    client, _ = rig.client()
    say(link, "one", "RECONNECT:1", "two", "xRECONNECT", "RECONNECT:2")
    assert client.payloads == [b"one", b"two", b"xRECONNECT"]
    assert rig.context.u2c.received == 3
    link.on_lost(1006, "")
    upstream, _ = rig.reconnect()
    assert upstream.payloads == [b"RECONNECT:2"]


@pytest.mark.parametrize("claim", [Claim(replay=True), Claim(reconnect_id=SESSION_ID)])
def test_control_messages_are_pushed_to_a_client_that_understands_them(claim: Claim) -> None:
    """The one that is stored when it attaches, and each that follows; none of them is counted."""
    rig = SessionRig(PREFIX)
    rig.open()
    _, link = rig.connect()
    say(link, "RECONNECT:1")
    client, client_link = rig.client(claim=claim)
    say(link, "RECONNECT:2", "data")
    assert client.payloads == [b"RECONNECT:1", b"RECONNECT:2", b"data"]
    rig.clock.advance(0.2)
    assert client.pings == [1]
    pong(client_link, 1)
    assert len(rig.context.u2c.outbox) == 0


def test_control_messages_are_not_pushed_to_any_other_client() -> None:
    """It would take them for data."""
    rig = SessionRig(PREFIX)
    rig.open()
    _, link = rig.connect()
    say(link, "RECONNECT:1")
    client, _ = rig.client(claim=Claim(connection_id=SESSION_ID))
    say(link, "RECONNECT:2")
    assert client.sent == []
