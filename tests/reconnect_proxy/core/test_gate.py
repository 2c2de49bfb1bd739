"""Control messages and the gate, PROTOCOL.md section 5: what opens it, what waits, who is told."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import pytest

from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.policy import Gate, GateKind, Policy
from reconnect_proxy.core.upstream import UpstreamState
from reconnect_proxy.core.wire import Claim, is_id
from reconnect_proxy.events import DialFailed, LegLost, Redial

from .fakes import SESSION_ID, FakeLeg, Stage, pong, say, started

FIRST_MESSAGE = Policy(gate=Gate(GateKind.FIRST_MESSAGE))
PREFIX = Policy(gate=Gate(GateKind.PREFIX, b"RECONNECT"))


# The gate.


def test_an_open_gate_knows_no_control_messages() -> None:
    """The first message is data, whatever it looks like."""
    stage, client, _, _, link = started()
    say(link, "RECONNECT:" + SESSION_ID)
    assert client.payloads == [b"RECONNECT:" + SESSION_ID.encode()]
    assert stage.context.upstream.replay_info is None


def test_first_message_the_client_waits_until_the_gate_opens() -> None:
    """The first message opens it, is stored, and is neither delivered nor counted."""
    stage = Stage(FIRST_MESSAGE)
    stage.open()
    upstream, link = stage.connect()
    assert stage.openings == []
    assert stage.context.upstream.state is UpstreamState.GATED
    say(link, "state")
    assert len(stage.openings) == 1
    assert stage.openings[0].refusal is None
    client, client_link = stage.client()
    say(link, "data")
    say(client_link, "question")
    assert (client.payloads, upstream.payloads) == ([b"data"], [b"question"])
    assert stage.context.upstream.replay_info == (Opcode.TEXT, b"state")
    assert stage.context.u2c.received == 1


def test_first_message_a_redial_sends_the_stored_data_first_then_waits_then_sends_what_queued() -> None:
    """The new first message is control again, and replaces what was stored."""
    stage = Stage(FIRST_MESSAGE)
    stage.open()
    _, link = stage.connect()
    say(link, b"state 1")
    client, client_link = stage.client()
    link.on_lost(1006, "")
    say(client_link, "waiting")
    second, link = stage.reconnect()
    say(client_link, "still waiting")
    assert second.sent == [(Opcode.BINARY, b"state 1")]
    say(link, b"state 2")
    assert second.payloads == [b"state 1", b"waiting", b"still waiting"]
    assert client.sent == []
    link.on_lost(1006, "")
    third, _ = stage.reconnect()
    assert third.payloads == [b"state 2"]


def test_first_message_the_gate_must_open_within_the_connect_timeout() -> None:
    """Else the dial has failed: the link is closed, and the next dial follows."""
    stage = Stage(replace(FIRST_MESSAGE, connect_timeout=5.0))
    stage.open()
    _, link = stage.connect()
    say(link, "state")
    link.on_lost(1006, "")
    while not stage.dialler.under_way:
        stage.clock.advance(0.01)
    gated, gated_link = stage.connect()
    stage.clock.advance(4.9)
    assert not gated_link.dead
    stage.clock.advance(0.2)
    assert gated.closed is not None
    assert gated_link.dead
    assert len(stage.seen(DialFailed)) == 1
    stage.clock.advance(3.0)
    assert len(stage.dialler.dials) == 3


def test_first_message_a_link_lost_at_its_gate_is_a_failed_dial() -> None:
    """The backoff grows, and the budget runs on."""
    stage = Stage(FIRST_MESSAGE)
    stage.open()
    _, link = stage.connect()
    say(link, "state")
    link.on_lost(1006, "")
    _, link = stage.reconnect()
    link.on_lost(1011, "")
    assert len(stage.seen(DialFailed)) == 1
    assert [event.attempt for event in stage.events if isinstance(event, Redial)] == [1, 2]


def test_first_message_a_final_close_at_the_gate_of_the_first_dial_is_answered_502() -> None:
    """Nobody was accepted yet, so it is an HTTP answer and no close code, and no session has opened or ended."""
    stage = Stage(FIRST_MESSAGE)
    stage.open()
    _, link = stage.connect()
    link.on_lost(4001, "go away")
    [opening] = stage.openings
    assert opening.refusal is not None
    assert opening.refusal.status is HTTPStatus.BAD_GATEWAY
    assert {type(event) for event in stage.events} <= {LegLost, DialFailed}
    assert (stage.ended, stage.clock.live) == (1, 0)


@pytest.mark.parametrize(
    ("first", "expected"),
    [(SESSION_ID, SESSION_ID), (f"RECONNECT:{SESSION_ID}", SESSION_ID), (f"a#{SESSION_ID}", SESSION_ID)],
)
def test_first_message_brings_the_id_of_a_session_that_has_none(first: str, expected: str) -> None:
    """The message itself, or the part behind its first mark."""
    stage = Stage(FIRST_MESSAGE, session_id=None)
    stage.open()
    assert stage.dialler.dials[0].session_id is None
    _, link = stage.connect()
    say(link, first)
    assert stage.context.session_id == expected


def test_first_message_without_an_id_leaves_it_to_the_proxy_to_make_one() -> None:
    """A session always has an id once a client is accepted."""
    stage = Stage(FIRST_MESSAGE, session_id=None)
    stage.open()
    _, link = stage.connect()
    say(link, "hello")
    assert stage.context.session_id is not None
    assert is_id(stage.context.session_id)


def test_first_message_does_not_rename_a_session_that_has_an_id() -> None:
    """The client chose it."""
    stage = Stage(FIRST_MESSAGE)
    stage.open()
    _, link = stage.connect()
    say(link, "z" * 20)
    assert stage.context.session_id == SESSION_ID


def test_first_message_a_gated_link_is_read_even_while_the_client_takes_nothing() -> None:
    """Its gate opens with a message; backpressure begins behind it."""
    stage = Stage(replace(FIRST_MESSAGE, max_queue=1000))
    stage.open()
    _, link = stage.connect()
    say(link, "state")
    client, client_link = stage.client(leg=FakeLeg(writable=False))
    say(link, bytes(2000))
    link.on_lost(1006, "")
    upstream, link = stage.reconnect()
    client_link.on_heard()
    client_link.on_writable()
    assert not upstream.paused
    say(link, "state")
    assert upstream.paused
    assert client.sent == []


def test_prefix_messages_with_it_are_control_at_any_time() -> None:
    """Stored, neither delivered nor counted; all others are data, and the gate opens with the handshake."""
    stage = Stage(PREFIX)
    stage.open()
    _, link = stage.connect()
    assert len(stage.openings) == 1
    client, _ = stage.client()
    say(link, "one", "RECONNECT:1", "two", "xRECONNECT", "RECONNECT:2")
    assert client.payloads == [b"one", b"two", b"xRECONNECT"]
    assert stage.context.u2c.received == 3
    link.on_lost(1006, "")
    upstream, _ = stage.reconnect()
    assert upstream.payloads == [b"RECONNECT:2"]


@pytest.mark.parametrize("claim", [Claim(replay=True), Claim(reconnect_id=SESSION_ID)])
def test_control_messages_are_pushed_to_a_client_that_understands_them(claim: Claim) -> None:
    """The one that is stored when it attaches, and each that follows; none of them is counted."""
    stage = Stage(PREFIX)
    stage.open()
    _, link = stage.connect()
    say(link, "RECONNECT:1")
    client, client_link = stage.client(claim=claim)
    say(link, "RECONNECT:2", "data")
    assert client.payloads == [b"RECONNECT:1", b"RECONNECT:2", b"data"]
    stage.clock.advance(0.2)
    assert client.pings == [1]
    pong(client_link, 1)
    assert len(stage.context.u2c.outbox) == 0


def test_control_messages_are_not_pushed_to_any_other_client() -> None:
    """It would take them for data."""
    stage = Stage(PREFIX)
    stage.open()
    _, link = stage.connect()
    say(link, "RECONNECT:1")
    client, _ = stage.client(claim=Claim(connection_id=SESSION_ID))
    say(link, "RECONNECT:2")
    assert client.sent == []
